//! A stock whatsmeow process (tests/whatsmeow-client) that sends to the same simulated WhatsApp and keeps nothing on a disk.

use std::time::{Duration, Instant};

use crate::support::{phone::WhatsApp, stock_client::StockClient};

/// How long each of so many messages took until the server had acknowledged it, one after the other.
pub async fn sends(whatsapp: &WhatsApp, count: usize) -> Vec<Duration> {
    let mut client = StockClient::whatsmeow(&whatsapp.url, whatsapp.root());
    client.tell("connect").await;
    let code = client.wait("qr").await["code"].as_str().unwrap().to_owned();
    whatsapp.scan(&code, "+15550069000", "Bare").await.unwrap();
    client.wait("connected").await;
    let mut samples = Vec::new();
    for number in 0..count + 20 {
        let start = Instant::now();
        client.tell(&format!("send +1555008{:04} Message {number}", number % 8)).await;
        client.wait("sent").await;
        samples.push(start.elapsed());
    }
    samples.split_off(20)
}
