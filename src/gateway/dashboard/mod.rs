//! The dashboard: what people see in a browser. The gateway only serves its files; the page asks the same public routes as
//! any other caller, with the cookie of [`account`](super::account), and works without a network beyond the gateway.
//!
//! The sources are in `web/`, as browsers run them: no bundler, no build. `web/vendor` holds three files of a small library,
//! fetched and checked by `web/vendor/fetch`.

mod assets;

use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};

use super::{code::Code, edge::PartOfAPage, failure::Failure, state::Shared};
use assets::{Asset, Assets};

/// Nothing from anywhere else, nothing inline, no text that becomes code, no frame around it.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";
/// What the page may use of a device: nothing but the clipboard, to copy ids to.
const PERMISSIONS: (HeaderName, &str) = (
    HeaderName::from_static("permissions-policy"),
    "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=(), clipboard-write=(self)",
);
/// The address of such a file changes with its content.
const FOR_EVER: &str = "max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::pack);

/// The page and its files.
pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(|| async { Redirect::to("/dashboard") }))
        .route("/dashboard", get(|headers| async { page(&ASSETS.page, headers) }))
        // For whoever has a linking link, and no account.
        .route("/dashboard/link", get(|headers| async { page(&ASSETS.link, headers) }))
        .route("/dashboard/assets/{version}/{*name}", get(file))
}

fn page(page: &'static Asset, headers: HeaderMap) -> Response {
    let mut response = answer(page, &headers, ASK_AGAIN);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    let (name, value) = PERMISSIONS;
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

/// A file of this version for ever; of another one, as while replicas of two releases answer, what there is.
async fn file(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Result<Response, Failure> {
    let asset = ASSETS.get(&name).ok_or_else(|| Failure::new(Code::NoSuchRoute, "the dashboard has no such file"))?;
    let keep = if version == ASSETS.version { FOR_EVER } else { ASK_AGAIN };
    let mut response = answer(asset, &headers, keep);
    response.extensions_mut().insert(PartOfAPage);
    Ok(response)
}

fn answer(asset: &'static Asset, asked: &HeaderMap, keep: &'static str) -> Response {
    let has = |name: HeaderName, wanted: &str| {
        let values = asked.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| {
            let (value, weight) = value.split_once(';').unwrap_or((value, ""));
            let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
            // A proxy that packs a file anew makes its tag a weak one, which is the same to this question (RFC 9110, 13.1.2).
            value.trim().trim_start_matches("W/") == wanted && weight != Some(0.0)
        })
    };
    let common = [(header::CACHE_CONTROL, keep), (header::VARY, "Accept-Encoding"), (header::CONTENT_TYPE, asset.kind)];
    // What is kept for ever is not asked for again.
    let tag = (keep == ASK_AGAIN).then_some([(header::ETAG, asset.tag.as_str())]);
    if has(header::IF_NONE_MATCH, &asset.tag) {
        (StatusCode::NOT_MODIFIED, tag, common).into_response()
    } else if has(header::ACCEPT_ENCODING, "gzip") {
        (tag, common, [(header::CONTENT_ENCODING, "gzip")], asset.packed.as_slice()).into_response()
    } else {
        (tag, common, asset.plain.as_slice()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, value: &str) -> HeaderMap {
        [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect()
    }

    #[tokio::test]
    async fn a_file_is_sent_packed_once_and_kept() {
        let name = || Path((ASSETS.version.clone(), "start.js".to_owned()));
        let plain = file(name(), HeaderMap::new()).await.unwrap();
        assert_eq!(plain.headers()[header::CACHE_CONTROL], FOR_EVER);
        assert!(plain.headers().get(header::CONTENT_ENCODING).is_none());
        let packed = file(name(), asked("accept-encoding", "br, gzip;q=0.8")).await.unwrap();
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        let unpacked = file(name(), asked("accept-encoding", "gzip;q=0, identity")).await.unwrap();
        assert!(unpacked.headers().get(header::CONTENT_ENCODING).is_none());
        let of_another_version = || Path(("old".into(), "start.js".into()));
        let old = file(of_another_version(), HeaderMap::new()).await.unwrap();
        assert_eq!(old.headers()[header::CACHE_CONTROL], ASK_AGAIN);
        let tag = old.headers()[header::ETAG].to_str().unwrap();
        let kept = file(of_another_version(), asked("if-none-match", tag)).await.unwrap();
        assert_eq!(kept.status(), StatusCode::NOT_MODIFIED);
        assert!(file(Path(("old".into(), "../mod.rs".into())), HeaderMap::new()).await.is_err());
    }

    #[tokio::test]
    async fn the_page_has_a_strict_policy() {
        let page = page(&ASSETS.page, HeaderMap::new());
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(!policy.contains("unsafe"), "{policy}");
        let trusted = "require-trusted-types-for 'script'; trusted-types 'none'";
        for part in ["default-src 'self'", "frame-ancestors 'none'", trusted] {
            assert!(policy.contains(part), "{policy}");
        }
        assert_eq!(page.headers()[header::CACHE_CONTROL], ASK_AGAIN);
    }
}
