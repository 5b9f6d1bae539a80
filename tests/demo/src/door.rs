//! The way into the dashboard without a token in anybody's hands: an address that signs the browser in and leads there.

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use tokio::net::TcpListener;
use whatsapp_operator::gateway::cookie;

/// Serves it on a free port for as long as the demo runs; the address, which holds a word that nobody guesses.
///
/// Cookies belong to a host whatever the port, so one that is set here is sent to the gateway beside it.
pub async fn open(gateway: &str, token: String) -> String {
    let word = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let host = gateway.rsplit('/').next().expect("an address has a host").to_owned();
    let page = format!("{gateway}/dashboard");
    let enter = move || async move { entered(&host, &token, &page) };
    let router = Router::new().route(&format!("/{word}"), get(enter));
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = tcp.local_addr().expect("the port");
    tokio::spawn(async move { axum::serve(tcp, router).await });
    format!("http://{address}/{word}")
}

fn entered(host: &str, token: &str, page: &str) -> Response {
    let at = HeaderMap::from_iter([(header::HOST, host.parse().expect("a host"))]);
    match cookie::set(&at, token, false) {
        Some(value) => ([(header::SET_COOKIE, value)], Redirect::to(page)).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
