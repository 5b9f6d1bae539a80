//! Changes of messages are written, or owed to the store.

use tokio::time::Instant;

use super::{
    noting::{Noting, Unnoted},
    owed::{Owed, Then, Unstored},
    session::Actor,
    storing::STORE_RETRY,
};
use crate::{
    outbox::Event,
    store::{Change, StoreError},
};

impl Actor {
    /// Writes changes of messages: now, or behind what the store has failed to write before. What follows from them is done once they are
    /// on the disk.
    pub(super) async fn write(&mut self, changes: Vec<Change>, then: Then) {
        if changes.is_empty() && matches!(then, Then::GoOn) {
            return;
        }
        if matches!(then, Then::GoOn) {
            // One note at a time, and it may fail.
            self.noted().await;
        }
        if let Some(error) = self.failing() {
            let effects = if let Then::CarryOut(effects) = then { effects } else { Vec::new() };
            return self.owe(Owed::of(changes, effects), error);
        }
        match then {
            // What is written later is written after them.
            Then::GoOn => {
                let written = tokio::spawn(self.shared.store.begin(changes.clone()).await);
                self.noting = Some(Noting { changes, written });
            }
            Then::CarryOut(effects) => {
                if !changes.is_empty()
                    && let Err(error) = self.shared.store.apply(changes.clone()).await
                {
                    // Earlier changes must be written first, so wait for the note that is under way.
                    self.noted().await;
                    return self.owe(Owed::of(changes, effects), error);
                }
                self.carry_out_messages(effects).await;
            }
        }
    }

    /// Waits until what was noted is on the disk, or is owed.
    pub(super) async fn noted(&mut self) {
        if self.noting.is_some()
            && let Err(unnoted) = Noting::end(&mut self.noting).await
        {
            self.owe_unnoted(unnoted);
        }
    }

    pub(super) fn owe_unnoted(&mut self, Unnoted { changes, error }: Unnoted) {
        self.owe(Owed::of(changes, Vec::new()), error);
    }

    /// The store would not take these changes of messages: it gets them later.
    pub(super) fn owe(&mut self, owed: Owed, error: StoreError) {
        if owed.changes.is_empty() && owed.effects.is_empty() && owed.undecided.is_empty() {
            return;
        }
        tracing::error!(session = self.state.id(), %error, "what became of messages cannot be stored; trying again");
        match &mut self.unstored {
            // Two in a row, when an answer to a request failed as well.
            Some(unstored) => {
                unstored.messages.changes.extend(owed.changes);
                unstored.messages.effects.extend(owed.effects);
                unstored.messages.undecided.extend(owed.undecided);
            }
            none => {
                let again = Instant::now() + STORE_RETRY;
                *none = Some(Box::new(Unstored { event: None, messages: owed, error, wait: STORE_RETRY, again }));
            }
        }
    }

    /// Makes the changes that are owed, finds out which messages the store has taken, and does what follows.
    pub(super) async fn settle_owed(&mut self, owed: Owed) {
        if owed.undecided.is_empty() {
            return self.write(owed.changes, Then::CarryOut(owed.effects)).await;
        }
        let asked = if owed.changes.is_empty() { vec![Change::Nothing] } else { owed.changes.clone() };
        // Once this is made, whatever the store was asked for before is made or is not.
        if let Err(error) = self.shared.store.apply(asked).await {
            return self.owe(owed, error);
        }
        let Owed { mut effects, undecided, .. } = owed;
        let mut undecided = undecided.into_iter();
        while let Some(one) = undecided.next() {
            match self.shared.store.reader.message_at(self.state.id(), one.sequence).await {
                Err(error) if !error.is_unreadable() => {
                    let undecided = std::iter::once(one).chain(undecided).collect();
                    return self.owe(Owed { changes: Vec::new(), effects, undecided }, error);
                }
                Ok(None) => {
                    self.outbox.withdraw(one.sequence);
                    effects.retain(|effect| !effect.sends(one.sequence));
                }
                Ok(Some(_)) | Err(_) => one.slot.keep(),
            }
        }
        self.carry_out_messages(effects).await;
        // What was not taken may have stood before what waits.
        self.message_event(Event::Tick).await;
    }
}
