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
use super::{
    code::Code,
    failure::Failure,
    seats::{Seat, Seats},
};
use crate::bridge_api::LONGEST_TEXT;

/// Far more than any body here needs.
pub const LARGEST_BODY: usize = 64 << 10;
/// A larger body is read to its end, so that its sender hears why it is refused; one that is larger still is not.
const DISCARDED: usize = 4 << 20;
/// A message of the longest text, every character of which may take twelve bytes: an emoji that is written as two escapes.
pub const LARGEST_MESSAGE: usize = 12 * LONGEST_TEXT + (16 << 10);
/// A body that needs longer is not meant to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bodies that are longer than [`LARGEST_BODY`] are read at a time. Whoever sends many of them slowly would fill the gateway's
/// memory otherwise.
const LONG_BODIES: usize = 32;
/// How many of them one caller may have.
const LONG_BODIES_OF_A_CALLER: usize = 8;

/// The long bodies that are read at the moment.
pub struct LongBodies(Seats);

impl Default for LongBodies {
    fn default() -> Self {
        Self(Seats::new(LONG_BODIES, LONG_BODIES_OF_A_CALLER))
    }
}

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
    body_of(headers, body, LARGEST_BODY, || None).await
}

/// The same, of [`LARGEST_MESSAGE`] at most; a long one takes a seat of its caller.
///
/// # Errors
/// See [`body`]; or the caller has no seat left.
pub async fn long_body(
    headers: &HeaderMap,
    body: Body,
    LongBodies(seats): &LongBodies,
    caller: &str,
) -> Result<Option<String>, Failure> {
    body_of(headers, body, LARGEST_MESSAGE, || seats.take(caller).ok()).await
}

async fn body_of(
    headers: &HeaderMap,
    body: Body,
    most: usize,
    seat: impl Fn() -> Option<Seat>,
) -> Result<Option<String>, Failure> {
    let too_large = || Failure::new(Code::TooLarge, format!("the body must be at most {most} bytes long"));
    let said: Option<usize> = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if said.is_some_and(|length| length > DISCARDED) {
        return Err(too_large());
    }
    let Ok(read) = tokio::time::timeout(BODY_TIMEOUT, read(body, most, seat)).await else {
        return Err(bad(format!("the body did not arrive within {BODY_TIMEOUT:?}; send it again")));
    };
    let bytes = match read.map_err(|_| bad("the body did not arrive whole; send it again"))? {
        Read::Whole(bytes) => bytes,
        Read::TooLarge => return Err(too_large()),
        Read::NoSeat => {
            return Err(Failure::new(
                Code::RateLimited,
                format!(
                    "too many long messages arrive at once (read are {LONG_BODIES} at a time, {LONG_BODIES_OF_A_CALLER} of one caller); try \
                     this one again in a moment"
                ),
            ));
        }
    };
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

/// A body that was read.
enum Read {
    /// All of it.
    Whole(Vec<u8>),
    TooLarge,
    /// It is long, and there is no seat for another one.
    NoSeat,
}

/// All of a body, if it is not too large and there is a seat for a long one. Otherwise it is read on and thrown away, up to a limit: a
/// caller who is still sending does not hear an answer.
async fn read(body: Body, most: usize, take: impl Fn() -> Option<Seat>) -> Result<Read, axum::Error> {
    let (mut kept, mut seen, mut parts) = (Vec::new(), 0, body.into_data_stream());
    let (mut seat, mut no_seat) = (None, false);
    while let Some(part) = parts.next().await {
        let part = part?;
        seen += part.len();
        if seen > LARGEST_BODY && seen <= most && seat.is_none() && !no_seat {
            seat = take();
            no_seat = seat.is_none();
        }
        if seen > DISCARDED {
            break;
        }
        if seen > most || no_seat {
            kept = Vec::new();
        } else {
            kept.extend_from_slice(&part);
        }
    }
    Ok(match (seen <= most, no_seat) {
        (false, _) => Read::TooLarge,
        (true, true) => Read::NoSeat,
        (true, false) => Read::Whole(kept),
    })
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

    /// A body of so many bytes that does not end before `end` says so.
    fn slow(length: usize, end: tokio::sync::oneshot::Receiver<()>) -> Body {
        let first = futures::stream::iter([Ok::<_, axum::Error>(vec![b' '; length])]);
        let last = futures::stream::once(async move {
            let _ = end.await;
            Ok(b"{}".to_vec())
        });
        Body::from_stream(first.chain(last))
    }

    #[tokio::test]
    async fn one_caller_has_a_part_of_the_seats_for_long_bodies_and_gives_them_back() {
        let json: HeaderMap =
            [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
        let seats = LongBodies::default();
        let read = |caller: &'static str, body: Body| long_body(&json, body, &seats, caller);
        let (mut ends, mut under_way) = (Vec::new(), Vec::new());
        for _ in 0..LONG_BODIES_OF_A_CALLER {
            let (end, ended) = tokio::sync::oneshot::channel();
            ends.push(end);
            let mut reading = Box::pin(read("greedy", slow(LARGEST_BODY + 1, ended)));
            assert!(futures::poll!(&mut reading).is_pending());
            under_way.push(reading);
        }
        let long = || Body::from(vec![b' '; LARGEST_BODY + 1]);
        let refused = read("greedy", long()).await.unwrap_err();
        assert!(
            refused.code == Code::RateLimited && refused.message.contains("32 at a time, 8 of one caller"),
            "{}",
            refused.message
        );
        // Neither others nor what is short are held up.
        assert!(read("other", long()).await.unwrap().is_some());
        assert_eq!(read("greedy", Body::from("{}")).await.unwrap().as_deref(), Some("{}"));
        ends.into_iter().for_each(drop);
        for body in futures::future::join_all(under_way).await {
            assert!(body.unwrap().unwrap().ends_with("{}"));
        }
        assert!(read("greedy", long()).await.unwrap().is_some());
    }
}
