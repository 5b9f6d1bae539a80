//! What a phone number in international form is.

use std::ops::RangeInclusive;

/// The form in which the custom resource and the REST API take a phone number, as a regular expression.
pub const PHONE_NUMBER: &str = r"^\+[1-9][0-9]{6,14}$";

/// E.164 allows 15 digits, country code included; the shortest numbers in use have 7.
const DIGITS: RangeInclusive<usize> = 7..=15;

/// Whether these are the digits of a phone number, country code first: 7 to 15, and no country code begins with 0.
pub fn is_phone_number(digits: &str) -> bool {
    DIGITS.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0')
}

/// Whether this is a plus and the digits of a phone number: what [`PHONE_NUMBER`] describes.
pub fn is_international(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(is_phone_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_international_form_is_a_plus_a_country_code_and_at_most_fifteen_digits() {
        for good in ["+1555123", "+15551234567", "+123456789012345"] {
            assert!(is_international(good), "{good}");
        }
        for bad in [
            "",
            "+",
            "15551234567",
            "+155512",
            "+1234567890123456",
            "+0555123456",
            "+1 555123",
            "++1555123",
            "+1555123x",
        ] {
            assert!(!is_international(bad), "{bad}");
        }
    }
}
