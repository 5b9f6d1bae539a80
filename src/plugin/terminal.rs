//! Drawing: codes as text, the countdown, and repainting in place. All but [`Painter`] are pure.

use std::io::{self, Write};

use jiff::Timestamp;
use qrcode::{Color, EcLevel, QrCode, render::svg};

use super::screen::Code;
use crate::api::PairingMethod;

/// Light modules around the code. ISO/IEC 18004 asks for four; phones need about two.
const QUIET: usize = 4;
const QUIET_NARROW: usize = 2;

/// A code that is this late was not replaced when it should have been.
const OVERDUE_SECONDS: i64 = 5;

/// How the modules become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Black on white by escape sequences: right on any background.
    Coloured,
    /// Only characters, for light text on a dark background.
    OnDark,
    /// Only characters, for dark text on a light background.
    OnLight,
}

/// The modules of a QR code.
#[derive(Debug, Clone)]
pub struct Modules {
    width: usize,
    dark: Vec<bool>,
}

impl Modules {
    /// Encodes a text; none when it is too long for any QR code.
    pub fn of(text: &str) -> Option<Self> {
        // The lowest error correction gives the largest modules, and a screen does not get scratched.
        let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
        Some(Self {
            width: code.width(),
            dark: code.to_colors().into_iter().map(|color| color == Color::Dark).collect(),
        })
    }

    /// Draws two rows of modules per line of text.
    pub fn draw(&self, ink: Ink, columns: Option<usize>) -> String {
        let quiet = if columns.is_some_and(|columns| columns < self.width + 2 * QUIET) { QUIET_NARROW } else { QUIET };
        let side = self.width + 2 * quiet;
        let mut text = String::new();
        for y in (0..side).step_by(2) {
            if ink == Ink::Coloured {
                // Colours 16 and 231 of the 256 are black and white in every theme; 30 and 47 are not.
                text.push_str("\x1b[38;5;16;48;5;231m");
            }
            for x in 0..side {
                text.push(block(
                    ink,
                    self.is_dark(x, y, quiet),
                    y + 1 < side && self.is_dark(x, y + 1, quiet),
                    y + 1 < side,
                ));
            }
            if ink == Ink::Coloured {
                text.push_str("\x1b[0m");
            }
            text.push('\n');
        }
        text
    }

    fn is_dark(&self, x: usize, y: usize, quiet: usize) -> bool {
        let inside = |v: usize| v.checked_sub(quiet).filter(|v| *v < self.width);
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => self.dark.get(y * self.width + x).copied().unwrap_or(false),
            _ => false,
        }
    }
}

/// The character for a module and the one below it. The side is odd, so the last line has no lower half.
fn block(ink: Ink, upper_dark: bool, lower_dark: bool, has_lower: bool) -> char {
    let (upper, lower) = match ink {
        Ink::Coloured | Ink::OnLight => (upper_dark, lower_dark),
        Ink::OnDark => (!upper_dark, !lower_dark && has_lower),
    };
    match (upper, lower) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    }
}

/// The code as an SVG document; none when it is too long for any QR code.
pub fn svg(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    Some(code.render::<svg::Color<'_>>().min_dimensions(512, 512).quiet_zone(true).build())
}

/// The code without its countdown; none when it cannot be drawn.
pub fn picture(code: &Code, ink: Ink, columns: Option<usize>) -> Option<String> {
    match code.method {
        PairingMethod::Qr => Modules::of(code.text.reveal()).map(|modules| modules.draw(ink, columns)),
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
            if Painter::fits(&text, (columns, rows)) {
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

/// Eight characters as WhatsApp shows them, four and four.
fn grouped(code: &str) -> String {
    match code.split_at_checked(4) {
        Some((first, second)) if code.len() == 8 && code.is_ascii() => format!("{first}-{second}"),
        _ => code.to_owned(),
    }
}

/// Repaints a block of text in place.
#[derive(Debug, Default)]
pub struct Painter {
    painted: String,
}

impl Painter {
    /// Replaces what it painted before. Painting the same again does nothing. In a window that has become narrower than that was, its lines
    /// have been broken.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn paint(&mut self, out: &mut impl Write, text: &str, columns: Option<usize>) -> io::Result<()> {
        if text != self.painted {
            let rows = |line| columns.map_or(1, |columns| visible_width(line).div_ceil(columns.max(1)).max(1));
            let up: usize = self.painted.lines().map(rows).sum();
            let erase = if up == 0 { String::new() } else { format!("\x1b[{up}A\r\x1b[J") };
            write!(out, "{erase}{text}")?;
            out.flush()?;
            text.clone_into(&mut self.painted);
        }
        Ok(())
    }

    /// Whether a text can be repainted: lines that scrolled away cannot be reached any more.
    pub fn fits(text: &str, (columns, rows): (usize, usize)) -> bool {
        let needed = extent(text);
        needed.0 <= columns && needed.1 <= rows
    }
}

/// Columns and rows a text needs on a terminal, with the row the cursor is left on.
pub fn extent(text: &str) -> (usize, usize) {
    (text.lines().map(visible_width).max().unwrap_or(0), text.lines().count() + 1)
}

fn visible_width(line: &str) -> usize {
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
    use jiff::{SignedDuration, Timestamp};
    use qrcode::{Color, EcLevel, QrCode};

    use super::{Ink, Modules, Painter, caption, clipped, countdown, extent, fitted, picture, svg, wrapped};
    use crate::{api::PairingMethod, model::Sensitive, plugin::screen::Code};

    /// As long as WhatsApp's: a reference and three keys in base64, joined by commas.
    fn long_code() -> String {
        let part = |c: char, n| c.to_string().repeat(n);
        format!("2@{},{}=,{}=,{}=,1", part('R', 100), part('n', 43), part('i', 43), part('a', 43))
    }

    /// Reads a drawing back into rows of modules; true is dark.
    fn modules(drawing: &str, ink: Ink) -> Vec<Vec<bool>> {
        let plain = drawing.replace("\x1b[38;5;16;48;5;231m", "").replace("\x1b[0m", "");
        let dark = |inked: bool| if ink == Ink::OnDark { !inked } else { inked };
        plain
            .lines()
            .flat_map(|line| {
                let half = |marks: [char; 2]| line.chars().map(|c| dark(marks.contains(&c))).collect::<Vec<_>>();
                [half(['█', '▀']), half(['█', '▄'])]
            })
            .collect()
    }

    #[test]
    fn a_drawing_holds_exactly_the_code_and_a_quiet_zone() {
        let text = long_code();
        let code = QrCode::with_error_correction_level(&text, EcLevel::L).unwrap();
        let width = code.width();
        for ink in [Ink::Coloured, Ink::OnDark, Ink::OnLight] {
            for (columns, quiet) in [(None, 4), (Some(width + 7), 2)] {
                let drawn = modules(&Modules::of(&text).unwrap().draw(ink, columns), ink);
                for (y, row) in drawn.iter().take(width + 2 * quiet).enumerate() {
                    assert_eq!(row.len(), width + 2 * quiet);
                    for (x, dark) in row.iter().enumerate() {
                        let inside = (quiet..quiet + width).contains(&x) && (quiet..quiet + width).contains(&y);
                        let expected = inside && code[(x - quiet.min(x), y - quiet.min(y))] == Color::Dark;
                        assert_eq!(*dark, expected, "{ink:?} {x},{y}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_code_of_whatsapps_length_fits_eighty_columns() {
        let drawing = Modules::of(&long_code()).unwrap().draw(Ink::Coloured, Some(80));
        assert!(Painter::fits(&drawing, (80, 40)));
        assert!(!Painter::fits(&drawing, (60, 40)) && !Painter::fits(&drawing, (80, 24)));
    }

    #[test]
    fn only_the_coloured_drawing_has_escapes() {
        let modules = Modules::of("x").unwrap();
        assert!(modules.draw(Ink::Coloured, None).contains('\x1b'));
        assert!(
            !modules.draw(Ink::OnDark, None).contains('\x1b') && !modules.draw(Ink::OnLight, None).contains('\x1b')
        );
    }

    #[test]
    fn what_is_too_long_is_refused_not_panicked_on() {
        let text = "x".repeat(4000);
        assert!(Modules::of(&text).is_none() && svg(&text).is_none());
        assert!(svg("x").unwrap().starts_with("<?xml"));
    }

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

    #[test]
    fn repainting_goes_up_as_many_lines_as_were_painted() {
        let (mut painter, mut out) = (Painter::default(), Vec::new());
        painter.paint(&mut out, "a\nb\n", None).unwrap();
        painter.paint(&mut out, "a\nb\n", Some(80)).unwrap();
        painter.paint(&mut out, "c\n", Some(80)).unwrap();
        painter.paint(&mut out, "", Some(80)).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\nb\n\x1b[2A\r\x1b[Jc\n\x1b[1A\r\x1b[J");
        let mut out = Vec::new();
        painter.paint(&mut out, "\x1b[7mlonger\x1b[0m\n\nb\n", Some(6)).unwrap();
        painter.paint(&mut out, "", Some(4)).unwrap();
        assert!(String::from_utf8(out).unwrap().ends_with("\x1b[4A\r\x1b[J"), "the first line has become two");
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
        let drawing = Modules::of(&long_code()).unwrap().draw(Ink::Coloured, Some(0));
        let (width, height) = extent(&drawing);
        for columns in [1, 2, 12, 13, width - 1, width, width + 3, width + 4, 80, 120] {
            for rows in [2, 3, 5, 24, height - 1, height, height + 1, height + 2, height + 3, 50] {
                for code in [&qr, &typed] {
                    let text = fitted(code, Ink::Coloured, Some((columns, rows)), now).unwrap();
                    assert!(Painter::fits(&text, (columns, rows)), "{columns} x {rows}");
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
