//! Questions to the API server that are asked again when their connection breaks before the answer begins.
//!
//! An API server that is replaced, and a load balancer that has seen nothing for its idle time, close connections that are kept for
//! the next request. One that is sent in that moment comes to nothing. What only asks may be asked again, which is what Go's HTTP
//! client does by itself: kubectl and every controller in Go have it. Of a write it is not known whether it was made; who makes it
//! decides.

use std::time::{Duration, Instant};

use axum::http::{Method, Request, Response, header, request::Parts};
use kube::{Client, Error, client::Body};
use tower::{Layer as _, timeout::TimeoutLayer};

use super::{causes::causes, credentials::of_credentials};

/// How often a question is asked again. Several connections may have been closed, and each is found out by asking.
const AGAIN: usize = 4;
/// And for how long: a connection that is closed shows at once. What takes longer to fail, such as an address at which nobody is, would
/// only take longer still.
const WITHIN: Duration = Duration::from_secs(3);

/// A client that asks again what `once` asks once, and waits for the head of an answer no longer than `limit` in all.
pub(super) fn client(once: Client, limit: Duration) -> Client {
    let (namespace, valid_until) = (once.default_namespace().to_owned(), *once.valid_until());
    let asked = tower::service_fn(move |request: Request<Body>| ask(once.clone(), request));
    Client::new(TimeoutLayer::new(limit).layer(asked), namespace).with_valid_until(valid_until)
}

async fn ask(client: Client, request: Request<Body>) -> Result<Response<Body>, Error> {
    let (head, body) = request.into_parts();
    if !only_asks(&head) {
        return client.send(Request::from_parts(head, body)).await;
    }
    let body = body.collect_bytes().await?;
    let (mut left, began) = (AGAIN, Instant::now());
    loop {
        match client.send(Request::from_parts(head.clone(), Body::from(body.clone()))).await {
            Err(error) if left > 0 && began.elapsed() < WITHIN && broke(&error) => {
                tracing::debug!("the API server is asked again: the connection broke before it answered");
                left -= 1;
            }
            answer => return answer,
        }
    }
}

/// Whether it was a connection that broke. Where none could be made, or no credentials could be had, asking again at once is no help.
fn broke(error: &Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    !causes(error).any(|error| {
        let kind = error.downcast_ref().map(std::io::Error::kind);
        let no_connection = matches!(kind, Some(ConnectionRefused | HostUnreachable | NetworkUnreachable | TimedOut));
        no_connection || of_credentials(error).is_some()
    })
}

/// Whether a request changes nothing: a read, but for one that turns into another protocol, or a question whose a token is and what they
/// may do.
fn only_asks(head: &Parts) -> bool {
    let path = head.uri.path();
    let reviews = ["/apis/authentication.k8s.io/", "/apis/authorization.k8s.io/"];
    (head.method == Method::GET && !head.headers.contains_key(header::UPGRADE))
        || (head.method == Method::POST && reviews.iter().any(|group| path.starts_with(group)))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, Config, api::PostParams, client::AuthError};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::platform::tokens;

    const LIMIT: Duration = Duration::from_secs(10);

    fn client_of(url: &str) -> Client {
        let mut config = Config::new(url.parse().unwrap());
        config.default_retry = false;
        client(Client::try_from(config).unwrap(), LIMIT)
    }

    /// Reads one request, of a few kilobytes at most. Whether there was one.
    async fn read(socket: &mut TcpStream) -> bool {
        let mut request = Vec::new();
        loop {
            let mut part = [0; 4096];
            match socket.read(&mut part).await {
                Ok(0) | Err(_) => return false,
                Ok(count) => request.extend_from_slice(&part[..count]),
            }
            let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return true;
            }
        }
    }

    /// An API server that keeps each connection after its first answer, and closes it when another request has come. It says how many
    /// requests came.
    async fn with_short_lived_connections() -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    if read(&mut socket).await {
                        count.fetch_add(1, Ordering::Relaxed);
                        let answer = r#"{"metadata":{"name":"one"},"spec":{"token":"t"},"status":{"authenticated":true,"user":{"username":"anna"}}}"#;
                        let head = format!(
                            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                            answer.len()
                        );
                        socket.write_all((head + answer).as_bytes()).await.unwrap();
                        if read(&mut socket).await {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        (client_of(&url), asked)
    }

    #[tokio::test]
    async fn a_question_whose_connection_is_closed_in_that_moment_is_asked_again() {
        let (client, asked) = with_short_lived_connections().await;
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), "ns");
        for _ in 0..3 {
            api.get("one").await.unwrap();
        }
        let user = tokens::user_of(&client, "t", &[], LIMIT).await.unwrap();
        assert_eq!(user.unwrap().username.as_deref(), Some("anna"));
        assert!(asked.load(Ordering::Relaxed) > 4, "no connection was closed");
    }

    #[tokio::test]
    async fn a_write_whose_connection_is_closed_in_that_moment_is_not_made_again() {
        let (client, asked) = with_short_lived_connections().await;
        let api: Api<ConfigMap> = Api::namespaced(client, "ns");
        api.get("one").await.unwrap();
        assert!(api.create(&PostParams::default(), &ConfigMap::default()).await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn nobody_is_asked_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let api: Api<ConfigMap> = Api::namespaced(client_of(&url), "ns");
        let error = api.get("one").await.unwrap_err();
        assert!(!broke(&error), "there was no connection that could break: {error:?}");
        let no_token = Error::Service(Box::new(AuthError::ExecPluginFailed));
        assert!(!broke(&no_token), "the plugin would run again");
    }
}
