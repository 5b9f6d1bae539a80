//! Bodies that were not read when their request was refused: for its token, its rate, its path or its parameters. A connection that is closed
//! on somebody who is still sending loses the answer; they hear of a broken connection, and try again at once.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, HttpBody as _},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use futures::{Stream as _, StreamExt as _, stream::poll_fn};
use tokio::time::timeout;

use super::input::LARGEST_MESSAGE;
use crate::platform::lock;

/// How long the rest of a body may take before its sender is answered all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// A request's body, shared by its handler and by what reads the rest of it afterwards.
struct Unread {
    parts: BodyDataStream,
    begun: bool,
}

/// Around every request: reads and throws away the body of one that was refused without it, up to what any request may have.
pub async fn hear_out(request: Request, next: Next) -> Response {
    let most = LARGEST_MESSAGE as u64;
    // A client that sends `Expect: 100-continue` (RFC 9110, section 10.1.1) hears the refusal, and sends no body.
    let asks = request.headers().contains_key(header::EXPECT);
    if asks || request.body().is_end_stream() || request.body().size_hint().lower() > most {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let shared = Arc::new(Mutex::new(Unread { parts: body.into_data_stream(), begun: false }));
    let given = {
        let shared = Arc::clone(&shared);
        Body::from_stream(poll_fn(move |context| {
            let mut shared = lock(&shared);
            shared.begun = true;
            Pin::new(&mut shared.parts).poll_next(context)
        }))
    };
    let response = next.run(Request::from_parts(head, given)).await;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    if refused && !lock(&shared).begun {
        let mut rest = poll_fn(|context| Pin::new(&mut lock(&shared).parts).poll_next(context));
        let mut left = LARGEST_MESSAGE;
        let read = async {
            while let Some(Ok(part)) = rest.next().await {
                left = left.saturating_sub(part.len());
                if left == 0 {
                    break;
                }
            }
        };
        let _ = timeout(PATIENCE, read).await;
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, middleware::from_fn, routing::post};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// How long something that takes milliseconds may take on a busy machine.
    const SOON: Duration = Duration::from_secs(30);

    async fn connection() -> TcpStream {
        let routes = Router::new()
            .route("/refused", post(async || StatusCode::UNAUTHORIZED))
            .route("/read", post(async |body: String| body.len().to_string()))
            .layer(from_fn(hear_out));
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        tokio::spawn(axum::serve(tcp, routes).into_future());
        TcpStream::connect(address).await.unwrap()
    }

    fn head(path: &str, more: &str) -> String {
        format!("POST /{path} HTTP/1.1\r\nhost: a\r\n{more}\r\n\r\n")
    }

    /// What is answered to this, up to `end`.
    async fn answer(connection: &mut TcpStream, sent: &str, end: &str) -> String {
        let answered = async {
            connection.write_all(sent.as_bytes()).await.unwrap();
            let (mut answer, mut part) = (String::new(), [0; 1024]);
            while !answer.ends_with(end) {
                let read = connection.read(&mut part).await.unwrap();
                assert!(read > 0, "the connection is closed after {answer:?}");
                answer.push_str(std::str::from_utf8(&part[..read]).unwrap());
            }
            answer
        };
        timeout(SOON, answered).await.unwrap()
    }

    #[tokio::test]
    async fn whoever_is_refused_while_they_send_hears_why_and_keeps_the_connection() {
        let mut connection = connection().await;
        let long = |path: &str| head(path, "content-length: 300000") + &"x".repeat(300_000);
        for _ in 0..2 {
            let answer = answer(&mut connection, &long("refused"), "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        }
        assert!(answer(&mut connection, &long("read"), "300000").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn whoever_asks_first_or_never_sends_is_answered_all_the_same() {
        let asks = head("refused", "content-length: 300000\r\nexpect: 100-continue");
        let answered = answer(&mut connection().await, &asks, "\r\n\r\n").await;
        assert!(answered.starts_with("HTTP/1.1 401"), "{answered}");
        let never = head("refused", "content-length: 300000");
        let answered = answer(&mut connection().await, &never, "\r\n\r\n").await;
        assert!(answered.starts_with("HTTP/1.1 401"), "{answered}");
    }
}
