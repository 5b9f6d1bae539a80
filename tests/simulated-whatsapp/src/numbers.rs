//! Which numbers are on WhatsApp, and under which form of them the server knows them.

use crate::world::digits;

/// Numbers that begin so are not on WhatsApp: +1555999. Every other number is, unless its rules say otherwise.
const ABSENT: &str = "1555999";

/// Whether nobody has an account with this number, by the number alone.
#[must_use]
pub fn is_absent(number: u64) -> bool {
    number.to_string().starts_with(ABSENT)
}

/// The form of a number under which the server keeps the account. Three countries have numbers that are written in two
/// ways: Brazilian mobile numbers with or without a 9 after the area code (here kept without), Mexican ones with or without
/// a 1 after the country code (kept with), Argentine ones with or without a 9 after it (kept with).
#[must_use]
pub fn canonical(number: u64) -> u64 {
    let text = number.to_string();
    let (country, rest) = text.split_at(2.min(text.len()));
    let form = match (country, rest.len(), rest) {
        ("55", 11, rest) if rest.get(2..3) == Some("9") => format!("55{}{}", &rest[..2], &rest[3..]),
        ("52", 10, rest) => format!("521{rest}"),
        ("54", 10, rest) => format!("549{rest}"),
        _ => return number,
    };
    digits(&form).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_a_number_lead_to_one_form() {
        for (written, kept) in [
            (5_511_987_654_321, 551_187_654_321),
            (551_187_654_321, 551_187_654_321),
            (525_512_345_678, 5_215_512_345_678),
            (5_215_512_345_678, 5_215_512_345_678),
            (541_112_345_678, 5_491_112_345_678),
            (5_491_112_345_678, 5_491_112_345_678),
            (15_550_002, 15_550_002),
            (4_915_112_345_678, 4_915_112_345_678),
        ] {
            assert_eq!(canonical(written), kept, "{written}");
        }
    }

    #[test]
    fn one_range_of_numbers_is_not_on_whatsapp() {
        assert!(is_absent(15_559_990_001) && is_absent(15_559_999));
        assert!(!is_absent(15_550_002) && !is_absent(15_559_980_001));
    }
}
