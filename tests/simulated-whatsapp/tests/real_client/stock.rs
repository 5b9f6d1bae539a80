//! Clients that nobody here wrote, linked to phones of the simulation.

#[path = "../../../support/stock_client.rs"]
mod stock_client;

use crate::{ALICE, Scene};
use serde_json::{Value, json};
pub use stock_client::StockClient;

impl Scene {
    pub fn whatsmeow(&self) -> StockClient {
        self.whatsmeow_that_trusts(&self.server.announcement.root_public_key)
    }

    pub fn whatsmeow_that_trusts(&self, root: &str) -> StockClient {
        StockClient::whatsmeow(self.url(), root)
    }

    pub fn baileys(&self) -> StockClient {
        StockClient::baileys(self.url())
    }

    /// Links a client to a phone by QR code and waits until it is connected. Returns its address.
    pub async fn link(&self, client: &mut StockClient, phone: &str, name: &str) -> Value {
        client.tell("connect").await;
        let code = client.wait("qr").await["code"].clone();
        let body = json!({ "qr": code, "phone": phone, "pushName": name });
        let linked = self.call("/v1/scan", Some(body)).await.unwrap()["jid"].clone();
        assert_eq!(client.wait("paired").await["jid"], linked);
        client.wait("connected").await;
        linked
    }

    /// A whatsmeow that is linked to Alice's phone.
    pub async fn linked_whatsmeow(&self) -> StockClient {
        let mut client = self.whatsmeow();
        assert_eq!(self.link(&mut client, ALICE, "Alice").await, "15550001:1@s.whatsapp.net");
        client
    }

    /// A Baileys that is linked to Alice's phone.
    pub async fn linked_baileys(&self) -> StockClient {
        let mut client = self.baileys();
        assert_eq!(self.link(&mut client, ALICE, "Alice").await, "15550001:1@s.whatsapp.net");
        client
    }
}
