//! What is behind an error.

use std::{error::Error, iter::successors};

/// The error itself, and what caused it, down to the innermost cause.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

/// The innermost cause in words: "connection refused" says more than "service error".
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}
