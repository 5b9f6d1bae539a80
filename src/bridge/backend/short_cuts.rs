//! What the library keeps of a server so as to be let in faster by it the next time: its key, for the handshake of one step instead of
//! two (Noise IK), and the route to the machine that the session was with.
//!
//! whatsapp-rust 0.7.0 takes these short cuts until they lead to an answer that it can read as "the key is an old one" (handshake.rs).
//! A server that hangs up on them or says nothing, and one that answers as if they were the long way, would never be logged in at
//! again; other clients (whatsmeow, Baileys) take the long way each time. So after a connection that did not lead to a login, the next
//! one goes the long way, and finds the short cuts anew.

use std::time::Duration;

use whatsapp_rust::Client;

use super::transport::ConnectionRecorder;

/// How long forgetting them may take. It writes a small row; a disk that needs longer has it done after the next connection.
const WITHIN: Duration = Duration::from_secs(5);

/// Has the next connection go the long way, where this one was opened and has not led to a login.
pub async fn forget_if_in_vain(client: &Client, recorder: &ConnectionRecorder) {
    let device = client.persistence_manager().get_device_snapshot();
    let takes_some = device.server_cert_chain.is_some() || device.edge_routing_info.is_some();
    if takes_some && recorder.was_in_vain() && tokio::time::timeout(WITHIN, forget(client)).await.is_err() {
        tracing::debug!("the short cuts to WhatsApp's server are not forgotten yet");
    }
}

async fn forget(client: &Client) {
    let keys = client.persistence_manager();
    keys.modify_device(|device| (device.server_cert_chain, device.edge_routing_info) = (None, None)).await;
    // Where this fails, the next connection fails too, and it is tried again.
    let _ = keys.flush().await;
}
