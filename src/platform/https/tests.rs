use std::{sync::Arc, time::Duration};

use axum::{Router, routing::get};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Files, Tls, listen, prepare, serve};
use crate::platform::shutdown::Shutdown;

/// How long something that takes milliseconds may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

struct Pair {
    chain: String,
    key: String,
}

/// A certificate for 127.0.0.1 that is its own authority.
fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    Pair { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

/// An authority, PEM, and a client's certificate with key, PEM, signed by it.
fn authority() -> (String, String) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(["client".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let client = params.signed_by(&key, &issuer).unwrap();
    (issuer.as_ref().pem(), client.pem() + &key.serialize_pem())
}

/// An end without a time before it.
fn closes(closing: &CancellationToken) -> Shutdown {
    Shutdown { closing: closing.clone(), ..Shutdown::default() }
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !condition().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, reached).await.unwrap_or_else(|_| panic!("not {what}"));
}

#[tokio::test]
async fn files_are_read_again_when_they_change_and_kept_while_they_are_no_pair() {
    let (one, two) = (pair(), pair());
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (tls, stop) = (Arc::new(Tls::default()), CancellationToken::new());
    let files = Files::certificate(&tls, &path("tls.crt"), &path("tls.key"), "--tls-cert");
    let kept = tokio::spawn(files.keep(Duration::from_millis(1), stop.clone()));
    let shows = async |wanted: &Pair| {
        let wanted = rustls::pki_types::pem::PemObject::from_pem_slice(wanted.chain.as_bytes()).unwrap();
        until("shown", async || tls.shown().as_ref() == Some(&wanted)).await;
    };
    std::fs::write(path("tls.crt"), &one.chain).unwrap();
    std::fs::write(path("tls.key"), &one.key).unwrap();
    shows(&one).await;
    // Half of the change: no pair, so the one before stays.
    std::fs::write(path("tls.crt"), &two.chain).unwrap();
    assert!(tls.show(&two.chain, &one.key).is_err());
    shows(&one).await;
    std::fs::write(path("tls.key"), &two.key).unwrap();
    shows(&two).await;
    stop.cancel();
    kept.await.unwrap();
}

#[tokio::test]
async fn files_that_hold_something_else_are_an_error_that_names_them_and_the_flag() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let take = async || Files::authorities(&Arc::default(), &file, "--client-ca").take().await.unwrap_err().to_string();
    assert!(take().await.contains("ca.pem (--client-ca)"));
    for text in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&file, text).unwrap();
        let said = take().await;
        assert!(said.contains("ca.pem (--client-ca): there is no usable PEM certificate"), "{text:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_of_callers_can_be_replaced_while_it_serves() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (own, (old, old_client), (new, new_client)) = (pair(), authority(), authority());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, &old).unwrap();
    let (tls, closing) = (Arc::new(Tls::default()), CancellationToken::new());
    let mut files = Files::authorities(&tls, &file, "--client-ca");
    files.take().await.unwrap();
    tls.show(&own.chain, &own.key).unwrap();
    let (tcp, address) = listen("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
    let router = Router::new().route("/", get(async || "answered"));
    let served = serve(tcp, Some(tls), router, closes(&closing), SOON);
    let kept = tokio::spawn(files.keep(Duration::from_millis(1), closing.clone()));
    let is_answered = async |client: Option<&str>| {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(own.chain.as_bytes()).unwrap()]);
        let builder = match client {
            Some(client) => builder.identity(reqwest::Identity::from_pem(client.as_bytes()).unwrap()),
            None => builder,
        };
        builder.build().unwrap().get(format!("https://{address}/")).send().await.is_ok()
    };
    assert!(is_answered(Some(&old_client)).await);
    assert!(!is_answered(None).await);
    assert!(!is_answered(Some(&new_client)).await);
    std::fs::write(&file, &new).unwrap();
    until("answered by the new authority", async || is_answered(Some(&new_client)).await).await;
    assert!(!is_answered(Some(&old_client)).await);
    closing.cancel();
    served.await.unwrap();
    kept.await.unwrap();
}

#[tokio::test]
async fn requests_under_way_are_answered_and_no_others_once_it_closes() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (closing, under_way) = (CancellationToken::new(), Arc::new(tokio::sync::Notify::new()));
    let (tcp, address) = listen("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
    let answer = {
        let (closing, under_way) = (closing.clone(), Arc::clone(&under_way));
        async move || {
            under_way.notify_one();
            closing.cancelled().await;
            "answered"
        }
    };
    let served = serve(tcp, None, Router::new().route("/", get(answer)), closes(&closing), SOON);
    let ask = || reqwest::Client::builder().no_proxy().build().unwrap().get(format!("http://{address}/")).send();
    let first = tokio::spawn(ask());
    under_way.notified().await;
    closing.cancel();
    assert_eq!(first.await.unwrap().unwrap().text().await.unwrap(), "answered");
    timeout(SOON, served).await.unwrap().unwrap();
    assert!(ask().await.is_err());
}

#[tokio::test]
async fn whoever_keeps_a_connection_is_told_to_end_it_before_the_process_does() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let shutdown = Shutdown::default();
    let (tcp, address) = listen("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
    let served = serve(tcp, None, Router::new().route("/", get(async || "answered")), shutdown.clone(), SOON);
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut asked = async || {
        connection.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        let (mut answer, mut part) = (String::new(), [0; 1024]);
        while !answer.ends_with("answered") {
            let read = connection.read(&mut part).await.unwrap();
            assert!(read > 0, "{answer}");
            answer.push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
        answer.to_lowercase()
    };
    assert!(!asked().await.contains("connection: close"));
    shutdown.stopping.cancel();
    assert!(asked().await.contains("connection: close"));
    assert_eq!(connection.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");
    // Somebody who has not heard of it yet is answered all the same.
    assert!(reqwest::get(format!("http://{address}/")).await.is_ok());
    shutdown.closing.cancel();
    timeout(SOON, served).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_holds_nothing_up_for_ever() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (closing, under_way) = (CancellationToken::new(), Arc::new(tokio::sync::Notify::new()));
    let (tcp, address) = listen("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
    let hang = {
        let under_way = Arc::clone(&under_way);
        async move || {
            under_way.notify_one();
            std::future::pending::<&str>().await
        }
    };
    let served = serve(tcp, None, Router::new().route("/", get(hang)), closes(&closing), Duration::from_millis(10));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let _hanging = tokio::spawn(client.get(format!("http://{address}/")).send());
    under_way.notified().await;
    closing.cancel();
    timeout(SOON, served).await.unwrap().unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_is_gone_without_a_word_is_not_waited_for_a_quarter_of_an_hour() {
    let (tcp, address) = listen("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
    let (_caller, taken) = tokio::join!(tokio::net::TcpStream::connect(address), tcp.accept());
    let (taken, _) = taken.unwrap();
    prepare(&taken);
    assert!(taken.nodelay().unwrap());
    assert_eq!(socket2::SockRef::from(&taken).tcp_user_timeout().unwrap(), Some(super::UNACKNOWLEDGED));
}
