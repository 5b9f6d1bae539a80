//! Values of flags, each with what it must be.

use std::str::FromStr as _;

use jiff::SignedDuration;

/// A DNS label, or nothing.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.len() <= 63 && text.chars().all(fits) && !text.starts_with('-') && !text.ends_with('-') {
        Ok(text.into())
    } else {
        Err("a namespace must be lower case letters, digits and '-', at most 63".into())
    }
}

/// A DNS subdomain.
pub(super) fn name(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.len() <= 253 && text.split('.').all(|part| !part.is_empty() && namespace(part).is_ok())
    {
        Ok(text.into())
    } else {
        Err("a name must be lower case letters, digits, '-' and '.', at most 253".into())
    }
}

/// `k=v` pairs separated by commas, or nothing. The API server takes more, but refuses late and over and over.
pub(super) fn selector(text: &str) -> Result<String, String> {
    let fits = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let pair = |pair: &str| pair.split_once('=').is_some_and(|(k, v)| !k.is_empty() && fits(k) && fits(v));
    if text.is_empty() || text.split(',').all(pair) {
        Ok(text.into())
    } else {
        Err("it must look like key=value,key=value".into())
    }
}

/// A time that is not negative and shorter than a year.
pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    let must = || "it must be a duration such as 90s, 10m or 1h30m, and not negative".to_owned();
    let duration = SignedDuration::from_str(text).map_err(|_| must())?;
    if duration.is_negative() || duration > SignedDuration::from_hours(24 * 365) { Err(must()) } else { Ok(duration) }
}
