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

    /// The connection breaks, and then the client begins anew over its keys: each time it is connected again.
    pub async fn it_comes_back(&self, client: &mut StockClient) {
        self.phone("drop", json!({})).await;
        client.wait("disconnected").await;
        client.wait("connected").await;
        client.tell("reconnect").await;
        client.wait("connected").await;
    }

    /// Alice's phone links a client whose code is typed there.
    pub async fn it_links_by_typed_code(&self, mut client: StockClient) {
        client.tell("connect").await;
        client.wait("qr").await;
        client.tell(&format!("pair-code {ALICE}")).await;
        let code = client.wait("pairCode").await["code"].clone();
        let body = json!({ "code": code, "phone": ALICE, "pushName": "Alice" });
        assert_eq!(self.call("/v1/pair-code", Some(body)).await.unwrap()["jid"], "15550001:1@s.whatsapp.net");
        client.wait("connected").await;
    }

    /// Alice's phone links a client to an account that a business shares with Meta's Cloud API.
    pub async fn it_links_a_coexistence_account(&self, mut client: StockClient) {
        client.tell("connect").await;
        let code = client.wait("qr").await["code"].clone();
        let body = json!({ "qr": code, "phone": ALICE, "fault": "hosted" });
        self.call("/v1/scan", Some(body)).await.unwrap();
        client.wait("connected").await;
    }

    /// A client that is linked understands the answers to what it asks.
    pub async fn it_understands_what_it_asks_for(&self, mut client: StockClient) {
        for (number, known) in [(ALICE, true), ("+15559999", false)] {
            client.tell(&format!("ask {number}")).await;
            let asked = client.wait("asked").await;
            assert_eq!((&asked["groups"], &asked["picture"]), (&json!(0), &json!(false)));
            assert_eq!(asked["onWhatsApp"], known, "{asked}");
        }
    }

    /// Two messages of Bob's arrive, one by each of his addresses.
    pub async fn it_hears_both_addresses(&self, client: &mut StockClient) {
        for (address, server) in [("pn", "s.whatsapp.net"), ("lid", "lid")] {
            self.write(json!({"from": "+15550002", "text": address, "name": "Bob", "address": address})).await;
            let message = client.wait("message").await;
            assert_eq!((&message["text"], &message["name"]), (&json!(address), &json!("Bob")));
            assert!(message["from"].as_str().unwrap().ends_with(server), "{message}");
        }
    }

    /// Bob's phone has got the messages "one", and "two" after it asked for that once more.
    pub async fn one_and_two_arrived(&self) {
        let arrived = self.inbox("15550002", 2).await;
        let lines: Vec<_> = arrived.iter().map(|one| (&one["text"], &one["count"], &one["retries"])).collect();
        assert_eq!(lines, [(&json!("one"), &json!(1), &json!(0)), (&json!("two"), &json!(1), &json!(1))]);
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
