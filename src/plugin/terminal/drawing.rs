//! A QR code as characters, or as an SVG document.

use qrcode::{Color, EcLevel, QrCode, render::svg};

/// Light modules around the code. ISO/IEC 18004 asks for four; phones need about two.
const QUIET: usize = 4;
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

#[cfg(test)]
mod tests {
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
}
