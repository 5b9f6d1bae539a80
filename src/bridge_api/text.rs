//! What the text of a message may be. The gateway checks it first, since its refusal names the field; the bridge has the last word.

use thiserror::Error;

/// How many characters a text may have. Characters are Unicode code points, as in JSON Schema, however many bytes each takes.
pub const LONGEST_TEXT: usize = 65_536;

/// A text that cannot be sent. The sentences go on after the name of what holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadText {
    /// Nothing, or white space only.
    #[error("must not be blank; give it something that shows")]
    Blank,
    /// More than [`LONGEST_TEXT`].
    #[error("may have up to {LONGEST_TEXT} characters; this one has {length}")]
    TooLong {
        /// How many it has.
        length: usize,
    },
    /// With U+0000. Programs in C, apps on phones among them, take it for the end of a text, and PostgreSQL does not store it.
    #[error("must not hold the character U+0000 (NUL), which many programs take for the end of a text; leave it out")]
    Nul,
}

/// Whether a text arrives as it is: every character but U+0000 does, control characters and white space at the ends included.
///
/// # Errors
/// See [`BadText`].
pub fn check_text(text: &str) -> Result<(), BadText> {
    if text.trim().is_empty() {
        return Err(BadText::Blank);
    }
    let length = text.chars().count();
    if length > LONGEST_TEXT {
        return Err(BadText::TooLong { length });
    }
    if text.contains('\0') { Err(BadText::Nul) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_shows_something_has_an_end_and_no_nul() {
        for good in ["Hi", " Hi\n", "\u{1}\u{7f}\u{85}", "\u{feff}", "\u{2800}", "\u{ffff}"] {
            assert_eq!(check_text(good), Ok(()), "{good:?}");
        }
        for blank in ["", " ", "\r\n\t", "\u{a0}\u{3000}\u{2028}"] {
            assert_eq!(check_text(blank), Err(BadText::Blank), "{blank:?}");
        }
        for nul in ["\0", "a\0", "\0a", "a\0b"] {
            assert_eq!(check_text(nul), Err(BadText::Nul), "{nul:?}");
        }
        // Characters, and not the bytes or UTF-16 units that they take.
        assert_eq!(check_text(&"\u{1f600}".repeat(LONGEST_TEXT)), Ok(()));
        let length = LONGEST_TEXT + 1;
        assert_eq!(check_text(&"x".repeat(length)), Err(BadText::TooLong { length }));
    }
}
