//! Who a message is for, out of what callers write.

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::model::{Sensitive, is_phone_number};

/// A number that stands for a recipient within a session.
pub type RecipientKey = u64;

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// By phone number: digits, country code first.
    PhoneNumber(Sensitive),
    /// By WhatsApp's linked id: digits.
    Lid(Sensitive),
}

/// A recipient that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadRecipient {
    /// Nothing that can be read as a number or an address.
    #[error(
        "the recipient must be a phone number in international form, such as +15551234567, or a WhatsApp address that ends in @s.whatsapp.net, @c.us or @lid"
    )]
    Unreadable,
    /// Too short, too long, or without its country code.
    #[error("the recipient's phone number must have 7 to 15 digits and begin with the country code, not with 0")]
    NotInternational,
    /// With a 0 in brackets, which is dialled from within the country only.
    #[error("the recipient's phone number must be in international form: leave out the (0)")]
    TrunkPrefix,
    /// With something after it, or between its digits, that need not be part of it: read as one number it would be somebody else's.
    #[error(
        "what follows the last point or stroke in the recipient's phone number may not be part of it; give one number, without an extension and without decimals, such as +15551234567"
    )]
    Ambiguous,
    /// Groups, channels and broadcast lists.
    #[error("messages can be sent to people only: groups, channels and broadcast lists are not supported yet")]
    NotAPerson,
}

impl Recipient {
    /// Reads what a caller wrote.
    ///
    /// # Errors
    /// See [`BadRecipient`].
    pub fn parse(text: &str) -> Result<Self, BadRecipient> {
        let text = Self::plain(text);
        let text = text.trim();
        let Some((user, server)) = text.split_once('@') else { return phone_number(text) };
        match server {
            "s.whatsapp.net" | "c.us" if is_digits(user.strip_prefix('+').unwrap_or(user)) => phone_number(user),
            "lid" if !user.is_empty() && user.len() <= 20 && user.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Self::Lid(Sensitive::new(user)))
            }
            "g.us" | "newsletter" | "broadcast" => Err(BadRecipient::NotAPerson),
            _ => Err(BadRecipient::Unreadable),
        }
    }

    /// What a caller wrote, as bridges of any release read it: without what address books, other programs and other scripts add to a
    /// number or an address. The rest stays as it was written: a repetition is known by it, also at a gateway of another release.
    pub fn plain(text: &str) -> String {
        let text: String = text.chars().filter(|character| !is_mark(*character)).map(usual).collect();
        let bare = without_scheme(text.trim()).filter(|bare| is_international(bare)).unwrap_or(text.trim());
        let plain = if let Some((user, server)) = bare.split_once('@') {
            format!("{}@{}", without_device(user), server.to_ascii_lowercase())
        } else {
            // The country code in brackets, as in (+1) 555 123 4567.
            match bare.strip_prefix("(+").and_then(|rest| rest.split_once(')')) {
                // A zero after it is dialled within the country alone, except in Italy.
                Some((code, rest)) if is_digits(code) && (code == "39" || !begins_with_zero(rest)) => {
                    format!("+{code} {}", rest.trim_start())
                }
                _ => bare.to_owned(),
            }
        };
        if plain == text.trim() { text } else { plain }
    }

    /// A number that stands for it, the same after every restart.
    pub fn key(&self) -> RecipientKey {
        let (kind, user) = match self {
            Self::PhoneNumber(digits) => ("pn", digits),
            Self::Lid(digits) => ("lid", digits),
        };
        let digest = Sha256::digest(format!("{kind}:{}", user.reveal()));
        digest.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
    }
}

/// The character that stands in most numbers for this one: a plain dash or space, and digits, plus and brackets of ASCII.
fn usual(character: char) -> char {
    match character {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{ff0b}' | '\u{fe62}' => '+',
        '\u{ff08}' => '(',
        '\u{ff09}' => ')',
        _ if character.is_whitespace() => ' ',
        _ => digit(character).unwrap_or(character),
    }
}

/// Where the ten digits of a script begin in Unicode: those that people write phone numbers in.
const ZEROS: [u32; 19] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66, 0x0e50, 0x0ed0,
    0x0f20, 0x1040, 0x17e0, 0x1810, 0xff10,
];

/// The ASCII digit that a digit of another script means.
fn digit(character: char) -> Option<char> {
    let zero = ZEROS.into_iter().find(|zero| (*zero..zero + 10).contains(&u32::from(character)))?;
    char::from_digit(u32::from(character) - zero, 10)
}

/// What follows on that with which programs say that something is a number: a `tel:` link (RFC 3966), or `whatsapp:` as other APIs want it.
fn without_scheme(text: &str) -> Option<&str> {
    let after = |scheme: &str| {
        let begins = text.get(..scheme.len())?.eq_ignore_ascii_case(scheme);
        begins.then(|| text.get(scheme.len()..).unwrap_or_default().trim_start())
    };
    after("tel:").or_else(|| after("whatsapp:"))
}

/// Whether a number says by itself that it begins with its country's code. One in a link that does not is a local one: read as
/// international it would be somebody else's.
fn is_international(number: &str) -> bool {
    ["+", "00", "(+"].iter().any(|begin| number.starts_with(begin))
}

fn begins_with_zero(text: &str) -> bool {
    text.trim_start_matches(|character: char| !character.is_ascii_digit()).starts_with('0')
}

/// The person of an address that names one of their devices (15551234567:2@s.whatsapp.net).
fn without_device(user: &str) -> &str {
    match user.split_once(':') {
        Some((person, device)) if is_digits(person) && is_digits(device) => person,
        _ => user,
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn phone_number(text: &str) -> Result<Recipient, BadRecipient> {
    if let Some(local) = without_scheme(text) {
        return Err(if local.is_empty() { BadRecipient::Unreadable } else { BadRecipient::NotInternational });
    }
    let text: String = text.chars().filter(|character| *character != ' ').collect();
    let digits = text.strip_prefix('+').unwrap_or(&text);
    let punctuation = |character: char| matches!(character, '-' | '.' | '(' | ')' | '/');
    if text.is_empty() || !digits.chars().all(|character| character.is_ascii_digit() || punctuation(character)) {
        return Err(BadRecipient::Unreadable);
    }
    if text.contains("(0)") {
        return Err(BadRecipient::TrunkPrefix);
    }
    if has_decimals(&text) || has_something_else_after_a_stroke(&text) {
        return Err(BadRecipient::Ambiguous);
    }
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    // What is dialled before a country code in most of the world (ITU-T E.164), where others write a plus.
    let digits = if text.starts_with('+') { &digits } else { digits.strip_prefix("00").unwrap_or(&digits) };
    if !is_phone_number(digits) {
        return Err(BadRecipient::NotInternational);
    }
    Ok(Recipient::PhoneNumber(Sensitive::new(digits)))
}

/// Whether it is a number of a spreadsheet, 4917012345678.0: points are also what people put between all groups of digits.
fn has_decimals(number: &str) -> bool {
    number.split_once('.').is_some_and(|(_, tail)| {
        let digits = tail.bytes().filter(u8::is_ascii_digit).count();
        !tail.contains('.') && (digits < 3 || tail.bytes().all(|byte| byte == b'0'))
    })
}

/// Digits up to a stroke at most, where it stands between the code of an area and the number: up to three of the country, and five.
const BEFORE_A_STROKE: usize = 8;
/// Digits after it at least. Fewer are an extension, or the end of another number.
const AFTER_A_STROKE: usize = 5;

/// Whether a stroke parts anything but the code of an area from the number, as in +1 555 000 9999 / 8888.
fn has_something_else_after_a_stroke(number: &str) -> bool {
    let digits = |part: &str| part.bytes().filter(u8::is_ascii_digit).count();
    number.split_once('/').is_some_and(|(before, after)| {
        after.contains('/') || digits(before) > BEFORE_A_STROKE || digits(after) < AFTER_A_STROKE
    })
}

/// The marks of writing direction that address books put around the numbers that are copied out of them, and others without a width.
fn is_mark(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_in_many_forms_is_one_recipient() {
        let key = |text| Recipient::parse(text).unwrap().key();
        for same in [
            "15551234567",
            "+1 (555) 123-4567",
            "1.555.123.4567",
            "+1 (555) / 1234567",
            "1555/1234567",
            "+1555.1234567",
            " +15551234567 ",
            "15551234567@s.whatsapp.net",
            "15551234567@c.us",
            "001 555 1234567",
            "\u{202a}+1\u{202f}555\u{2011}123\u{2013}4567\u{202c}",
            "(+1) 555 123 4567",
            "(001) 555 123 4567",
            "tel:+1-555-123-4567",
            "TEL: +15551234567",
            "whatsapp:+15551234567",
            "15551234567:2@s.whatsapp.net",
            "15551234567@S.WhatsApp.Net",
            "\u{ff0b}\u{ff11}\u{ff15}\u{ff15}\u{ff15} \u{ff08}123\u{ff09} 4567",
            "+\u{661}\u{665}\u{665}\u{665}\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}\u{667}",
            "+\u{6f1}555\u{967}\u{968}\u{969}4567",
        ] {
            assert_eq!(key(same), key("+15551234567"), "{same}");
        }
        assert_ne!(key("15551234567@lid"), key("+15551234567"));
        assert_eq!(key("15551234567:3@lid"), key("15551234567@lid"));
    }

    #[test]
    fn what_address_books_add_is_not_handed_on() {
        let copied = "\u{202a}+1\u{202f}555\u{2011}123\u{2013}4567\u{202c}";
        assert_eq!(Recipient::plain(copied), "+1 555-123-4567");
        assert_eq!(Recipient::plain(" +1 (555) 1234567 "), " +1 (555) 1234567 ");
        assert_eq!(Recipient::plain("15551234567@s.whatsapp.net"), "15551234567@s.whatsapp.net");
        assert_eq!(Recipient::plain("15551234567:2@S.whatsapp.net"), "15551234567@s.whatsapp.net");
        assert_eq!(Recipient::plain("tel:(+1) 555 1234567"), "+1 555 1234567");
        assert_eq!(Recipient::plain("+\u{664}\u{669} 170"), "+49 170");
    }

    #[test]
    fn what_is_no_person_is_refused_with_the_reason() {
        use BadRecipient as B;
        for (text, why) in [
            ("", B::Unreadable),
            ("anna", B::Unreadable),
            ("+1555abc4567", B::Unreadable),
            ("++15551234567", B::Unreadable),
            ("15551234567@example.com", B::Unreadable),
            ("x@lid", B::Unreadable),
            ("+155512", B::NotInternational),
            ("+1234567890123456", B::NotInternational),
            ("0170 1234567", B::NotInternational),
            ("+00491701234567", B::NotInternational),
            ("000491701234567", B::NotInternational),
            ("+49 (0)170 1234567", B::TrunkPrefix),
            ("+49(0)1701234567", B::TrunkPrefix),
            ("+49 ( 0 ) 170 1234567", B::TrunkPrefix),
            ("\u{202a}\u{202c}", B::Unreadable),
            ("+", B::NotInternational),
            ("tel:", B::Unreadable),
            ("tel:0170 1234567", B::NotInternational),
            ("tel:6591234567", B::NotInternational),
            ("whatsapp: 4795551234", B::NotInternational),
            ("(+49) 0170 1234567", B::Unreadable),
            ("tel:+15551234567;ext=5", B::Unreadable),
            ("(+1 555) 123 4567", B::Unreadable),
            ("(+) 15551234567", B::Unreadable),
            // A device is told apart from the number, or the address is refused: its digits must not become some of the number.
            ("15551234567:@s.whatsapp.net", B::Unreadable),
            ("15551234567.0:2@s.whatsapp.net", B::Unreadable),
            ("+15551234567:2", B::Unreadable),
            ("mailto:15551234567", B::Unreadable),
            // Digits that need not be part of it must not become some of it.
            ("15551234567.0", B::Ambiguous),
            ("+15551234567.00", B::Ambiguous),
            ("+1 555 123 4567.000", B::Ambiguous),
            ("15551234567.0@s.whatsapp.net", B::Unreadable),
            ("1555/1234567@s.whatsapp.net", B::Unreadable),
            ("+1 555 123 4567 / 8888", B::Ambiguous),
            ("+1 555 123 4567/89012", B::Ambiguous),
            ("+49 170 123/45/67", B::Ambiguous),
            ("123-456@g.us", B::NotAPerson),
            ("1@newsletter", B::NotAPerson),
        ] {
            assert_eq!(Recipient::parse(text), Err(why), "{text}");
        }
    }
}
