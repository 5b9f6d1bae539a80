//! The dashboard behind a proxy that signs people in and passes their token, as oauth2-proxy does.

use std::sync::{Arc, Mutex};

use axum::{
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    dashboard::{card, start_browser},
    gateway::{named, world},
    support::{
        gateway::{ALL_VERBS, Rest, account},
        relay::passed_on,
    },
};

/// Passes on what signed-in people ask for, and leads all others to a page of its own, which is elsewhere.
struct SigningProxy {
    url: String,
    /// Cancelled when the session ends. None while nobody is signed in.
    session: Arc<Mutex<Option<CancellationToken>>>,
}

impl SigningProxy {
    async fn start(gateway: &str, token: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = kube::Config::new(gateway.parse().unwrap());
        config.auth_info.token = Some(token.to_owned().into());
        let client = Client::try_from(config).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let session: Arc<Mutex<Option<CancellationToken>>> = Arc::default();
        let current = Arc::clone(&session);
        let app = axum::Router::new().fallback(move |request: Request| {
            let session = current.lock().unwrap().clone();
            passed(client.clone(), request, session)
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, session }
    }

    fn sign_in(&self) {
        *self.session.lock().unwrap() = Some(CancellationToken::new());
    }

    fn sign_out(&self) {
        self.session.lock().unwrap().take().unwrap().cancel();
    }
}

async fn passed(client: Client, request: Request, session: Option<CancellationToken>) -> Response {
    // The page's files are for everybody, as docs/security.md has it.
    let is_file = request.uri().path().starts_with("/dashboard/assets/");
    let Some(session) = session.or_else(|| is_file.then(CancellationToken::new)) else {
        return (StatusCode::FOUND, [(header::LOCATION, "http://127.0.0.1:1/sign-in")]).into_response();
    };
    let answer = passed_on(&client, request).await.unwrap_or_else(|said| said);
    answer.map(|body| Body::from_stream(body.into_data_stream().take_until(session.cancelled_owned())))
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_session_at_a_proxy_ends_the_page_says_so_and_loads_again_as_the_same_person() {
    let world = world("dashboard-proxy").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    rest.call(&token, "POST", "/api/v1/sessions/init/", named(&world, "Reception")).await;
    let proxy = SigningProxy::start(&rest.url, &token).await;
    proxy.sign_in();
    let browser = start_browser(&world.dir).await;
    // Everything is loaded, also what is shown only later.
    let live = "document.querySelector('.live.live') && document.querySelector(arguments[0]) \
                && performance.getEntriesByType('resource').some(one => one.name.endsWith('/sign_in.js') && one.responseEnd)";
    let card = card(&rest, &token, "Reception").await;
    let card = || [card.clone().into()];
    browser.open(&format!("{}/dashboard", proxy.url)).await;
    browser.until("it is live without a sign-in of its own", live, &card()).await;

    // The stream is cut, and the proxy takes the next request for it to its own page.
    proxy.sign_out();
    browser.find("dialog[open]").await;
    assert!(browser.text("dialog").await.contains("Reload the page"));
    browser.inspect("session-ended-at-a-proxy").await;
    for _ in 0..4 {
        browser.escape().await;
    }
    browser.until("it is still said", "document.querySelector('dialog')?.matches(':modal')", &[]).await;
    proxy.sign_in();
    browser.press_button("dialog", "Reload").await;
    browser.until("it is live again", live, &card()).await;

    // Whatever else is asked for tells as well, before the stream does: a button, or what the page asks for when it is loaded.
    let session = proxy.session.lock().unwrap().take().unwrap();
    let press =
        "[...document.querySelectorAll('.card button')].find(one => one.textContent.includes('Refresh QR')).click()";
    browser.run(press, &[]).await;
    browser.find("dialog[open]").await;
    session.cancel();
    proxy.sign_in();
    browser.press_button("dialog", "Reload").await;
    browser.until("it is live again", live, &card()).await;
    browser.close().await;
    rest.nothing_leaked(&world, &[], &[&token]).await;
}
