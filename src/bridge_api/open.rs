//! Values and fields that may grow while both sides of the wire are of different releases.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, IntoDeserializer, value},
};
use serde_json::Value;

/// One word out of a list that a later release may lengthen. A word that this release does not know is kept as it came
/// and written again as it came.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Open<T> {
    /// A word of this release.
    Known(T),
    /// The word of another release.
    Unknown(Box<str>),
}

impl<T: Copy> Open<T> {
    /// The word, if this release knows it.
    pub fn known(&self) -> Option<T> {
        match self {
            Self::Known(word) => Some(*word),
            Self::Unknown(_) => None,
        }
    }
}

impl<T> From<T> for Open<T> {
    fn from(word: T) -> Self {
        Self::Known(word)
    }
}

impl<T: Default> Default for Open<T> {
    fn default() -> Self {
        Self::Known(T::default())
    }
}

impl<T: PartialEq> PartialEq<T> for Open<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(word) if word == other)
    }
}

impl<T: fmt::Debug> fmt::Debug for Open<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(word) => word.fmt(f),
            Self::Unknown(text) => write!(f, "Unknown({text:?})"),
        }
    }
}

impl<T: Serialize> Serialize for Open<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(word) => word.serialize(serializer),
            Self::Unknown(text) => text.serialize(serializer),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Open<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let word: value::CowStrDeserializer<'_, value::Error> = text.clone().into_deserializer();
        Ok(T::deserialize(word).map_or_else(|_| Self::Unknown(text.into()), Self::Known))
    }
}

/// The fields of an object that this release does not know, kept as they came and written again as they came.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Extra(BTreeMap<String, Value>);

impl Extra {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The names alone: nobody here can say whether a value is secret.
impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge_api::SessionPhase;

    #[test]
    fn a_word_that_is_not_known_comes_out_as_it_went_in() {
        let words: Vec<Open<SessionPhase>> =
            serde_json::from_str(r#"["Connected", "Hovering", "con\"nected"]"#).unwrap();
        assert_eq!(words[0], SessionPhase::Connected);
        assert_eq!((words[0].known(), words[1].known()), (Some(SessionPhase::Connected), None));
        assert_eq!(serde_json::to_string(&words).unwrap(), r#"["Connected","Hovering","con\"nected"]"#);
        assert_eq!(format!("{:?}", words[..2].to_vec()), r#"[Connected, Unknown("Hovering")]"#);
        assert!(serde_json::from_str::<Open<SessionPhase>>("7").is_err());
    }

    #[test]
    fn fields_that_are_not_known_are_not_shown_to_whoever_debugs() {
        let extra: Extra = serde_json::from_str(r#"{"backupNumber": "+15550001"}"#).unwrap();
        assert_eq!(format!("{extra:?}"), r#"{"backupNumber"}"#);
        assert_eq!(serde_json::to_string(&extra).unwrap(), r#"{"backupNumber":"+15550001"}"#);
    }
}
