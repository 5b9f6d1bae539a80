//! Text that must not reach a log, an event, a metric or an error.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// A string that gives access to an account or identifies a person: a QR code, a pairing code, a token, a phone number.
///
/// It serializes as the plain string, because it has to reach `.status` and the bridge, but neither `Debug` nor any
/// `Display` shows it. Reading it takes the explicit [`Sensitive::reveal`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. Each call is a place to check that the value does not leak.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl JsonSchema for Sensitive {
    fn schema_name() -> Cow<'static, str> {
        "Sensitive".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Sensitive;

    #[test]
    fn debug_output_hides_the_value_and_json_keeps_it() {
        let phone = Sensitive::new("+15550001");
        assert_eq!(format!("{phone:?} {:?}", Some(&phone)), "<redacted> Some(<redacted>)");
        assert_eq!(serde_json::to_string(&phone).unwrap(), "\"+15550001\"");
    }
}
