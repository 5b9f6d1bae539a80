//! Text that people will see in a terminal: nothing in it may act on the terminal or change the order of what is read.

use super::Denial;

/// Whether a character may not stand in a name or an owner: a control character (Unicode category Cc), a separator of lines
/// or paragraphs, or one of the characters that embed, override or isolate a direction of text (Unicode Standard Annex 9,
/// section 2). Marks such as U+200F, which only belong to a script, and joiners may.
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Checks a display name.
///
/// # Errors
/// The refusal.
pub fn check_name(name: &str) -> Result<(), Denial> {
    check("spec.name", "NameUnprintable", name)
}

/// Checks whom an instance belongs to.
///
/// # Errors
/// The refusal.
pub fn check_owner(owner: &str) -> Result<(), Denial> {
    if owner.trim() != owner {
        let message = format!(
            "spec.owner must not begin or end with white space, as {owner:?} does; leave it out or write the user's exact name"
        );
        return Err(Denial::new("OwnerUnprintable", 422, message));
    }
    check("spec.owner", "OwnerUnprintable", owner)
}

fn check(field: &str, reason: &'static str, text: &str) -> Result<(), Denial> {
    let Some(c) = text.chars().find(|c| is_unprintable(*c)) else { return Ok(()) };
    let message = format!(
        "{field} must not hold control characters or characters that change the direction of text, as U+{:04X} does; remove it",
        u32::from(c)
    );
    Err(Denial::new(reason, 422, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_refused_and_names_in_any_script_are_not() {
        for bad in
            ["\u{1b}]0;x\u{7}", "\0", "a\nb", "a\tb", "\u{7f}", "\u{85}", "\u{202e}abc", "a\u{2066}b", "a\u{2029}b"]
        {
            let denial = check_name(bad).unwrap_err();
            assert!(denial.reason == "NameUnprintable" && !denial.message.chars().any(is_unprintable), "{denial:?}");
            assert!(check_owner(bad).is_err());
        }
        for good in [
            "Business Account",
            "Büro Süd",
            "営業部",
            "مكتب المبيعات",
            "משרד\u{200f} 1",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f}",
            "می\u{200c}خواهم",
        ] {
            assert_eq!(check_name(good), Ok(()), "{good}");
            assert_eq!(check_owner(good), Ok(()), "{good}");
        }
        for bad in ["\n", "alice@example.com ", "\u{a0}alice"] {
            assert_eq!(check_owner(bad).unwrap_err().reason, "OwnerUnprintable", "{bad:?}");
        }
    }
}
