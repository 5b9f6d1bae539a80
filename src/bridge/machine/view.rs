//! What the API shows of a session.

use whatsapp_operator::bridge_api::{PairingCode, PairingMethod, Qr, Session, SessionPhase, SessionReason};

use super::{
    Generation,
    stage::{Client, Permit, Stage},
    state::State,
};

/// WhatsApp gives references for six codes per window: one for 60 s and five for 20 s.
const CODES_PER_WINDOW: u32 = 6;

impl State {
    /// Where it stands.
    pub fn phase(&self) -> SessionPhase {
        use SessionPhase as P;
        if self.is_deleting() {
            return P::Deleting;
        }
        match self.stage {
            Stage::Stopped => P::Stopped,
            Stage::Turn { .. } => P::Queued,
            // A permit that is asked for and not given at once has to be waited for.
            Stage::Permit if self.permit == Permit::Requested => P::Queued,
            Stage::Permit | Stage::Opening { .. } | Stage::OpeningLater { .. } => P::Opening,
            Stage::Awaiting { .. } => P::AwaitingPairing,
            Stage::Linking { .. } => P::Linking,
            Stage::Passkey { .. } => P::AwaitingPasskey,
            Stage::Expired { .. } => P::PairingExpired,
            Stage::Connecting { .. } | Stage::Later { .. } if self.was_connected => P::Reconnecting,
            Stage::Connecting { .. } | Stage::Later { .. } => P::Connecting,
            Stage::Connected => P::Connected,
            Stage::Ended { .. } => P::Ended,
            Stage::Banned { .. } => P::Banned,
            Stage::LoggedOut => P::LoggedOut,
            Stage::Unlinking { .. } | Stage::UnlinkLater { .. } => P::Unlinking,
            Stage::Erasing { .. } | Stage::Gone => P::Deleting,
        }
    }

    /// Why it is not connected, when there is something to say beyond the phase.
    pub fn reason(&self) -> Option<SessionReason> {
        self.reason
    }

    /// The client that is logged in.
    pub fn logged_in(&self) -> Option<Generation> {
        match (self.stage, self.client) {
            (Stage::Connected, Client::Live(client)) => Some(client),
            _ => None,
        }
    }

    /// The session as callers see it.
    pub fn view(&self) -> Session {
        let shown = |method| self.shown.as_ref().filter(|shown| shown.method == method);
        Session {
            id: self.id.as_ref().to_owned(),
            spec: self.kept.spec.clone(),
            phase: self.phase().into(),
            reason: self.reason.map(Into::into),
            phase_since: self.since,
            paired: self.kept.paired,
            phone_number: self.kept.phone_number.clone(),
            push_name: self.kept.push_name.clone(),
            connected_at: self.connected_at,
            last_active_at: self.last_active_at,
            qr: shown(PairingMethod::Qr).map(|shown| Qr {
                code: shown.code.clone(),
                expires_at: shown.expires_at,
                attempt: shown.attempt,
                attempts: shown.of.unwrap_or(CODES_PER_WINDOW).max(shown.attempt),
            }),
            pairing_code: shown(PairingMethod::Code)
                .map(|shown| PairingCode { code: shown.code.clone(), expires_at: shown.expires_at }),
            restriction: self.kept.restriction.clone(),
            last_disconnect: self.kept.last_disconnect.clone(),
        }
    }
}
