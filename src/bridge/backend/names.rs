//! Addresses of names, looked up one at a time.
//!
//! A look-up takes a thread until the system's resolver gives up, 10 to 20 s when no server answers it, whether its caller still waits or not. The
//! same few threads read and write the keys of all sessions: those that dial anew while the cluster's DNS is ill must not keep those
//! that are connected from sending.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{net::lookup_host, sync::Semaphore, time::timeout};
use whatsapp_operator::platform::lock;

/// How long a look-up may take when there is an older answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks names up, and remembers what was found last. Clones are one.
#[derive(Clone)]
pub struct Names(Arc<Shared>);

struct Shared {
    turn: Arc<Semaphore>,
    last: Mutex<HashMap<(String, u16), Vec<SocketAddr>>>,
}

impl Default for Names {
    fn default() -> Self {
        Self(Arc::new(Shared { turn: Arc::new(Semaphore::new(1)), last: Mutex::default() }))
    }
}

impl Names {
    /// The addresses of a host; those that it had last, when there are no others to be had.
    ///
    /// # Errors
    /// When it has none, and never had.
    pub async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let last = self.last().get(&(host.to_owned(), port)).cloned();
        let looking = self.look_up(host.to_owned(), port);
        match last {
            None => looking.await,
            // Also while another look-up takes its time.
            Some(last) => Ok(timeout(PATIENCE, looking).await.ok().and_then(Result::ok).unwrap_or(last)),
        }
    }

    async fn look_up(&self, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        let turn = Arc::clone(&self.0.turn).acquire_owned().await.map_err(io::Error::other)?;
        let names = self.clone();
        // A task, so that the turn is over when the look-up is, and not when the client that asked for it has given up.
        let looking = tokio::spawn(async move {
            let found: Vec<SocketAddr> = lookup_host((host.as_str(), port)).await?.collect();
            drop(turn);
            if found.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            names.last().insert((host, port), found.clone());
            Ok(found)
        });
        looking.await.map_err(io::Error::other)?
    }

    fn last(&self) -> MutexGuard<'_, HashMap<(String, u16), Vec<SocketAddr>>> {
        lock(&self.0.last)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            // The port is the URL's: reqwest sets it.
            let found = names.addresses(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_up_that_hangs_does_not_keep_others_from_what_is_known() {
        let names = Names::default();
        let found = names.addresses("localhost", 80).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        let hangs = Arc::clone(&names.0.turn).acquire_owned().await.unwrap();
        assert_eq!(names.addresses("localhost", 80).await.unwrap(), found);
        // What is not known has to wait for its turn.
        let mut waits = Box::pin(names.addresses("localhost", 81));
        assert!(timeout(Duration::from_millis(100), &mut waits).await.is_err());
        drop(hangs);
        assert!(!waits.await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_name_that_is_gone_keeps_its_address_and_one_that_never_was_has_none() {
        let names = Names::default();
        let gone = ("gone.invalid".to_owned(), 443);
        assert!(names.addresses(&gone.0, gone.1).await.is_err());
        let address = SocketAddr::from(([127, 0, 0, 1], 443));
        names.last().insert(gone.clone(), vec![address]);
        assert_eq!(names.addresses(&gone.0, gone.1).await.unwrap(), [address]);
    }
}
