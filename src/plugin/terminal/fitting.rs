//! What a window has room for.

use jiff::Timestamp;

use super::{
    caption::{caption, picture},
    drawing::Ink,
};
use crate::{api::PairingMethod, plugin::screen::Code};

/// The code as the window takes it: with all of its caption, else with the time that is left, else alone; and when it has no room for the
/// picture, what to do about that. None when the code cannot be drawn. What is shown is never larger than the window, since it could not be
/// taken away again: a code must not stay on the screen, or above it.
pub fn fitted(code: &Code, ink: Ink, size: Option<(usize, usize)>, now: Timestamp) -> Option<String> {
    let words = caption(code, now);
    let wide = picture(code, ink, size.map(|(columns, _)| columns))?;
    let Some((columns, rows)) = size else { return Some(wide + &words) };
    let narrow = picture(code, ink, Some(0))?;
    let left = words.split_once('\n').map_or("", |(_, left)| left);
    for words in [words.as_str(), left, ""] {
        for drawing in [&wide, &narrow] {
            let text = format!("{drawing}{}", wrapped(words, columns));
            if fits(&text, (columns, rows)) {
                return Some(text);
            }
        }
    }
    let needed = extent(&narrow);
    let otherwise = match code.method {
        PairingMethod::Qr => " Or let -o svg write a picture of it.",
        PairingMethod::Code => "",
    };
    let words = format!(
        "The window is too small for the code: make it {} x {} characters or larger, or use a smaller font.{otherwise}\n",
        needed.0, needed.1
    );
    Some(clipped(&words, size))
}

/// Words that a window takes: wrapped, and without what is too much.
pub fn clipped(words: &str, size: Option<(usize, usize)>) -> String {
    let Some((columns, rows)) = size else { return words.to_owned() };
    wrapped(words, columns).lines().take(rows.saturating_sub(1).max(1)).map(|line| format!("{line}\n")).collect()
}

/// Lines no longer than this, broken between words where that is possible.
fn wrapped(text: &str, columns: usize) -> String {
    let columns = columns.max(1);
    let mut out = String::new();
    for line in text.lines() {
        let mut used = 0;
        for word in line.split(' ') {
            let word: Vec<char> = word.chars().collect();
            if used > 0 && used + 1 + word.len() <= columns {
                out.push(' ');
                used += 1;
            } else if used > 0 {
                out.push('\n');
                used = 0;
            }
            for letter in word {
                if used == columns {
                    out.push('\n');
                    used = 0;
                }
                out.push(letter);
                used += 1;
            }
        }
        out.push('\n');
    }
    out
}

/// Whether a text can be repainted: lines that scrolled away cannot be reached any more.
fn fits(text: &str, (columns, rows): (usize, usize)) -> bool {
    let needed = extent(text);
    needed.0 <= columns && needed.1 <= rows
}

/// Columns and rows a text needs on a terminal, with the row the cursor is left on.
fn extent(text: &str) -> (usize, usize) {
    (text.lines().map(visible_width).max().unwrap_or(0), text.lines().count() + 1)
}

pub(super) fn visible_width(line: &str) -> usize {
    let mut escaped = false;
    line.chars()
        .filter(|c| match (escaped, c) {
            (false, '\x1b') => {
                escaped = true;
                false
            }
            (true, c) => {
                escaped = !c.is_ascii_alphabetic();
                false
            }
            (false, _) => true,
        })
        .count()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::{
        model::Sensitive,
        plugin::terminal::{drawing::draw, testing::long_code},
    };

    #[test]
    fn a_code_of_whatsapps_length_fits_eighty_columns() {
        let drawing = draw(&long_code(), Ink::Coloured, Some(80)).unwrap();
        assert!(fits(&drawing, (80, 40)));
        assert!(!fits(&drawing, (60, 40)) && !fits(&drawing, (80, 24)));
    }

    #[test]
    fn whatever_the_window_what_is_shown_can_be_taken_away() {
        let now = Timestamp::UNIX_EPOCH;
        let code = |method, text: &str| Code {
            method,
            text: Sensitive::new(text),
            expires_at: now + SignedDuration::from_secs(20),
            attempt: Some((1, 6)),
        };
        let (qr, typed) = (code(PairingMethod::Qr, &long_code()), code(PairingMethod::Code, "ABCD1234"));
        let drawing = draw(&long_code(), Ink::Coloured, Some(0)).unwrap();
        let (width, height) = extent(&drawing);
        for columns in [1, 2, 12, 13, width - 1, width, width + 3, width + 4, 80, 120] {
            for rows in [2, 3, 5, 24, height - 1, height, height + 1, height + 2, height + 3, 50] {
                for code in [&qr, &typed] {
                    let text = fitted(code, Ink::Coloured, Some((columns, rows)), now).unwrap();
                    assert!(fits(&text, (columns, rows)), "{columns} x {rows}");
                }
                let text = fitted(&qr, Ink::Coloured, Some((columns, rows)), now).unwrap();
                assert_eq!(text.contains('\x1b'), columns >= width && rows >= height, "{columns} x {rows}");
            }
        }
        let shown = |code, size| fitted(code, Ink::Coloured, size, now).unwrap();
        let typed = shown(&typed, Some((80, 24)));
        assert!(
            typed.contains("ABCD-1234") && typed.contains("then type it") && typed.ends_with("20 s left\n"),
            "{typed}"
        );
        assert!(
            shown(&qr, Some((80, 40))).ends_with("Code 1 of 6: 20 s left\n") && shown(&qr, None).ends_with("left\n")
        );
        // With less room the words go first, the time that is left last.
        let (just, none) = (shown(&qr, Some((width, height + 1))), shown(&qr, Some((width, height))));
        assert!(just.ends_with("20 s left\n") && !just.contains("On the phone") && none == drawing);
        let small = shown(&qr, Some((80, 24)));
        assert!(small.contains(&format!("{width} x {height}")) && small.contains("-o svg"), "{small}");
    }

    #[test]
    fn words_are_wrapped_between_words() {
        assert_eq!(wrapped("one two three\nfour\n", 7), "one two\nthree\nfour\n");
        assert_eq!(wrapped("sesquipedalian x\n", 6), "sesqui\npedali\nan x\n");
        assert_eq!(clipped("one two three\n", Some((3, 3))), "one\ntwo\n");
        assert_eq!(clipped("one two three\n", None), "one two three\n");
    }
}
