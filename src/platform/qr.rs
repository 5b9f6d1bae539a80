//! QR codes: which modules are dark, and the code as an SVG document.

use qrcode::{Color, EcLevel, QrCode, render::svg};

/// Smallest width and height of an SVG, in its own units.
const SIDE: u32 = 512;

/// Light modules around a code, as ISO/IEC 18004 asks for.
pub const QUIET: usize = 4;

/// The modules of a QR code.
#[derive(Clone, Debug)]
pub struct Modules {
    /// How many modules it is wide and high, without the light ones around it.
    pub width: usize,
    dark: Vec<bool>,
}

impl Modules {
    /// Encodes a text; none when it is too long for any QR code.
    pub fn of(text: &str) -> Option<Self> {
        let code = encoded(text)?;
        let dark = code.to_colors().into_iter().map(|color| color == Color::Dark).collect();
        Some(Self { width: code.width(), dark })
    }

    /// Whether a module is dark. All are light outside the code.
    pub fn is_dark(&self, x: usize, y: usize) -> bool {
        x < self.width && self.dark.get(y * self.width + x).copied().unwrap_or(false)
    }

    /// The same where so many light modules stand before the code.
    pub fn is_dark_after(&self, quiet: usize, x: usize, y: usize) -> bool {
        x.checked_sub(quiet).zip(y.checked_sub(quiet)).is_some_and(|(x, y)| self.is_dark(x, y))
    }
}

/// The code of a text as an SVG document; none when the text is too long for any QR code.
pub fn svg(text: &str) -> Option<String> {
    Some(encoded(text)?.render::<svg::Color<'_>>().min_dimensions(SIDE, SIDE).quiet_zone(true).build())
}

/// The lowest error correction gives the largest modules, and a screen does not get scratched.
fn encoded(text: &str) -> Option<QrCode> {
    QrCode::with_error_correction_level(text, EcLevel::L).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_begins_with_the_frame_of_its_corner_and_is_light_outside() {
        let modules = Modules::of("2@abc").unwrap();
        assert!((0..7).all(|x| modules.is_dark(x, 0)) && !modules.is_dark(7, 0));
        assert!(!modules.is_dark(modules.width, 0) && !modules.is_dark(0, modules.width));
    }

    #[test]
    fn a_text_can_be_too_long() {
        let long = "x".repeat(4000);
        assert!(Modules::of(&long).is_none() && svg(&long).is_none());
        assert!(svg("2@abc").unwrap().starts_with("<?xml"));
    }
}
