//! Values kept in little room.

use std::{
    marker::PhantomData,
    sync::{Arc, Mutex},
};

use serde::{Serialize, de::DeserializeOwned};

use super::lock;

/// A value as compressed JSON: an instance so takes a tenth of the memory of a parsed one, and of ten thousand hardly any is
/// looked at in a given second. Unpacking takes microseconds, every call that follows from a look milliseconds.
#[derive(Debug)]
pub struct Packed<T> {
    text: Box<[u8]>,
    like: Like,
    value: PhantomData<fn() -> T>,
}

/// The text of a value that others are packed by: what they have in common with it takes no room.
type Like = Arc<[u8]>;

/// A longer text is packed by what was there before: finding what is alike in it would take long.
const LONGEST: usize = 16 * 1024;

/// Packs values of one kind. They hold much the same text, so each is packed with one before it as the dictionary: one that held more
/// than those before.
#[derive(Debug)]
pub struct Packer<T> {
    like: Mutex<Like>,
    value: PhantomData<fn() -> T>,
}

impl<T> Default for Packer<T> {
    fn default() -> Self {
        Self { like: Mutex::new(Arc::default()), value: PhantomData }
    }
}

impl<T: Serialize> Packer<T> {
    /// Packs a value; nothing, and a line in the log, if it has no JSON, which is a defect of its type.
    pub fn pack(&self, value: &T) -> Option<Packed<T>> {
        let text =
            serde_json::to_vec(value).inspect_err(|error| tracing::error!(%error, "a value cannot be kept")).ok()?;
        let like = Arc::clone(&lock(&self.like));
        let packed = lz4_flex::block::compress_prepend_size_with_dict(&text, &like);
        // Not for a little more text: what was packed with the former dictionary keeps that one in memory.
        if text.len() > like.len() * 5 / 4 && text.len() <= LONGEST {
            *lock(&self.like) = text.into();
        }
        Some(Packed { text: packed.into(), like, value: PhantomData })
    }
}

impl<T: DeserializeOwned> Packed<T> {
    /// The value.
    pub fn value(&self) -> Option<T> {
        let text = lz4_flex::block::decompress_size_prepended_with_dict(&self.text, &self.like).ok();
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
        let packer = Packer::default();
        let value: Vec<String> = (0..10).map(|n| format!("No device is linked yet; number {n}.")).collect();
        let packed = packer.pack(&value).unwrap();
        assert!(packed.text.len() < serde_json::to_vec(&value).unwrap().len());
        assert_eq!(packed.value(), Some(value));
    }

    #[test]
    fn values_that_say_the_same_take_hardly_any_room_whatever_came_first() {
        let packer = Packer::default();
        let value = |words: u32, end: &str| -> Vec<String> {
            (0..words).map(|n| (n * 7919).to_string()).chain([end.to_owned()]).collect()
        };
        let [short, first, long] = [value(1, "a"), value(300, "b"), value(9000, "c")];
        let kept: Vec<_> = [&short, &first, &long, &first].map(|value| packer.pack(value).unwrap()).into();
        let alike = value(300, "d");
        let packed = packer.pack(&alike).unwrap();
        assert!(packed.text.len() < 50 && kept[1].text.len() > 500, "{} {}", packed.text.len(), kept[1].text.len());
        assert_eq!(packed.value(), Some(alike));
        // Also what was packed by others.
        for (packed, value) in kept.iter().zip([short, first.clone(), long, first]) {
            assert_eq!(packed.value(), Some(value));
        }
    }
}
