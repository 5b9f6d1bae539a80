//! A QR code as characters.

use crate::platform::qr::{Modules, QUIET};

/// Light modules around the code where there is no room for [`QUIET`]; phones need about two.
const QUIET_NARROW: usize = 2;

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

/// The code of a text, two rows of modules per line, within so many columns if that is possible; none when the text is too long for
/// any QR code.
pub fn draw(text: &str, ink: Ink, columns: Option<usize>) -> Option<String> {
    let modules = Modules::of(text)?;
    let quiet = if columns.is_some_and(|columns| columns < modules.width + 2 * QUIET) { QUIET_NARROW } else { QUIET };
    let side = modules.width + 2 * quiet;
    let is_dark = |x, y| modules.is_dark_after(quiet, x, y);
    let mut drawn = String::new();
    for y in (0..side).step_by(2) {
        if ink == Ink::Coloured {
            // Colours 16 and 231 of the 256 are black and white in every theme; 30 and 47 are not.
            drawn.push_str("\x1b[38;5;16;48;5;231m");
        }
        for x in 0..side {
            drawn.push(block(ink, is_dark(x, y), y + 1 < side && is_dark(x, y + 1), y + 1 < side));
        }
        if ink == Ink::Coloured {
            drawn.push_str("\x1b[0m");
        }
        drawn.push('\n');
    }
    Some(drawn)
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

#[cfg(test)]
mod tests {
    use qrcode::{Color, EcLevel, QrCode};

    use super::*;
    use crate::plugin::terminal::testing::long_code;

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
                let drawn = modules(&draw(&text, ink, columns).unwrap(), ink);
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
    fn only_the_coloured_drawing_has_escapes() {
        let escapes = |ink| draw("x", ink, None).unwrap().contains('\x1b');
        assert!(escapes(Ink::Coloured) && !escapes(Ink::OnDark) && !escapes(Ink::OnLight));
    }

    #[test]
    fn what_is_too_long_is_refused_not_panicked_on() {
        assert!(draw(&"x".repeat(4000), Ink::Coloured, None).is_none());
    }
}
