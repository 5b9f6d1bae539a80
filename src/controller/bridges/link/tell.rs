//! What a link learns: kept in its table of sessions, and passed on to whom it concerns.

use super::Link;
use crate::{
    controller::{bridges::sessions::Moment, decide::facts::LinkState},
    drivers::{self, Snapshot, Update},
    platform::lock,
};

impl Link {
    pub(super) fn replace(&self, snapshot: Snapshot) {
        let (changed, freed) = {
            let sessions = &mut lock(&self.shared).sessions;
            let before = sessions.len();
            (sessions.replace(snapshot, Moment::now()), sessions.len() < before)
        };
        for id in changed {
            self.wake(&id);
        }
        if freed {
            self.wake_waiting();
        }
        self.listeners.bridges.notify_one();
    }

    pub(super) fn apply(&self, update: Update) {
        let gone = matches!(update, Update::Gone(_));
        let (id, counts_changed) = {
            let mut shared = lock(&self.shared);
            shared.heard |= update != Update::Missed;
            let sessions = &mut shared.sessions;
            match update {
                Update::Session(session) => (session.id.clone(), sessions.insert(*session, Moment::now())),
                Update::Unreadable(id) => (id.clone(), sessions.insert_unreadable(id, Moment::now())),
                Update::Gone(id) => (id.clone(), sessions.remove(&id)),
                Update::Missed => return,
            }
        };
        let claimed = self.wake(&id);
        // One that was an instance's makes room when that is gone.
        if gone && counts_changed && !claimed {
            self.wake_waiting();
        }
        if counts_changed {
            self.listeners.bridges.notify_one();
        }
    }

    /// Has the instance looked at whose session it is; whether there is one.
    fn wake(&self, session_id: &str) -> bool {
        let claimant = self.listeners.instances.claimant(drivers::instance_uid(session_id), &self.shard);
        claimant.is_some_and(|instance| {
            // The queue ends only when the controller does.
            let _ = self.listeners.queue.send(instance);
            true
        })
    }

    /// There is room: instances without a shard may wait for it.
    fn wake_waiting(&self) {
        for instance in self.listeners.instances.select(|_, bound| bound.is_none()) {
            // As above.
            let _ = self.listeners.queue.send(instance);
        }
    }

    pub(super) fn set_state(&self, state: &LinkState) {
        {
            let mut shared = lock(&self.shared);
            if shared.state == *state {
                return;
            }
            shared.state = state.clone();
        }
        match state {
            LinkState::Up => tracing::info!(bridge = self.shard.name, shard = self.shard.shard, "shard is up"),
            LinkState::Unknown => {
                tracing::info!(bridge = self.shard.name, shard = self.shard.shard, "lost the shard, trying again");
            }
            LinkState::Down(fault) => tracing::warn!(
                bridge = self.shard.name,
                shard = self.shard.shard,
                reason = fault.reason,
                fault = fault.message,
                "shard is down"
            ),
        }
        self.listeners.bridges.notify_one();
        // An instance that is not bound may have waited to learn whether this shard has its session.
        for instance in self.listeners.instances.select(|_, bound| bound.is_none_or(|bound| *bound == self.shard)) {
            let _ = self.listeners.queue.send(instance);
        }
    }
}
