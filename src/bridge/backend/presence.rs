//! Whether the account is shown as online because of this session.
//!
//! WhatsApp stops notifying a phone while a linked device says that it is available. whatsapp-rust 0.7.0 says so by itself: at
//! every login (client/node_io.rs), with the first push name (client/app_state.rs) and after a rename
//! (client/accessors.rs). The last of these it says from a task of its own, some time after the event that tells us. There
//! is no option that keeps it from that, so what is wanted is said after it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use whatsapp_rust::Client;

/// When what is wanted is said after the library may have said something else: at once, and again when its own tasks have
/// run, also on a busy machine; within the second in which a phone is to be silent no longer.
const AGAIN: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(500)];

/// What is wanted. Clones share it.
#[derive(Clone)]
pub struct Presence(Arc<AtomicBool>);

impl Presence {
    /// Shown as online, or not.
    pub fn new(online: bool) -> Self {
        Self(Arc::new(AtomicBool::new(online)))
    }

    /// Changes what is wanted, and says it.
    pub fn change(&self, online: bool, client: &Arc<Client>) {
        self.0.store(online, Ordering::Relaxed);
        self.announce(client);
    }

    /// Says what is wanted to WhatsApp. Without a connection or a push name it
    /// cannot be said; the next login says it.
    pub fn announce(&self, client: &Arc<Client>) {
        let (wanted, client) = (Arc::clone(&self.0), Arc::downgrade(client));
        tokio::spawn(async move {
            for pause in AGAIN {
                tokio::time::sleep(pause).await;
                let Some(client) = client.upgrade() else { return };
                let presence = client.presence();
                // An error says that the connection is gone.
                let _ = if wanted.load(Ordering::Relaxed) {
                    presence.set_available().await
                } else {
                    presence.set_unavailable().await
                };
            }
        });
    }
}
