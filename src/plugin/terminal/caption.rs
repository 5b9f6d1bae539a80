//! What is shown with a code: what to do with it, and how long it lasts.

use jiff::Timestamp;

use super::drawing::{Ink, draw};
use crate::{api::PairingMethod, plugin::screen::Code};

/// A code that is this late was not replaced when it should have been.
const OVERDUE_SECONDS: i64 = 5;

/// The code without its countdown; none when it cannot be drawn.
pub fn picture(code: &Code, ink: Ink, columns: Option<usize>) -> Option<String> {
    match code.method {
        PairingMethod::Qr => draw(code.text.reveal(), ink, columns),
        PairingMethod::Code => Some(format!("\n    {}\n\n", grouped(code.text.reveal()))),
    }
}

/// What to do with the code and how long it lasts, on two lines.
pub fn caption(code: &Code, now: Timestamp) -> String {
    let how = match code.method {
        PairingMethod::Qr => "On the phone: WhatsApp > Linked devices > Link a device, then scan.",
        PairingMethod::Code => {
            "On the phone: WhatsApp > Linked devices > Link a device > Link with phone number, then type it."
        }
    };
    let which = match code.attempt {
        Some((attempt, attempts)) => format!("Code {attempt} of {attempts}"),
        None => "Code".to_owned(),
    };
    format!("{how}\n{which}: {}\n", countdown(code.expires_at, now))
}

/// How long a code lasts, in words.
pub fn countdown(expires_at: Timestamp, now: Timestamp) -> String {
    let milliseconds = expires_at.as_millisecond() - now.as_millisecond();
    // Rounded up, so that "0 s" is not shown for a code that still works.
    let left = milliseconds.div_euclid(1000) + i64::from(milliseconds.rem_euclid(1000) > 0);
    match left {
        60.. => format!("{} min {:02} s left", left / 60, left % 60),
        1.. => format!("{left} s left"),
        // Kept on screen: this machine's clock may be ahead, and WhatsApp decides by its own.
        _ if -left <= OVERDUE_SECONDS => "the next one comes any moment".to_owned(),
        _ => format!("ran out {} s ago and was not replaced; is the operator running?", -left),
    }
}

/// Eight characters as WhatsApp shows them, four and four.
fn grouped(code: &str) -> String {
    match code.split_at_checked(4) {
        Some((first, second)) if code.len() == 8 && code.is_ascii() => format!("{first}-{second}"),
        _ => code.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::model::Sensitive;

    #[test]
    fn the_countdown_rounds_up_and_tells_when_nothing_follows() {
        let expires: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let at = |before_ms: i64| countdown(expires, expires - SignedDuration::from_millis(before_ms));
        assert_eq!(at(90_000), "1 min 30 s left");
        assert_eq!(at(60_000), "1 min 00 s left");
        assert_eq!(at(59_001), "1 min 00 s left");
        assert_eq!(at(59_000), "59 s left");
        assert_eq!(at(1), "1 s left");
        assert_eq!(at(0), "the next one comes any moment");
        assert_eq!(at(-5_000), "the next one comes any moment");
        assert!(at(-42_000).starts_with("ran out 42 s ago"));
    }

    #[test]
    fn a_pairing_code_is_grouped_and_any_text_survives() {
        let code = |text: &str| Code {
            method: PairingMethod::Code,
            text: Sensitive::new(text),
            expires_at: Timestamp::UNIX_EPOCH,
            attempt: None,
        };
        assert!(picture(&code("ABCD1234"), Ink::OnDark, None).unwrap().contains("ABCD-1234"));
        assert!(picture(&code("äöüß"), Ink::OnDark, None).unwrap().contains("äöüß"));
        assert!(caption(&code("ABCD1234"), Timestamp::UNIX_EPOCH).contains("Link with phone number"));
    }
}
