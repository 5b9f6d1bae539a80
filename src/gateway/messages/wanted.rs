//! What a request to send asks for, read out of its body.

use super::route::Routing;
use crate::{
    bridge_api::{LONGEST_TEXT, Recipient, RecipientKey, check_text},
    gateway::{code::Code, failure::Failure, input::Fields},
};

/// How many seconds a message may wait when the caller does not say.
const EXPIRES_IN: u64 = 24 * 3600;
/// How many seconds a message may wait at most: a bridge takes no more.
pub const LONGEST_EXPIRY: u64 = 30 * 24 * 3600;

/// What is asked for.
pub struct Wanted {
    /// Who is to get it, without layout.
    pub recipient: String,
    /// The same however the recipient is written.
    pub key: RecipientKey,
    /// The text.
    pub text: String,
    /// The session to send through, if the caller names one.
    pub session: Option<String>,
    /// Which session sends if the caller names none.
    pub routing: Routing,
    /// For how many seconds the message may wait.
    pub expires_in: u64,
}

/// Reads a body.
///
/// # Errors
/// When a field is missing, unknown, or has a value that it must not have.
pub fn wanted(text: Option<&str>) -> Result<Wanted, Failure> {
    let fields = Fields::of(text, &["recipient", "message", "session_id", "routing", "expires_in"])?;
    let invalid = |message: &str| Failure::new(Code::Invalid, message);
    let recipient = fields.required("recipient", (1, 64))?;
    let key = Recipient::parse(&recipient).map_err(|bad| invalid(&bad.to_string()))?.key();
    let text = fields.required("message", (1, LONGEST_TEXT))?;
    check_text(&text).map_err(|bad| invalid(&format!("field \"message\" {bad}")))?;
    let session = fields.text("session_id", (1, 253))?;
    let routing = match fields.text("routing", (1, 20))?.as_deref() {
        None | Some("primary") => Routing::Primary,
        Some("balanced") => Routing::Balanced,
        Some(_) => return Err(invalid("field \"routing\" must be primary or balanced")),
    };
    let expires_in = fields.number("expires_in", (1, LONGEST_EXPIRY))?.unwrap_or(EXPIRES_IN);
    let recipient = Recipient::plain(&recipient);
    Ok(Wanted { recipient, key, text, session, routing, expires_in })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_strictly() {
        let code = |text: &str| wanted(Some(text)).err().map(|failure| failure.code);
        assert_eq!(code(r#"{"recipient":"+15551234567","message":"Hi"}"#), None);
        for (text, expected) in [
            (r#"{"message":"Hi"}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567"}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":" "}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":"a\u0000"}"#, Code::Invalid),
            (r#"{"recipient":5,"message":"Hi"}"#, Code::Invalid),
            (r#"{"recipient":"0170 1234567","message":"Hi"}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":"Hi","routing":"fast"}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":"Hi","expires_in":0}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":"Hi","expires_in":2592001}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":"Hi","text":"Hi"}"#, Code::BadRequest),
            (r#"{"recipient":"+15551234567","message":"Hi","message":"Hi"}"#, Code::BadRequest),
        ] {
            assert_eq!(code(text), Some(expected), "{text}");
        }
    }
}
