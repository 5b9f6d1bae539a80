//! The document, and a small page to try it: our own files, no others, so that it works without a network and under a strict
//! policy. It shows nothing that is not public.

use axum::{
    Router,
    http::{HeaderName, header},
    response::IntoResponse,
    routing::get,
};

use super::state::Shared;

/// Nothing from anywhere else.
const POLICY: (HeaderName, &str) = (
    header::CONTENT_SECURITY_POLICY,
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, kind), POLICY], text)
}

/// The document, and the page with its two files.
pub fn routes(document: String) -> Router<Shared> {
    let document: &'static str = Box::leak(document.into_boxed_str());
    Router::new()
        .route("/api/v1/openapi.json", get(move || async move { file("application/json", document) }))
        .route("/api/v1/docs", get(|| async { file("text/html; charset=utf-8", include_str!("page/page.html")) }))
        .route(
            "/api/v1/docs/page.js",
            get(|| async { file("text/javascript; charset=utf-8", include_str!("page/page.js")) }),
        )
        .route(
            "/api/v1/docs/page.css",
            get(|| async { file("text/css; charset=utf-8", include_str!("page/page.css")) }),
        )
}
