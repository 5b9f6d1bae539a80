//! The parameters of a query.

use std::time::Duration;

use axum::{extract::Query, http::Uri};

use super::{
    bad,
    names::{each_once, is_label, listed, shortened},
};
use crate::gateway::failure::Failure;

/// The longest owner that an instance may have.
const LONGEST_OWNER: usize = 253;

/// The longest a caller may ask an answer to take; it takes less than that, see [`Story::until`](crate::gateway::story::Story::until).
pub const LONGEST_WAIT: u64 = 60;

/// The parameters of a query.
#[derive(Debug, Default)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of `uri`, which may have these and no others.
    ///
    /// # Errors
    /// When there are others, or one is there twice.
    pub fn of(uri: &Uri, allowed: &[&str]) -> Result<Self, Failure> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| bad("the query cannot be read"))?;
        let rule = || match allowed {
            [] => "there are none here".to_owned(),
            allowed => format!("known here: {}", listed(allowed)),
        };
        each_once(
            pairs.iter().map(|(name, _)| name.as_str()),
            allowed,
            |name| bad(format!("unknown query parameter {:?}; {}", shortened(name), rule())),
            |name| bad(format!("query parameter {name:?} is given twice; give it once")),
        )?;
        // Bytes that are no UTF-8 were replaced, and would name something that the caller did not ask for.
        if let Some((name, _)) = pairs.iter().find(|(_, value)| value.contains(char::REPLACEMENT_CHARACTER)) {
            return Err(bad(format!(
                "query parameter {name:?} must be percent-encoded UTF-8, and hold no U+FFFD, which stands for bytes that are not"
            )));
        }
        Ok(Self(pairs))
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A number that is not negative.
    ///
    /// # Errors
    /// When it is something else.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let must = || bad(format!("query parameter {name:?} must be a number that is not negative"));
        self.get(name).map(|text| digits(text).ok_or_else(must)).transpose()
    }

    /// True or false.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        let must = || bad(format!("query parameter {name:?} must be true or false"));
        self.get(name).map(|text| text.parse().map_err(|_| must())).transpose()
    }

    /// An owner.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn owner(&self) -> Result<Option<&str>, Failure> {
        match self.get("owner") {
            Some("") => Err(bad(
                "query parameter \"owner\" must not be empty; leave it out for your own sessions, or give * for everybody's",
            )),
            Some(owner) if owner.chars().count() > LONGEST_OWNER => {
                Err(bad(format!("query parameter \"owner\" must be at most {LONGEST_OWNER} characters long")))
            }
            owner => Ok(owner),
        }
    }

    /// `wait`: how long the answer may take, in whole seconds.
    ///
    /// # Errors
    /// When it is no such number.
    pub fn wait(&self, default: u64) -> Result<Duration, Failure> {
        let text = self.get("wait");
        let seconds = text.map_or(Some(default), digits);
        let fits = seconds.filter(|seconds| *seconds <= LONGEST_WAIT);
        let must = || bad(format!("query parameter \"wait\" must be whole seconds from 0 to {LONGEST_WAIT}"));
        fits.map(Duration::from_secs).ok_or_else(must)
    }

    /// A namespace.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn namespace(&self) -> Result<Option<&str>, Failure> {
        match self.get("namespace") {
            Some(name) if !is_label(name) => Err(bad(
                "query parameter \"namespace\" must be the name of a namespace: lower case letters, digits and '-', at most 63",
            )),
            name => Ok(name),
        }
    }
}

/// A number in digits, and nothing else: no sign, no white space.
pub fn digits(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_number_and_nothing_else_is() {
        assert_eq!(digits("42"), Some(42));
        for bad in ["", "+42", "-1", "4x", " 4", "?", "99999999999999999999999"] {
            assert_eq!(digits(bad), None, "{bad}");
        }
    }

    #[test]
    fn parameters_are_known_and_given_once() {
        let of = |query: &str| Parameters::of(&format!("/a?{query}").parse().unwrap(), &["wait", "namespace"]);
        assert_eq!(of("wait=7").unwrap().wait(10).unwrap(), Duration::from_secs(7));
        assert_eq!(of("").unwrap().wait(10).unwrap(), Duration::from_secs(10));
        for bad in ["wait=61", "wait=", "wait=-1", "wait=%2B1", "wait=1.5", "wait=1e1", "wait=99999999999999999999"] {
            assert!(of(bad).unwrap().wait(10).is_err(), "{bad}");
        }
        assert!(of("wait=1&wait=1").unwrap_err().message.contains("twice"));
        assert!(of("wiat=1").unwrap_err().message.contains("known here: wait, namespace"));
        assert!(of("wait=%ff").unwrap_err().message.contains("\"wait\" must be percent-encoded UTF-8"));
        assert!(of("namespace=A_b").unwrap().namespace().is_err());
        assert_eq!(of("namespace=a-b").unwrap().namespace().unwrap(), Some("a-b"));
    }
}
