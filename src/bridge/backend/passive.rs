//! Leaving the passive mode. A device that has logged in is passive: nothing is delivered to it, neither messages nor receipts nor what others
//! ask for again, until it has asked to be active. whatsapp-rust 0.7.0 asks once, warns where that is refused, and calls itself connected
//! a minute later (client/node_io.rs), as whatsmeow and Baileys do at once: a session that would hear nothing for as long as it is connected.

use std::time::Duration;

use whatsapp_rust::Client;

use super::{stanzas::Stanzas, transport::ConnectionRecorder};

/// Before it is asked again, each time. A server that is being replaced has an answer within seconds; another connection has to wait longer.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Asks again where the server refuses something and delivers nothing. Returns when it goes on like that.
pub async fn leave(stanzas: &Stanzas, client: &Client, recorder: &ConnectionRecorder) {
    loop {
        stanzas.refused().await;
        if !is_left(stanzas, client, recorder).await {
            return;
        }
    }
}

/// Whether the device is active, or will be, or the connection is another one.
async fn is_left(stanzas: &Stanzas, client: &Client, recorder: &ConnectionRecorder) -> bool {
    let connection = recorder.connection();
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        // It may have been something else that was refused.
        if stanzas.delivers() || recorder.connection() != connection {
            return true;
        }
        if client.set_passive(false).await.is_ok() {
            return true;
        }
    }
    recorder.connection() != connection
}
