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
        let text = text.trim();
        let Some((user, server)) = text.split_once('@') else { return phone_number(text) };
        match server {
            "s.whatsapp.net" | "c.us" => phone_number(user),
            "lid" if !user.is_empty() && user.len() <= 20 && user.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Self::Lid(Sensitive::new(user)))
            }
            "g.us" | "newsletter" | "broadcast" => Err(BadRecipient::NotAPerson),
            _ => Err(BadRecipient::Unreadable),
        }
    }

    /// What a caller wrote, for bridges of any release: without layout, and with the dashes that all of them know.
    pub fn plain(text: &str) -> String {
        let dash = |character| if matches!(character, '\u{2010}'..='\u{2015}') { '-' } else { character };
        let space = |character: char| if character.is_whitespace() { ' ' } else { character };
        text.chars().filter(|character| !is_mark(*character)).map(dash).map(space).collect()
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

fn phone_number(text: &str) -> Result<Recipient, BadRecipient> {
    let text: String = text.chars().filter(|character| !is_layout(*character)).collect();
    let digits = text.strip_prefix('+').unwrap_or(&text);
    let punctuation = |character: char| matches!(character, '-' | '\u{2010}'..='\u{2015}' | '.' | '(' | ')' | '/');
    if text.is_empty() || !digits.chars().all(|character| character.is_ascii_digit() || punctuation(character)) {
        return Err(BadRecipient::Unreadable);
    }
    if text.contains("(0)") {
        return Err(BadRecipient::TrunkPrefix);
    }
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    // What is dialled before a country code in most of the world (ITU-T E.164), where others write a plus.
    let digits = if text.starts_with('+') { &digits } else { digits.strip_prefix("00").unwrap_or(&digits) };
    if !is_phone_number(digits) {
        return Err(BadRecipient::NotInternational);
    }
    Ok(Recipient::PhoneNumber(Sensitive::new(digits)))
}

/// Spaces of any width, and marks.
fn is_layout(character: char) -> bool {
    is_mark(character) || character.is_whitespace()
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
            " +15551234567 ",
            "15551234567@s.whatsapp.net",
            "15551234567@c.us",
            "001 555 1234567",
            "\u{202a}+1\u{202f}555\u{2011}123\u{2013}4567\u{202c}",
        ] {
            assert_eq!(key(same), key("+15551234567"), "{same}");
        }
        assert_ne!(key("15551234567@lid"), key("+15551234567"));
    }

    #[test]
    fn what_address_books_add_is_not_handed_on() {
        let copied = "\u{202a}+1\u{202f}555\u{2011}123\u{2013}4567\u{202c}";
        assert_eq!(Recipient::plain(copied), "+1 555-123-4567");
        assert_eq!(Recipient::plain("15551234567@s.whatsapp.net"), "15551234567@s.whatsapp.net");
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
            ("123-456@g.us", B::NotAPerson),
            ("1@newsletter", B::NotAPerson),
        ] {
            assert_eq!(Recipient::parse(text), Err(why), "{text}");
        }
    }
}
