//! Values of the command line that cannot be bad once they are there.

use std::{fmt, str::FromStr, time::Duration};

/// Name of an instance. `wa/NAME` and what `list -o name` prints are taken too, as kubectl does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceName(String);

impl InstanceName {
    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InstanceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const KINDS: [&str; 4] =
            ["wa", "whatsappinstance", "whatsappinstances", "whatsappinstance.whatsapp-operator.dev"];
        let name = match text.split_once('/') {
            Some((kind, name)) if KINDS.contains(&kind.to_ascii_lowercase().as_str()) => name,
            Some((kind, _)) => return Err(format!("\"{kind}\" is not a WhatsAppInstance; give NAME or wa/NAME")),
            None => text,
        };
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inside = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.');
        // RFC 1123 subdomain, the API server's own rule for names.
        if name.len() <= 253 && inside && edge(name.chars().next()) && edge(name.chars().last()) {
            Ok(Self(name.to_owned()))
        } else {
            Err("a name has lower case letters, digits, \"-\" and \".\"; list the instances with `kubectl whatsapp list`"
                .to_owned())
        }
    }
}

/// A limit in time; none when written as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit(pub Option<Duration>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write a duration such as 30s, 5m or 1h30m, or 0 for no limit".to_owned();
        let duration = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
                Duration::try_from(signed).map_err(|_| wrong())?
            }
        };
        Ok(Self((!duration.is_zero()).then_some(duration)))
    }
}

/// How long something lasts: at least a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(pub Duration);

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write how long, at least a second, such as 90s, 10m, 24h or 7d".to_owned();
        let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
        let duration = match days.and_then(|days| days.checked_mul(24 * 60 * 60)).or_else(|| text.parse().ok()) {
            Some(seconds) => Duration::from_secs(seconds),
            None => {
                Duration::try_from(text.parse::<jiff::SignedDuration>().map_err(|_| wrong())?).map_err(|_| wrong())?
            }
        };
        if duration.as_secs() > 0 { Ok(Self(duration)) } else { Err(wrong()) }
    }
}

/// The id of a message, as `send` and `messages` print it; `message/ID` is taken too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageId(String);

impl MessageId {
    /// The bare id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MessageId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = text.strip_prefix("message/").unwrap_or(text);
        let fits =
            |part: &str| (1..=64).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let good = id.split_once('.').is_some_and(|(session, message)| fits(session) && fits(message));
        let wrong = || "an id looks like SESSION.MESSAGE; list them with `kubectl whatsapp messages NAME`".to_owned();
        good.then(|| Self(id.to_owned())).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_as_kubectl_prints_them() {
        for text in ["shop", "wa/shop", "whatsappinstance/shop", "whatsappinstance.whatsapp-operator.dev/shop"] {
            assert_eq!(text.parse::<InstanceName>().unwrap().as_str(), "shop", "{text}");
        }
    }

    #[test]
    fn rejects_what_could_not_be_a_name() {
        for text in ["", "Shop", "a/b", "pod/shop", "-a", "a-", "../x", "wa/", "a b", "ü"] {
            assert!(text.parse::<InstanceName>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_lasts_lasts_a_second_at_least_and_days_at_most() {
        let lifetime = |text: &str| text.parse::<Lifetime>().map(|lifetime| lifetime.0.as_secs());
        assert_eq!(["90", "10m", "1h30m", "7d"].map(|text| lifetime(text).unwrap()), [90, 600, 5400, 604_800]);
        for wrong in ["0", "0s", "0d", "500ms", "-5s", "d", "1x", "", "999999999999999999d"] {
            assert!(lifetime(wrong).unwrap_err().contains("such as"), "{wrong}");
        }
    }

    #[test]
    fn durations_are_written_as_in_kubectl() {
        let limit = |text: &str| text.parse::<Limit>().map(|limit| limit.0);
        assert_eq!(limit("0"), Ok(None));
        assert_eq!(limit("0s"), Ok(None));
        assert_eq!(limit("15"), Ok(Some(Duration::from_secs(15))));
        assert_eq!(limit("1m30s"), Ok(Some(Duration::from_secs(90))));
        for text in ["", "-5s", "soon", "5 parsecs"] {
            assert!(limit(text).unwrap_err().contains("30s"), "{text}");
        }
    }

    #[test]
    fn a_message_id_is_taken_as_it_is_printed() {
        let id = "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10.3EB0C431D2F4A6B8907A";
        for text in [id, &format!("message/{id}")] {
            assert_eq!(text.parse::<MessageId>().unwrap().as_str(), id);
        }
        for text in ["", "a", ".", "a.", ".b", "a.b.c", "a/b", "message/", "../x.y"] {
            assert!(text.parse::<MessageId>().unwrap_err().contains("kubectl whatsapp messages"), "{text}");
        }
    }
}
