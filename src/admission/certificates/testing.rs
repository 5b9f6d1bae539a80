//! A client that trusts a bundle, and what becomes of open and new connections while certificates change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use k8s_openapi::jiff::Timestamp;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Certificates, Due, Lifetimes, Served, carry_out, files, tls};
use crate::admission::serve;

/// Whether a client that trusts `bundle` accepts `leaf` for `host` at `now`.
pub fn trusts(bundle: &str, leaf: &str, host: &str, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .build()
        .unwrap();
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().unwrap()));
    verifier.verify_server_cert(&leaf, &[], &host, &[], now).is_ok()
}

/// Clients with a new connection for each request, trusting what was published last, while everything about the
/// certificates changes, and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_renewed_under_load_without_one_failed_request() {
    const CLIENTS: u64 = 4;
    let _ = ring::default_provider().install_default();
    let (hosts, lifetimes) = (vec!["127.0.0.1".to_owned()], Lifetimes::default());
    let step =
        |step, before: Option<&Certificates>| carry_out(step, before, &hosts, &lifetimes, Timestamp::now()).unwrap();
    let mut certificates = step(Due::StartAnew, None);

    let served = Arc::new(Served::default());
    served.swap(&certificates.leaf.certificate, certificates.leaf.key.reveal()).unwrap();
    let (stop, stop_clients) = (CancellationToken::new(), CancellationToken::new());
    let answer = Router::new().route("/", get(async || "answered"));
    let server =
        serve("127.0.0.1:0".parse().unwrap(), tls(Arc::clone(&served), None).unwrap(), answer, stop.clone()).unwrap();

    let (publish, published) = watch::channel(certificates.bundle());
    let (requests, url) = (Arc::new(AtomicU64::new(0)), format!("https://{}/", server.address));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (published, requests, url, stop) =
                (published.clone(), Arc::clone(&requests), url.clone(), stop_clients.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    let roots = reqwest::Certificate::from_pem_bundle(published.borrow().as_bytes()).unwrap();
                    let client = reqwest::Client::builder().tls_certs_only(roots).build().unwrap();
                    assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), "answered");
                    requests.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let some_requests = async || {
        let enough = requests.load(Ordering::Relaxed) + 2 * CLIENTS;
        tokio::time::timeout(Duration::from_secs(30), async {
            while requests.load(Ordering::Relaxed) < enough && !clients.iter().any(JoinHandle::is_finished) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    };

    let change = [Due::RenewLeaf, Due::IntroduceAuthority, Due::SwitchAuthority, Due::RenewLeaf, Due::RetireAuthority];
    for due in change.into_iter().cycle().take(3 * change.len()) {
        certificates = step(due, Some(&certificates));
        // First one side, then the other: between replicas and the API server there is always a while.
        served.swap(&certificates.leaf.certificate, certificates.leaf.key.reveal()).unwrap();
        some_requests().await;
        publish.send_replace(certificates.bundle());
        some_requests().await;
    }
    stop_clients.cancel();
    for client in clients {
        client.await.unwrap();
    }
    stop.cancel();
    server.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn files_are_read_again_when_they_change_and_kept_while_they_are_no_pair() {
    let (hosts, lifetimes) = (vec!["127.0.0.1".to_owned()], Lifetimes::default());
    let make = || carry_out(Due::StartAnew, None, &hosts, &lifetimes, Timestamp::now()).unwrap();
    let (one, two) = (make(), make());
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let (served, stop) = (Arc::new(Served::default()), CancellationToken::new());
    let kept = {
        let (path, served, stop) = (directory.path().to_owned(), Arc::clone(&served), stop.clone());
        tokio::spawn(async move { files::keep(&path, Duration::from_millis(1), served, stop).await })
    };
    let shows = async |wanted: &Certificates| {
        let wanted = CertificateDer::from_pem_slice(wanted.leaf.certificate.as_bytes()).unwrap();
        tokio::time::timeout(Duration::from_secs(30), async {
            while served.shown().is_none_or(|shown| shown.cert[0] != wanted) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
    };
    write("tls.crt", &one.leaf.certificate);
    write("tls.key", one.leaf.key.reveal());
    shows(&one).await;
    // Half of the change: no pair, so the one before stays.
    write("tls.crt", &two.leaf.certificate);
    assert!(served.swap(&two.leaf.certificate, one.leaf.key.reveal()).is_err());
    shows(&one).await;
    write("tls.key", two.leaf.key.reveal());
    shows(&two).await;
    stop.cancel();
    kept.await.unwrap();
}
