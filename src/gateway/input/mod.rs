//! What callers send, read strictly: every field and parameter is known, of its type, and there once. A typo that was
//! ignored would be a wish that silently does not come true.

mod fields;
mod names;
mod parameters;

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
};
use futures::StreamExt as _;

pub use self::{
    fields::{Fields, display_name},
    names::{is_label, is_object_name},
    parameters::{LONGEST_WAIT, Parameters, digits},
};
use super::{code::Code, failure::Failure};
use crate::bridge_api::LONGEST_TEXT;

/// Far more than any body here needs.
pub const LARGEST_BODY: usize = 64 << 10;
/// A larger body is read to its end, so that its sender hears why it is refused; one that is larger still is not.
const DISCARDED: usize = 4 << 20;
/// A message of the longest text, every character of which may take twelve bytes: an emoji that is written as two escapes.
pub const LARGEST_MESSAGE: usize = 12 * LONGEST_TEXT + (16 << 10);
/// A body that needs longer is not meant to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(Code::BadRequest, message)
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Code::Invalid, message)
}

/// The text of a JSON body; nothing when there is none.
///
/// # Errors
/// When it is too large, too slow, not said to be JSON, or not UTF-8.
pub async fn body(headers: &HeaderMap, body: Body) -> Result<Option<String>, Failure> {
    body_of(headers, body, LARGEST_BODY).await
}

/// The same, of so many bytes at most.
///
/// # Errors
/// See [`body`].
pub async fn body_of(headers: &HeaderMap, body: Body, most: usize) -> Result<Option<String>, Failure> {
    let too_large = || Failure::new(Code::TooLarge, format!("the body must be at most {most} bytes long"));
    let said: Option<usize> = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if said.is_some_and(|length| length > DISCARDED) {
        return Err(too_large());
    }
    let Ok(read) = tokio::time::timeout(BODY_TIMEOUT, read(body, most)).await else {
        return Err(bad(format!("the body did not arrive within {BODY_TIMEOUT:?}; send it again")));
    };
    let bytes = read.map_err(|_| bad("the body did not arrive whole; send it again"))?.ok_or_else(too_large)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let kind = kinds.next().and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") || kinds.next().is_some() {
        return Err(Failure::new(
            Code::UnsupportedMediaType,
            "the body must be JSON; send it with the header Content-Type: application/json",
        ));
    }
    let is_plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain) {
        return Err(Failure::new(
            Code::UnsupportedMediaType,
            "the body must not be compressed; send it without the header Content-Encoding",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad("the body must be UTF-8"))?;
    // Some programs begin with a byte order mark, which RFC 8259 (section 8.1) lets a reader ignore.
    Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}

/// All of a body; none when it is too large. Then it is read on and thrown away, up to a limit: a caller who is still sending
/// does not hear an answer.
async fn read(body: Body, most: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let (mut kept, mut seen, mut parts) = (Vec::new(), 0, body.into_data_stream());
    while let Some(part) = parts.next().await {
        let part = part?;
        seen += part.len();
        if seen <= most {
            kept.extend_from_slice(&part);
        } else if seen > DISCARDED {
            break;
        }
    }
    Ok((seen <= most).then_some(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_has_a_size_a_kind_and_an_encoding() {
        let headers = |pairs: &[(&str, &str)]| -> HeaderMap {
            pairs.iter().map(|(k, v)| (k.parse::<header::HeaderName>().unwrap(), v.parse().unwrap())).collect()
        };
        let json = headers(&[("content-type", "application/json; charset=utf-8")]);
        assert_eq!(body(&json, Body::from("{}")).await.unwrap().as_deref(), Some("{}"));
        assert_eq!(body(&json, Body::from("\u{feff}{}")).await.unwrap().as_deref(), Some("{}"));
        let plain = headers(&[("content-type", "Application/JSON"), ("content-encoding", "Identity")]);
        assert_eq!(body(&plain, Body::from("{}")).await.unwrap().as_deref(), Some("{}"));
        let packed = headers(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
        assert_eq!(body(&packed, Body::from("x")).await.unwrap_err().code, Code::UnsupportedMediaType);
        assert_eq!(body(&HeaderMap::new(), Body::empty()).await.unwrap(), None);
        let code = async |headers: HeaderMap, text: Vec<u8>| body(&headers, Body::from(text)).await.unwrap_err().code;
        assert_eq!(code(HeaderMap::new(), b"{}".to_vec()).await, Code::UnsupportedMediaType);
        assert_eq!(code(headers(&[("content-type", "text/json")]), b"{}".to_vec()).await, Code::UnsupportedMediaType);
        assert_eq!(code(json.clone(), vec![b' '; LARGEST_BODY + 1]).await, Code::TooLarge);
        assert_eq!(code(headers(&[("content-length", "99999999")]), Vec::new()).await, Code::TooLarge);
        assert_eq!(code(json, b"{\"name\":\"\xff\"}".to_vec()).await, Code::BadRequest);
    }
}
