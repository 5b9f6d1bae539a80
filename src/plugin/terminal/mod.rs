//! Drawing: codes as text, the countdown, and repainting in place. All but [`Painter`] are pure.

mod caption;
mod drawing;
mod fitting;
mod painter;

pub use self::{
    caption::{caption, picture},
    drawing::{Ink, draw},
    fitting::{clipped, fitted},
    painter::Painter,
};

#[cfg(test)]
mod testing {
    /// As long as WhatsApp's: a reference and three keys in base64, joined by commas.
    pub(super) fn long_code() -> String {
        let part = |c: char, n| c.to_string().repeat(n);
        format!("2@{},{}=,{}=,{}=,1", part('R', 100), part('n', 43), part('i', 43), part('a', 43))
    }
}
