//! A cluster that lets nothing out but through an HTTP proxy: the bridge reaches WhatsApp by name, which only the proxy can look up.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::support::world::{World, host};

/// A proxy that wants a password, and connects whoever asks for this name to `there`; its address, and how often it did.
async fn proxy(name: &'static str, there: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://anna:hunter2hunter2@{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (there, counter) = (there.clone(), Arc::clone(&counter));
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                // "anna:hunter2hunter2" in base64.
                let known = head.contains("Proxy-Authorization: Basic YW5uYTpodW50ZXIyaHVudGVyMg==\r\n");
                if !known || !head.starts_with(&format!("CONNECT {name} HTTP/1.1\r\n")) {
                    near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
                    return;
                }
                counter.fetch_add(1, Ordering::Relaxed);
                near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let mut far = TcpStream::connect(&there).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_linked_through_a_proxy_and_connects_through_it_again() {
    let phone = "+15550490001";
    let mut world = World::start("egress-proxy").await;
    let (proxy, connected) = proxy("whatsapp.invalid:8000", host(&world.whatsapp.url)).await;
    world.bridge.kill();
    world.bridge.set("--whatsapp-url", "ws://whatsapp.invalid:8000/ws/chat");
    // What is not encrypted goes by the variable for that; for WhatsApp itself it is HTTPS_PROXY.
    world.bridge = world.bridge.env("HTTP_PROXY", &proxy);
    world.restart_bridge().await;
    world.apply("far", json!({})).await;
    world.scan("far", phone).await;
    world.history.until_phase("far", whatsapp_operator::api::Phase::Connected, crate::support::world::SOON).await;
    let at_first = connected.load(Ordering::Relaxed);
    assert!(at_first > 0);
    world.whatsapp.happens(phone, "drop").await;
    crate::support::gateway::until("is it connected anew", async || connected.load(Ordering::Relaxed) > at_first).await;
    world.nothing_leaked(&[phone, "hunter2hunter2"]).await;
}
