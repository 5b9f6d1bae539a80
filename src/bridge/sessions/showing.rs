//! How callers see the session, and what is logged and counted of it.

use whatsapp_operator::bridge_api::{Session, SessionPhase, SessionReason};

use super::{clock::for_people, session::Actor};

impl Actor {
    /// Tells everybody how the session is now.
    pub(super) fn show(&self) {
        if !self.state.is_transient() && !self.state.is_gone() {
            self.shared.feed.sessions.show(self.view());
        }
    }

    /// The session as callers see it.
    pub(super) fn view(&self) -> Session {
        let mut view = for_people(self.state.view());
        if view.phase == SessionPhase::Connected && self.client.as_ref().is_some_and(|(_, client)| client.is_stopped())
        {
            // The state hears of its end later: other inputs wait before that.
            (view.phase, view.reason) = (SessionPhase::Reconnecting.into(), Some(SessionReason::ConnectionLost.into()));
            view.connected_at = None;
        }
        if view.phase == SessionPhase::Connected && self.outbox.is_unacknowledged() {
            view.reason = Some(SessionReason::MessagesNotAcknowledged.into());
        }
        view
    }

    pub(super) fn log_change(&self, was: (SessionPhase, Option<SessionReason>)) {
        let (phase, reason) = (self.state.phase(), self.state.reason());
        if (phase, reason) == was {
            return;
        }
        let said = reason.map(SessionReason::as_str);
        tracing::info!(session = self.state.id(), ?phase, reason = said, "session changed");
        if phase == was.0 {
            return;
        }
        match (was.0, phase) {
            (SessionPhase::Linking, SessionPhase::Connected) => self.shared.metrics.paired(),
            (SessionPhase::Connected, SessionPhase::Reconnecting) => self.shared.metrics.reconnecting(),
            (_, SessionPhase::PairingExpired) => self.shared.metrics.window_passed(),
            _ => {}
        }
    }
}
