//! A real whatsapp-rust client and what a test waits for on it.

use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::http::{HttpClient, HttpRequest, HttpResponse};
use whatsapp_rust::store::traits::Backend;
use whatsapp_rust::types::events::Event;
use whatsapp_rust::{Client, TokioRuntime};
use whatsapp_rust_tokio_transport::TokioWebSocketTransportFactory;

/// Generous: a debug build on a busy two-core machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// The simulation has no CDN and the version is given, so nothing may be fetched.
struct NoHttp;

#[async_trait]
impl HttpClient for NoHttp {
    async fn execute(&self, _: HttpRequest) -> anyhow::Result<HttpResponse> {
        anyhow::bail!("no HTTP in this test")
    }
}

pub struct Companion {
    pub client: Arc<Client>,
    handle: BotHandle,
    events: Mutex<mpsc::UnboundedReceiver<Arc<Event>>>,
}

impl Companion {
    pub async fn start(url: &str, store: Arc<dyn Backend>) -> Self {
        Self::start_with(url, store, None).await
    }

    /// With a phone number, the client asks for a pairing code as well.
    pub async fn start_with(url: &str, store: Arc<dyn Backend>, phone: Option<&str>) -> Self {
        // RUST_LOG=debug shows what the client thinks of the server.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let (tx, events) = mpsc::unbounded_channel();
        let mut builder = Bot::builder()
            .with_backend_arc(store)
            .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(url))
            .with_http_client(NoHttp)
            .with_runtime(TokioRuntime)
            .with_version((2, 3000, 1_030_000_000))
            .skip_history_sync()
            .on_event(move |event, _| {
                let _ = tx.send(event);
                std::future::ready(())
            });
        if let Some(phone) = phone {
            builder = builder.with_pair_code(whatsapp_rust::pair_code::PairCodeOptions {
                phone_number: phone.to_owned(),
                ..Default::default()
            });
        }
        let bot = builder.build().await.unwrap();
        let client = bot.client();
        Self { client, handle: bot.spawn(), events: Mutex::new(events) }
    }

    /// Waits for an event that `pick` takes, and skips the others.
    pub async fn wait<T>(&self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        let mut events = self.events.lock().await;
        let mut seen = Vec::new();
        let found = tokio::time::timeout(DEADLINE, async {
            loop {
                let event = events.recv().await.expect("the client must not end its events");
                if let Some(found) = pick(&event) {
                    return found;
                }
                seen.push(format!("{:?}", event.kind()));
            }
        });
        found.await.unwrap_or_else(|_| panic!("no {what} within {DEADLINE:?}; seen {seen:?}"))
    }

    pub async fn qr(&self) -> String {
        self.wait("QR code", |event| match event {
            Event::PairingQrCode(qr) => Some(qr.code.clone()),
            _ => None,
        })
        .await
    }

    pub async fn connected(&self) {
        self.wait("Connected", |event| matches!(event, Event::Connected(_)).then_some(())).await;
    }

    pub async fn stop(self) {
        self.handle.shutdown().await;
    }
}
