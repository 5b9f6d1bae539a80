//! To WhatsApp through an HTTP proxy, where the environment says so (`HTTPS_PROXY`, `NO_PROXY`): for clusters that let nothing out by
//! another way. The proxy looks the name up, and sees nothing of what is sent but where it goes.

use std::io;

use axum::http::Uri;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use whatsapp_operator::platform::cluster_proxy::bare;

use super::{names::Names, reach};

/// More than any answer to CONNECT has.
const MAX_HEAD: usize = 16 * 1024;

/// Connects to `there` (a host and a port) through a proxy.
///
/// # Errors
/// When the proxy is of a kind that is not known, is not reached, or does not connect.
pub async fn connect(proxy: &Uri, there: &str, names: &Names) -> io::Result<TcpStream> {
    let (Some("http"), Some(authority)) = (proxy.scheme_str(), proxy.authority()) else {
        return Err(io::Error::other("the bridge knows proxies of http:// alone"));
    };
    let mut socket = reach::connect(bare(authority.host()), authority.port_u16().unwrap_or(80), names).await?;
    let credentials = match authority.as_str().rsplit_once('@') {
        Some((credentials, _)) => {
            format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(unescaped(credentials)))
        }
        None => String::new(),
    };
    let request = format!("CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n{credentials}\r\n");
    socket.write_all(request.as_bytes()).await?;
    let head = head(&mut socket).await?;
    // "HTTP/1.1 200 Connection established"
    let is_status = |word: &&str| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    let status = head.split_whitespace().nth(1).filter(|_| head.starts_with("HTTP/1.")).filter(is_status);
    match status {
        Some(status) if status.starts_with('2') => Ok(socket),
        Some("407") => Err(io::Error::other("it wants a user and a password, or others; they stand in its address")),
        Some(status) => Err(io::Error::other(format!("it answers {status}"))),
        None => Err(io::Error::other("what answers is no HTTP proxy")),
    }
}

/// The head of the answer and not a byte more: what follows is WhatsApp's.
async fn head(socket: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return Err(io::Error::other("its answer has no end"));
        }
        head.push(socket.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// `%40` is `@`: what may not stand in an address is written so.
fn unescaped(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy that answers this and then says "hello" as WhatsApp would; what it was asked.
    async fn proxy(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let asked = head(&mut socket).await.unwrap();
            socket.write_all(format!("{answer}hello").as_bytes()).await.unwrap();
            asked
        });
        (port, asked)
    }

    async fn through(port: u16, user: &str) -> io::Result<TcpStream> {
        let proxy: Uri = format!("http://{user}[::1]:{port}/").parse().unwrap();
        connect(&proxy, "web.whatsapp.com:443", &Names::default()).await
    }

    #[tokio::test]
    async fn a_proxy_is_asked_by_name_and_what_comes_after_its_answer_is_not_touched() {
        let (port, asked) = proxy("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await;
        let mut socket = through(port, "anna:s%40cret@").await.unwrap();
        let mut after = String::new();
        socket.read_to_string(&mut after).await.unwrap();
        assert_eq!(after, "hello");
        assert_eq!(
            asked.await.unwrap(),
            format!(
                "CONNECT web.whatsapp.com:443 HTTP/1.1\r\nHost: web.whatsapp.com:443\r\nProxy-Authorization: Basic {}\r\n\r\n",
                STANDARD.encode("anna:s@cret")
            )
        );
    }

    #[tokio::test]
    async fn a_proxy_that_does_not_connect_is_told_in_words() {
        for (answer, said) in [
            ("HTTP/1.1 407 Who?\r\n\r\n", "user and a password"),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "it answers 403"),
            ("SSH-2.0-x\r\n\r\n", "no HTTP proxy"),
        ] {
            let error = through(proxy(answer).await.0, "").await.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let other = "socks5://127.0.0.1:1080/".parse().unwrap();
        let error = connect(&other, "web.whatsapp.com:443", &Names::default()).await.unwrap_err().to_string();
        assert!(error.contains("http:// alone"), "{error}");
    }

    #[test]
    fn escapes_are_taken_back_and_what_is_none_stays() {
        for (text, plain) in [("a:b", "a:b"), ("a%3Ab%40", "a:b@"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("ä", "ä")]
        {
            assert_eq!(unescaped(text), plain.as_bytes(), "{text}");
        }
    }
}
