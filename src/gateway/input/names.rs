//! Names: those of fields and parameters, and those that Kubernetes gives to namespaces and objects.

use crate::gateway::failure::Failure;

/// Whether all these names are known, and each is there once. What to say of one that is not known, and of one that is there
/// twice, is the caller's.
///
/// # Errors
/// For the first name of which that is not so.
pub fn each_once<'a>(
    names: impl Iterator<Item = &'a str>,
    allowed: &[&str],
    unknown: impl Fn(&str) -> Failure,
    twice: impl Fn(&str) -> Failure,
) -> Result<(), Failure> {
    let mut seen = Vec::new();
    for name in names {
        if !allowed.contains(&name) {
            return Err(unknown(name));
        }
        if seen.contains(&name) {
            return Err(twice(name));
        }
        seen.push(name);
    }
    Ok(())
}

/// Names in a sentence.
pub fn listed(names: &[&str]) -> String {
    names.join(", ")
}

/// Enough of a name that a caller made up to recognise it by.
pub fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A DNS label: what a namespace may be called.
pub fn is_label(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

/// A DNS subdomain: what an object may be called.
pub fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}
