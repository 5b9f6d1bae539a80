//! A QR code as callers want it: a path of SVG, or PNG for whatever cannot draw.

use serde::Serialize;
use utoipa::ToSchema;

use crate::platform::qr::{Modules, QUIET};

/// Pixels a module is wide in a PNG.
const SCALE: usize = 8;

/// What a caller wants a code as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As data.
    Json,
    /// As a drawing.
    Svg,
    /// As pixels.
    Png,
}

/// What `accept` wants most (RFC 9110, section 12.5.1, by quality and then by our own order); none when it wants nothing
/// that there is.
pub fn wanted(accept: Option<&str>) -> Option<Form> {
    let accept = accept.map(str::trim).filter(|accept| !accept.is_empty()).unwrap_or("*/*");
    let forms = [(Form::Json, "application/json"), (Form::Svg, "image/svg+xml"), (Form::Png, "image/png")];
    let quality = |kind: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let range = parts.next()?.to_ascii_lowercase();
            let (top, _) = kind.split_once('/')?;
            let exact = if range == kind {
                2
            } else if range == format!("{top}/*") {
                1
            } else if range == "*/*" {
                0
            } else {
                return None;
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
            Some((exact, weight.filter(|q| (0.0..=1.0).contains(q))?))
        });
        // The most exact range counts.
        ranges.max_by_key(|(exact, _)| *exact).map_or(0.0, |(_, weight)| weight)
    };
    let mut best = None;
    for (form, kind) in forms {
        let weight = quality(kind);
        if weight > 0.0 && best.is_none_or(|(_, most)| weight > most) {
            best = Some((form, weight));
        }
    }
    best.map(|(form, _)| form)
}

/// The dark modules of a code as a path of SVG, one unit each, without the light margin of four modules that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Drawing {
    /// How many modules it is wide and high.
    #[schema(example = 21)]
    pub size: usize,
    /// The attribute `d` of the path.
    #[schema(example = "M0 0h7v1h-7z")]
    pub path: String,
}

/// As a path; none when the text is too long for any QR code.
pub fn drawing(text: &str) -> Option<Drawing> {
    let modules = Modules::of(text)?;
    let size = modules.width;
    let mut path = String::new();
    for y in 0..size {
        let mut x = 0;
        while x < size {
            let run = (x..size).take_while(|x| modules.is_dark(*x, y)).count();
            if run > 0 {
                path.push_str(&format!("M{x} {y}h{run}v1h-{run}z"));
            }
            x += run.max(1);
        }
    }
    Some(Drawing { size, path })
}

/// As PNG, one bit a pixel; none when the text is too long for any QR code.
pub fn png(text: &str) -> Option<Vec<u8>> {
    let modules = Modules::of(text)?;
    let is_dark = |x: usize, y: usize| modules.is_dark_after(QUIET, x / SCALE, y / SCALE);
    let side = (modules.width + 2 * QUIET) * SCALE;
    let mut rows = Vec::with_capacity(side * (side / 8 + 2));
    for y in 0..side {
        // No filter; then eight pixels a byte, light is 1.
        rows.push(0);
        for x in (0..side).step_by(8) {
            rows.push((0..8).fold(0u8, |byte, bit| byte << 1 | u8::from(x + bit >= side || !is_dark(x + bit, y))));
        }
    }
    let side = u32::try_from(side).ok()?.to_be_bytes();
    let header = [side.as_slice(), &side, &[1, 0, 0, 0, 0]].concat();
    let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", stored(&rows)), (b"IEND", Vec::new())] {
        picture.extend(u32::try_from(data.len()).ok()?.to_be_bytes());
        let chunk = [kind.as_slice(), &data].concat();
        picture.extend(&chunk);
        picture.extend(crc32(&chunk).to_be_bytes());
    }
    Some(picture)
}

/// A zlib stream (RFC 1950) of stored blocks (RFC 1951, section 3.2.4): a code is a few kilobytes, and shown once.
fn stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (mut low, mut high) = (1u32, 0u32);
    for byte in data {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    stream.extend((high << 16 | low).to_be_bytes());
    stream
}

/// The checksum of a chunk (PNG specification, annex D).
fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_form_wins_and_json_when_all_are_equal() {
        for (accept, form) in [
            (None, Some(Form::Json)),
            (Some("*/*"), Some(Form::Json)),
            (Some("image/png"), Some(Form::Png)),
            (Some("image/*"), Some(Form::Svg)),
            (Some("image/svg+xml, image/png;q=0.9, */*;q=0.1"), Some(Form::Svg)),
            (
                Some("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/png,*/*;q=0.8"),
                Some(Form::Png),
            ),
            (Some("*/*, image/png;q=0, application/json;q=0.1"), Some(Form::Svg)),
            (Some("text/html"), None),
            (Some("application/json;q=0"), None),
            (Some("application/json;q=nonsense"), None),
        ] {
            assert_eq!(wanted(accept), form, "{accept:?}");
        }
    }

    #[test]
    fn checksums_are_those_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(stored(b"Wikipedia")[2 + 5 + 9..], 0x11e6_0398_u32.to_be_bytes());
    }

    #[test]
    fn a_path_has_the_dark_modules_and_no_others() {
        let Drawing { size, path } = drawing("2@abc,def").unwrap();
        let mut drawn = vec![false; size * size];
        for run in path.split('M').skip(1) {
            let (x, rest) = run.split_once(' ').unwrap();
            let (y, rest) = rest.split_once('h').unwrap();
            let (x, y, length): (usize, usize, usize) =
                (x.parse().unwrap(), y.parse().unwrap(), rest.split_once('v').unwrap().0.parse().unwrap());
            drawn[y * size + x..][..length].fill(true);
        }
        let modules = Modules::of("2@abc,def").unwrap();
        let dark: Vec<bool> = (0..size * size).map(|at| modules.is_dark(at % size, at / size)).collect();
        assert_eq!(drawn, dark);
        assert!(drawing(&"x".repeat(4000)).is_none());
    }

    #[test]
    fn a_picture_has_its_size_in_its_header() {
        let picture = png("2@abc").unwrap();
        assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
        let side = u32::from_be_bytes(picture[16..20].try_into().unwrap()) as usize;
        assert_eq!(side % SCALE, 0);
        assert!(png(&"x".repeat(4000)).is_none());
    }
}
