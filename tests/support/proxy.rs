//! A proxy that can make connections go dead without closing them, as a router does that forgets them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::world::host;

/// Passes bytes on to one address, until told to swallow them.
pub struct Proxy {
    /// Where it listens.
    pub address: String,
    /// Connections of an earlier era carry nothing any more.
    era: Arc<AtomicU64>,
}

impl Proxy {
    /// A proxy in front of `target`, HOST:PORT.
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let era = Arc::new(AtomicU64::new(0));
        let now = Arc::clone(&era);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                let era = now.load(Ordering::SeqCst);
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near_in, far_out, era, Arc::clone(&now)));
                tokio::spawn(pass(far_in, near_out, era, Arc::clone(&now)));
            }
        });
        Self { address, era }
    }

    /// A copy of `kubeconfig`, in `dir`, that goes through a proxy; and the proxy.
    pub async fn of_api_server(kubeconfig: &Path, dir: &Path) -> (Self, PathBuf) {
        let mut config: Value = serde_saphyr::from_str(&std::fs::read_to_string(kubeconfig).unwrap()).unwrap();
        let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned();
        let proxy = Self::start(host(&server)).await;
        config["clusters"][0]["cluster"]["server"] = format!("https://{}", proxy.address).into();
        let path = dir.join("proxy.kubeconfig");
        std::fs::write(&path, config.to_string()).unwrap();
        (proxy, path)
    }

    /// From now on, the connections there are carry nothing and stay open; new ones are none the worse.
    pub fn swallow(&self) {
        self.era.fetch_add(1, Ordering::SeqCst);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    era: u64,
    now: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if now.load(Ordering::SeqCst) != era {
            // Read on, so that the sender believes that it is heard.
            if read == 0 {
                std::future::pending::<()>().await;
            }
            continue;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
