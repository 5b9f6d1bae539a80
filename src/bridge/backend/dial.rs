//! Opens a WebSocket to WhatsApp, and tells failures apart by how far it came.
//!
//! The library's own dial does not switch off Nagle's algorithm: a stanza that follows another one closely is then held back until the
//! server has confirmed the first, which takes 40 ms and more where its confirmations are delayed. It also tries only the first of a
//! name's addresses, which is in vain where one of two networks does not work, and knows no proxy.

use std::io;

use axum::http::{HeaderValue, Uri, header};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, WebSocketStream};
use wacore::net::{WHATSAPP_WEB_ORIGIN, WHATSAPP_WEB_WS_URL};
use whatsapp_operator::platform::cluster_proxy::{Environment, ProxyError, bare, shown};
use whatsapp_rust_tokio_transport::{Connector, default_tls_connector};

use super::{names::Names, proxy, reach};

/// An open connection.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why there is none. No text says anything of a session: there are addresses, and what the network said of them.
#[derive(Debug, Error)]
pub enum DialError {
    /// It is no address.
    #[error("{0} is no ws:// or wss:// URL with a host")]
    Address(String),
    /// Nothing answers at the address.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, io::Error),
    /// The proxy on the way does not connect.
    #[error("cannot reach {0} through the proxy {1} (HTTPS_PROXY): {2}")]
    Proxy(String, String, io::Error),
    /// The proxy on the way cannot be used.
    #[error("cannot reach {0}: {1}")]
    NoProxy(String, ProxyError),
    /// There is a server whose certificate is not WhatsApp's.
    #[error("{0} shows a certificate that is not WhatsApp's: {1}")]
    Intercepted(String, tokio_websockets::Error),
    /// There is a server, but it does not open a WebSocket.
    #[error("{0} does not open a WebSocket: {1}")]
    TurnedAway(String, tokio_websockets::Error),
}

/// Dials `url`, or WhatsApp itself, through a proxy where this environment says so.
///
/// # Errors
/// When no WebSocket is open in the end.
pub async fn dial(url: Option<&str>, names: &Names, environment: &Environment) -> Result<Socket, DialError> {
    let url = url.unwrap_or(WHATSAPP_WEB_WS_URL);
    let uri: Uri = url.parse().map_err(|_| DialError::Address(url.to_owned()))?;
    // An IPv6 address is bracketed in a URL, and nowhere else.
    let host = uri.host().map(|host| bare(host).to_owned());
    let (Some(host), Some(scheme @ ("ws" | "wss"))) = (host, uri.scheme_str()) else {
        return Err(DialError::Address(url.to_owned()));
    };
    let (port, connector) = match scheme {
        "wss" => (443, default_tls_connector()),
        _ => (80, Connector::Plain),
    };
    let port = uri.port_u16().unwrap_or(port);
    let there = reach::authority(&host, port);
    let socket = connect(&host, port, &there, scheme == "wss", names, environment).await?;
    let turned_away = |error| DialError::TurnedAway(there.clone(), error);
    let socket = connector.wrap(&host, socket).await.map_err(|error| {
        if is_certificate_error(&error) { DialError::Intercepted(there.clone(), error) } else { turned_away(error) }
    })?;
    let upgrade = ClientBuilder::from_uri(uri)
        .add_header(header::ORIGIN, HeaderValue::from_static(WHATSAPP_WEB_ORIGIN))
        .map_err(turned_away)?;
    let (socket, _) = upgrade.connect_on(socket).await.map_err(turned_away)?;
    Ok(socket)
}

async fn connect(
    host: &str,
    port: u16,
    there: &str,
    tls: bool,
    names: &Names,
    environment: &Environment,
) -> Result<TcpStream, DialError> {
    let named = || there.to_owned();
    let http: Uri =
        format!("{}://{there}", if tls { "https" } else { "http" }).parse().map_err(|_| DialError::Address(named()))?;
    match environment.proxy(&http, None) {
        Err(error) => Err(DialError::NoProxy(named(), error)),
        Ok(Some(through)) => proxy::connect(&through, there, names)
            .await
            .map_err(|error| DialError::Proxy(named(), shown(&through).trim_end_matches('/').to_owned(), error)),
        Ok(None) => reach::connect(host, port, names).await.map_err(|error| DialError::Unreachable(named(), error)),
    }
}

fn is_certificate_error(error: &tokio_websockets::Error) -> bool {
    let tokio_websockets::Error::Io(error) = error else { return false };
    let tls = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// A server with a certificate of its own making, as a proxy in the way has one.
    async fn intercepting() -> u16 {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                drop(acceptor.accept(socket).await);
            }
        });
        port
    }

    #[tokio::test]
    async fn failures_are_told_apart_by_how_far_it_came() {
        let names = Names::default();
        let said = async |url: String| dial(Some(&url), &names, &Environment::default()).await.map(drop).unwrap_err();
        let port = intercepting().await;
        assert!(matches!(said(format!("wss://localhost:{port}/ws/chat")).await, DialError::Intercepted(..)));
        assert!(matches!(said(format!("ws://localhost:{port}/ws/chat")).await, DialError::TurnedAway(..)));
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert!(matches!(said(format!("wss://localhost:{free}/ws/chat")).await, DialError::Unreachable(..)));
        assert!(
            matches!(said(format!("wss://[::1]:{free}/ws/chat")).await, DialError::Unreachable(there, _) if there.starts_with("[::1]:"))
        );
        for bad in ["http://localhost/", "localhost", ""] {
            assert!(matches!(said(bad.to_owned()).await, DialError::Address(..)), "{bad}");
        }
    }

    #[tokio::test]
    async fn the_proxy_of_the_environment_is_asked_except_for_those_it_is_not_for() {
        let names = Names::default();
        let proxy = TcpListener::bind("[::1]:0").await.unwrap();
        let address = format!("http://anna:hunter2@{}", proxy.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut socket, _) = proxy.accept().await.unwrap();
            let mut request = [0; 64];
            let length = socket.read(&mut request).await.unwrap();
            socket.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let environment = Environment::of(|name| match name {
            "HTTPS_PROXY" => Some(address.clone()),
            "NO_PROXY" => Some("near.invalid".to_owned()),
            _ => None,
        });
        let said = async |url: &str| dial(Some(url), &names, &environment).await.map(drop).unwrap_err();
        let error = said("wss://far.invalid/ws/chat").await;
        assert!(matches!(error, DialError::Proxy(..)) && !error.to_string().contains("hunter2"), "{error}");
        assert!(asked.await.unwrap().starts_with("CONNECT far.invalid:443 HTTP/1.1"));
        assert!(matches!(said("wss://near.invalid/ws/chat").await, DialError::Unreachable(..)));
        let environment = Environment::of(|name| (name == "HTTPS_PROXY").then(|| "nonsense://x".to_owned()));
        let error = dial(None, &names, &environment).await.map(drop).unwrap_err();
        assert!(matches!(error, DialError::NoProxy(..)), "{error}");
    }
}
