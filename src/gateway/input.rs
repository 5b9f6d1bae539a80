//! What callers send, read strictly: every field and parameter is known, of its type, and there once. A typo that was
//! ignored would be a wish that silently does not come true.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Query,
    http::{HeaderMap, Uri, header},
};
use futures::StreamExt as _;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{code::Code, failure::Failure};
use crate::bridge_api::LONGEST_TEXT;
use crate::rules::{ComparableName, text};

/// Far more than any body here needs.
pub const LARGEST_BODY: usize = 64 << 10;
/// A larger body is read to its end, so that its sender hears why it is refused; one that is larger still is not.
const DISCARDED: usize = 4 << 20;
/// A message of the longest text, every character of which may take six bytes.
pub const LARGEST_MESSAGE: usize = 6 * LONGEST_TEXT + (16 << 10);
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
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|encoding| encoding != "identity") {
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

/// The fields of a JSON object, each once.
#[derive(Debug)]
pub struct Fields {
    /// What stands before a field's name in a sentence, for example `pairing.`.
    within: String,
    fields: Vec<(String, Box<RawValue>)>,
}

impl Fields {
    /// The object in a body, which may have these fields and no others.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(text: Option<&str>, allowed: &[&str]) -> Result<Self, Failure> {
        let text =
            text.ok_or_else(|| bad(format!("the body is missing; send a JSON object with {}", listed(allowed))))?;
        Self::parse(text, String::new(), allowed)
    }

    /// Nothing, or an empty object: for requests that say everything by their path.
    ///
    /// # Errors
    /// When there is something in it.
    pub fn none(text: Option<&str>) -> Result<(), Failure> {
        text.map_or(Ok(()), |text| Self::parse(text, String::new(), &[]).map(drop))
    }

    fn parse(text: &str, within: String, allowed: &[&str]) -> Result<Self, Failure> {
        let what =
            if within.is_empty() { "the body".to_owned() } else { format!("field {:?}", within.trim_end_matches('.')) };
        let Pairs(fields) = serde_json::from_str(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data if !within.is_empty() => invalid(format!("{what} must be a JSON object")),
            serde_json::error::Category::Data => bad(format!("{what} must be a JSON object")),
            _ => bad(format!("{what} is no valid JSON (line {}, column {})", error.line(), error.column())),
        })?;
        for (at, (name, _)) in fields.iter().enumerate() {
            if !allowed.contains(&name.as_str()) {
                let rule = if allowed.is_empty() {
                    "it has no fields".to_owned()
                } else {
                    format!("it may have {}", listed(allowed))
                };
                return Err(bad(format!("{what} has an unknown field {:?}; {rule}", shortened(name))));
            }
            if fields[..at].iter().any(|(before, _)| before == name) {
                return Err(bad(format!("field {:?} is given twice; give it once", format!("{within}{name}"))));
            }
        }
        Ok(Self { within, fields })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.get())
    }

    fn typed<'a, T: Deserialize<'a>>(&'a self, name: &str, must: &str) -> Result<Option<T>, Failure> {
        let wrong = |_| invalid(format!("field {:?} must be {must}", format!("{}{name}", self.within)));
        self.get(name).map(|text| serde_json::from_str(text).map_err(wrong)).transpose()
    }

    /// A string.
    ///
    /// # Errors
    /// When it is something else, or longer or shorter than `length` allows (in characters).
    pub fn text(&self, name: &str, length: (usize, usize)) -> Result<Option<String>, Failure> {
        let (least, most) = length;
        let text: Option<String> = self.typed(name, "a string")?;
        if text.as_ref().is_some_and(|text| !(least..=most).contains(&text.chars().count())) {
            let name = format!("{}{name}", self.within);
            return Err(invalid(format!("field {name:?} must be {least} to {most} characters long")));
        }
        Ok(text)
    }

    /// A string that must be there.
    ///
    /// # Errors
    /// When it is not, or see [`Self::text`].
    pub fn required(&self, name: &str, length: (usize, usize)) -> Result<String, Failure> {
        self.text(name, length)?
            .ok_or_else(|| invalid(format!("field {:?} is missing", format!("{}{name}", self.within))))
    }

    /// A list of strings that must be there.
    ///
    /// # Errors
    /// When it is something else, holds fewer or more than `count` allows, or one that is longer or shorter than `length` allows (in
    /// characters).
    pub fn texts(&self, name: &str, count: (usize, usize), length: (usize, usize)) -> Result<Vec<String>, Failure> {
        let must = format!("a list of {} to {} strings", count.0, count.1);
        let missing = || invalid(format!("field {:?} is missing", format!("{}{name}", self.within)));
        let texts: Vec<String> = self.typed(name, &must)?.ok_or_else(missing)?;
        let name = format!("{}{name}", self.within);
        if !(count.0..=count.1).contains(&texts.len()) {
            return Err(invalid(format!("field {name:?} must be {must}")));
        }
        if !texts.iter().all(|text| (length.0..=length.1).contains(&text.chars().count())) {
            return Err(invalid(format!(
                "in field {name:?} each must be {} to {} characters long",
                length.0, length.1
            )));
        }
        Ok(texts)
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is something else, or outside these bounds.
    pub fn number(&self, name: &str, (least, most): (u64, u64)) -> Result<Option<u64>, Failure> {
        let must = format!("a whole number from {least} to {most}");
        let number: Option<u64> = self.typed(name, &must)?;
        if number.is_some_and(|number| !(least..=most).contains(&number)) {
            return Err(invalid(format!("field {:?} must be {must}", format!("{}{name}", self.within))));
        }
        Ok(number)
    }

    /// True or false.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.typed(name, "true or false")
    }

    /// An object with these fields and no others.
    ///
    /// # Errors
    /// When it is something else.
    pub fn object(&self, name: &str, allowed: &[&str]) -> Result<Option<Self>, Failure> {
        self.get(name).map(|text| Self::parse(text, format!("{}{name}.", self.within), allowed)).transpose()
    }
}

/// The field `name` as a display name: what the rules say of it is said before the API server's schema says less.
///
/// # Errors
/// When it is none.
pub fn display_name(fields: &Fields) -> Result<String, Failure> {
    let name = fields.required("name", (1, 100))?;
    text::check_name(&name)?;
    if ComparableName::of(&name).is_blank() {
        return Err(Failure::new(
            Code::NameBlank,
            "field \"name\" must not be blank; give 1 to 100 characters that show",
        ));
    }
    Ok(name)
}

/// A JSON object as it stands there: nothing is lost that stands there twice.
#[derive(Debug)]
struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A number in digits, and nothing else: no sign, no white space.
pub fn digits(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

fn listed(names: &[&str]) -> String {
    names.join(", ")
}

/// Enough of a stranger's word to recognise it by.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The parameters of a query.
#[derive(Debug, Default)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of `uri`, which may have these and no others.
    ///
    /// # Errors
    /// When there are others, or one is there twice.
    pub fn of(uri: &Uri, allowed: &[&str]) -> Result<Self, Failure> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| bad("the query cannot be read"))?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !allowed.contains(&name.as_str()) {
                let rule = if allowed.is_empty() {
                    "there are none here".to_owned()
                } else {
                    format!("known here: {}", listed(allowed))
                };
                return Err(bad(format!("unknown query parameter {:?}; {rule}", shortened(name))));
            }
            if pairs[..at].iter().any(|(before, _)| before == name) {
                return Err(bad(format!("query parameter {name:?} is given twice; give it once")));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A number that is not negative.
    ///
    /// # Errors
    /// When it is something else.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let must = || bad(format!("query parameter {name:?} must be a number that is not negative"));
        self.get(name).map(|text| digits(text).ok_or_else(must)).transpose()
    }

    /// True or false.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        let must = || bad(format!("query parameter {name:?} must be true or false"));
        self.get(name).map(|text| text.parse().map_err(|_| must())).transpose()
    }

    /// An owner.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn owner(&self) -> Result<Option<&str>, Failure> {
        match self.get("owner") {
            Some("") => Err(bad(
                "query parameter \"owner\" must not be empty; leave it out for your own sessions, or give * for everybody's",
            )),
            Some(owner) if owner.chars().count() > LONGEST_OWNER => {
                Err(bad(format!("query parameter \"owner\" must be at most {LONGEST_OWNER} characters long")))
            }
            owner => Ok(owner),
        }
    }

    /// `wait`: how long the answer may take, in whole seconds.
    ///
    /// # Errors
    /// When it is no such number.
    pub fn wait(&self, default: u64) -> Result<Duration, Failure> {
        let text = self.get("wait");
        let seconds = text.map_or(Some(default), digits);
        let fits = seconds.filter(|seconds| *seconds <= LONGEST_WAIT);
        let must = || bad(format!("query parameter \"wait\" must be whole seconds from 0 to {LONGEST_WAIT}"));
        fits.map(Duration::from_secs).ok_or_else(must)
    }

    /// A namespace.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn namespace(&self) -> Result<Option<&str>, Failure> {
        match self.get("namespace") {
            Some(name) if !is_label(name) => Err(bad(
                "query parameter \"namespace\" must be the name of a namespace: lower case letters, digits and '-', at most 63",
            )),
            name => Ok(name),
        }
    }
}

/// The longest owner that an instance may have.
const LONGEST_OWNER: usize = 253;

/// The longest a caller may ask an answer to take; it takes less than that, see [`Story::until`](super::story::Story::until).
pub const LONGEST_WAIT: u64 = 60;

/// A DNS label: what a namespace may be called.
pub fn is_label(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

/// A DNS subdomain: what an object may be called.
pub fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALLOWED: &[&str] = &["name", "primary", "pairing"];

    fn refused(text: &str) -> (Code, String) {
        let fields = Fields::of(Some(text), ALLOWED);
        let failure = fields
            .and_then(|fields| {
                fields.required("name", (1, 5))?;
                fields.flag("primary")?;
                fields.object("pairing", &["method"])?.map(|pairing| pairing.required("method", (1, 9))).transpose()
            })
            .unwrap_err();
        (failure.code, failure.message)
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field_and_rule() {
        for (text, code, says) in [
            ("", Code::BadRequest, "no valid JSON (line 1, column 0)"),
            ("[]", Code::BadRequest, "the body must be a JSON object"),
            ("{\"name\":\"a\"", Code::BadRequest, "no valid JSON"),
            ("{\"name\":\"a\"} x", Code::BadRequest, "no valid JSON"),
            ("{\"name\":\"\\ud800\"}", Code::Invalid, "field \"name\" must be a string"),
            ("{}", Code::Invalid, "field \"name\" is missing"),
            ("{\"name\":7}", Code::Invalid, "field \"name\" must be a string"),
            ("{\"name\":null}", Code::Invalid, "field \"name\" must be a string"),
            ("{\"name\":\"\"}", Code::Invalid, "field \"name\" must be 1 to 5 characters long"),
            ("{\"name\":\"sechse\"}", Code::Invalid, "1 to 5"),
            ("{\"name\":\"a\",\"name\":\"b\"}", Code::BadRequest, "field \"name\" is given twice"),
            (
                "{\"name\":\"a\",\"nmae\":\"b\"}",
                Code::BadRequest,
                "unknown field \"nmae\"; it may have name, primary, pairing",
            ),
            ("{\"name\":\"a\",\"primary\":\"yes\"}", Code::Invalid, "field \"primary\" must be true or false"),
            ("{\"name\":\"a\",\"pairing\":[]}", Code::Invalid, "field \"pairing\" must be a JSON object"),
            ("{\"name\":\"a\",\"pairing\":{}}", Code::Invalid, "field \"pairing.method\" is missing"),
            (
                "{\"name\":\"a\",\"pairing\":{\"method\":\"a\",\"method\":\"a\"}}",
                Code::BadRequest,
                "field \"pairing.method\" is given twice",
            ),
            (
                "{\"name\":\"a\",\"pairing\":{\"x\":1}}",
                Code::BadRequest,
                "field \"pairing\" has an unknown field \"x\"",
            ),
        ] {
            let (found, said) = refused(text);
            assert!(found == code && said.contains(says), "{text}: {found:?} {said}");
        }
        assert!(Fields::of(None, ALLOWED).unwrap_err().message.contains("the body is missing"));
        assert!(
            Fields::none(None).is_ok() && Fields::none(Some("{}")).is_ok() && Fields::none(Some("{\"a\":1}")).is_err()
        );
    }

    #[test]
    fn digits_are_a_number_and_nothing_else_is() {
        assert_eq!(digits("42"), Some(42));
        for bad in ["", "+42", "-1", "4x", " 4", "?", "99999999999999999999999"] {
            assert_eq!(digits(bad), None, "{bad}");
        }
    }

    #[test]
    fn parameters_are_known_and_given_once() {
        let of = |query: &str| Parameters::of(&format!("/a?{query}").parse().unwrap(), &["wait", "namespace"]);
        assert_eq!(of("wait=7").unwrap().wait(10).unwrap(), Duration::from_secs(7));
        assert_eq!(of("").unwrap().wait(10).unwrap(), Duration::from_secs(10));
        for bad in ["wait=61", "wait=", "wait=-1", "wait=%2B1", "wait=1.5", "wait=1e1", "wait=99999999999999999999"] {
            assert!(of(bad).unwrap().wait(10).is_err(), "{bad}");
        }
        assert!(of("wait=1&wait=1").unwrap_err().message.contains("twice"));
        assert!(of("wiat=1").unwrap_err().message.contains("known here: wait, namespace"));
        assert!(of("namespace=A_b").unwrap().namespace().is_err());
        assert_eq!(of("namespace=a-b").unwrap().namespace().unwrap(), Some("a-b"));
    }

    #[tokio::test]
    async fn a_body_has_a_size_a_kind_and_an_encoding() {
        let headers = |pairs: &[(&str, &str)]| -> HeaderMap {
            pairs.iter().map(|(k, v)| (k.parse::<header::HeaderName>().unwrap(), v.parse().unwrap())).collect()
        };
        let json = headers(&[("content-type", "application/json; charset=utf-8")]);
        assert_eq!(body(&json, Body::from("{}")).await.unwrap().as_deref(), Some("{}"));
        assert_eq!(body(&json, Body::from("\u{feff}{}")).await.unwrap().as_deref(), Some("{}"));
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

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = Fields::of(Some(&text), ALLOWED).map(|fields| (fields.text("name", (1, 5)), fields.object("pairing", &[])));
        }
    }
}
