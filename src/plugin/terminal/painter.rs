//! Repainting in place.

use std::io::{self, Write};

use super::fitting::visible_width;

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
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
