//! The two listeners: the WebSocket clients connect to, and the control API.

use crate::listener::{ResetSwitch, Resetting};
use crate::world::{Mode, World};
use crate::{connection, control, files};
use anyhow::Context as _;
use axum::Router;
use axum::extract::{ConnectInfo, State, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long a mode change or a stop waits for the port to be free again.
const REBIND_DEADLINE: Duration = Duration::from_secs(10);

/// Where a running server can be reached, as announced on stdout and in the announce file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// The WebSocket address for clients.
    pub url: String,
    /// The base address of the control API.
    pub control: String,
    /// The public key of the certificate root, in hex.
    pub root_public_key: String,
}

/// A running server. Dropping it stops both listeners; open connections end with the runtime.
pub struct Server {
    /// Where it is.
    pub announcement: Announcement,
    /// Its state, for tests in the same process.
    pub world: Arc<World>,
    tasks: Vec<JoinHandle<()>>,
    listening: [SocketAddr; 2],
}

impl Server {
    /// Binds both listeners and serves. With `no_delay` what is small goes out to clients at once, as from a real chat server;
    /// otherwise it waits until a client has confirmed what went before (Nagle's algorithm), some 40 ms.
    ///
    /// # Errors
    /// When an address cannot be bound or the state directory cannot be used.
    pub async fn start(
        listen: SocketAddr,
        control: SocketAddr,
        state_dir: &Path,
        no_delay: bool,
    ) -> anyhow::Result<Self> {
        let (registry, identity) = crate::registry::Registry::open(state_dir, crate::world::now())?;
        let clients = bind(listen).await?;
        let controls = bind(control).await?;
        let (clients_at, controls_at) = (clients.local_addr()?, controls.local_addr()?);
        let announcement = Announcement {
            url: format!("ws://{clients_at}/ws/chat"),
            control: format!("http://{controls_at}"),
            root_public_key: crate::keys::to_hex(&identity.root.public()),
        };
        let world = Arc::new(World::new(registry, identity));
        let api = control::router(Arc::clone(&world));
        let tasks = vec![
            tokio::spawn(listen_for_clients(Arc::clone(&world), clients, clients_at, no_delay)),
            tokio::spawn(async move {
                if let Err(error) = axum::serve(controls, api).await {
                    tracing::error!("the control API stopped: {error}");
                }
            }),
        ];
        Ok(Self { announcement, world, tasks, listening: [clients_at, controls_at] })
    }

    /// Writes the announcement for whoever waits for it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce(&self, file: Option<&Path>) -> anyhow::Result<String> {
        let line = serde_json::to_string(&self.announcement)?;
        if let Some(file) = file {
            files::replace(file, line.as_bytes())?;
        }
        Ok(line)
    }

    /// Closes every connection and both listeners, and waits until the ports are free.
    pub async fn stop(mut self) {
        self.world.set_mode(Mode::Gone);
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            let _ = task.await;
        }
        for address in self.listening {
            if let Err(error) = rebind(address).await {
                tracing::warn!("the port is still taken: {error:#}");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.world.set_mode(Mode::Gone);
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another port, or 0 for any free one"))
}

/// Aborts the accepting task when dropped, so that aborting its owner closes the port as well.
struct Accepting(JoinHandle<()>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen_for_clients(world: Arc<World>, listener: TcpListener, address: SocketAddr, no_delay: bool) {
    let app = Router::new().route("/ws/chat", any(upgrade)).with_state(Arc::clone(&world));
    let mut mode = world.mode();
    let mut free = Some(listener);
    loop {
        let listener = match free.take() {
            Some(listener) => listener,
            None => match rebind(address).await {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!("clients cannot connect any more: {error:#}");
                    return;
                }
            },
        };
        let app = app.clone();
        let accepting = Accepting(tokio::spawn(async move {
            let app = app.into_make_service_with_connect_info::<ResetSwitch>();
            let _ = axum::serve(Resetting { listener, no_delay }, app).await;
        }));
        if mode.wait_for(|mode| *mode == Mode::Gone).await.is_err() {
            return;
        }
        drop(accepting);
        if mode.wait_for(|mode| *mode != Mode::Gone).await.is_err() {
            return;
        }
    }
}

async fn rebind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let deadline = tokio::time::Instant::now() + REBIND_DEADLINE;
    loop {
        match bind(address).await {
            Err(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
            outcome => return outcome,
        }
    }
}

async fn upgrade(
    State(world): State<Arc<World>>,
    ConnectInfo(reset): ConnectInfo<ResetSwitch>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if matches!(*world.mode().borrow(), Mode::Refuse | Mode::Gone) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    upgrade.on_upgrade(move |socket| connection::serve(world, socket, reset))
}
