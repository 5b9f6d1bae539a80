//! Opens a WebSocket to WhatsApp, and tells failures apart by how far it came.
//!
//! The library's own dial does not switch off Nagle's algorithm: a stanza that follows another one closely is then held back until the
//! server has confirmed the first, which takes 40 ms and more where its confirmations are delayed. It also tries only the first of a
//! name's addresses, which is in vain where one of two networks does not work.

use std::{io, time::Duration};

use axum::http::{HeaderValue, Uri, header};
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tokio_websockets::{ClientBuilder, MaybeTlsStream, WebSocketStream};
use wacore::net::{WHATSAPP_WEB_ORIGIN, WHATSAPP_WEB_WS_URL};
use whatsapp_rust_tokio_transport::{Connector, default_tls_connector};

use super::names::Names;

/// How long an address may take when there is another one to try: the library gives up a dial after 20 s (client.rs,
/// `TRANSPORT_CONNECT_TIMEOUT`).
const EACH: Duration = Duration::from_secs(5);

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
    /// There is a server whose certificate is not WhatsApp's.
    #[error("{0} shows a certificate that is not WhatsApp's: {1}")]
    Intercepted(String, tokio_websockets::Error),
    /// There is a server, but it does not open a WebSocket.
    #[error("{0} does not open a WebSocket: {1}")]
    TurnedAway(String, tokio_websockets::Error),
}

/// Dials `url`, or WhatsApp itself.
///
/// # Errors
/// When no WebSocket is open in the end.
pub async fn dial(url: Option<&str>, names: &Names) -> Result<Socket, DialError> {
    let url = url.unwrap_or(WHATSAPP_WEB_WS_URL);
    let uri: Uri = url.parse().map_err(|_| DialError::Address(url.to_owned()))?;
    // An IPv6 address is bracketed in a URL, and nowhere else.
    let host = uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned());
    let (Some(host), Some(scheme @ ("ws" | "wss"))) = (host, uri.scheme_str()) else {
        return Err(DialError::Address(url.to_owned()));
    };
    let (port, connector) = match scheme {
        "wss" => (443, default_tls_connector()),
        _ => (80, Connector::Plain),
    };
    let port = uri.port_u16().unwrap_or(port);
    let there = format!("{host}:{port}");
    let socket = connect(&host, port, names).await;
    let socket = socket.map_err(|error| DialError::Unreachable(there.clone(), error))?;
    // Without it everything works, only slower.
    let _ = socket.set_nodelay(true);
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

/// Connects to the first of a name's addresses that answers.
async fn connect(host: &str, port: u16, names: &Names) -> io::Result<TcpStream> {
    let mut addresses = names.addresses(host, port).await?.into_iter().peekable();
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    while let Some(address) = addresses.next() {
        let connecting = TcpStream::connect(address);
        let connected = match addresses.peek() {
            Some(_) => timeout(EACH, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            None => connecting.await,
        };
        match connected {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn is_certificate_error(error: &tokio_websockets::Error) -> bool {
    let tokio_websockets::Error::Io(error) = error else { return false };
    let tls = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

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
        let said = async |url: String| dial(Some(&url), &names).await.map(drop).unwrap_err();
        let port = intercepting().await;
        assert!(matches!(said(format!("wss://localhost:{port}/ws/chat")).await, DialError::Intercepted(..)));
        assert!(matches!(said(format!("ws://localhost:{port}/ws/chat")).await, DialError::TurnedAway(..)));
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert!(matches!(said(format!("wss://localhost:{free}/ws/chat")).await, DialError::Unreachable(..)));
        for bad in ["http://localhost/", "localhost", ""] {
            assert!(matches!(said(bad.to_owned()).await, DialError::Address(..)), "{bad}");
        }
    }
}
