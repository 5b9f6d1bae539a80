//! What is due with a bridge's token, given what its Secret holds and the time. Pure but for the making of tokens.
//!
//! A change takes three steps, so that no bridge ever refuses a caller: the new token joins those that bridges accept; when
//! it has reached all of them, callers show it; when all of them do, the old one is accepted no more.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    model::Sensitive,
    platform::{later, random},
};

/// What the Secret holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// What callers show.
    pub token: Option<Sensitive>,
    /// What bridges accept.
    pub accepted: Vec<Sensitive>,
    /// How far a change of the token has come.
    pub change: Change,
    /// Whom callers trust, PEM.
    pub authorities: Option<String>,
}

/// A change of the token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What was last asked for: the annotation's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The step that was taken.
    pub step: Step,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// The steps of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// None is under way.
    #[default]
    Done,
    /// Bridges are told of the new token.
    Announced,
    /// Callers are.
    Switched,
}

/// What the Secret should hold now, and when to look again if nothing changes.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// What it should hold.
    pub held: Held,
    /// Something is due at this time.
    pub at: Option<Timestamp>,
}

/// What the Secret should hold at `now`. `asked` is the annotation's value, `authorities` whom to trust, if that is ours to say.
pub fn due(
    held: &Held,
    asked: Option<&str>,
    authorities: Option<&str>,
    overlap: Duration,
    now: Timestamp,
    fresh: impl FnOnce() -> Sensitive,
) -> Due {
    let mut new = held.clone();
    // A step that was taken by a clock that was ahead counts from now: the change goes on.
    new.change.at = new.change.at.map(|at| at.min(now));
    if let Some(authorities) = authorities {
        new.authorities = Some(authorities.to_owned());
    }
    let asked = asked.map(str::to_owned);
    let Some(token) = new.token.clone().filter(|token| is_token(token.reveal())) else {
        // Whatever was accepted was a stranger's.
        let token = fresh();
        (new.token, new.accepted) = (Some(token.clone()), vec![token]);
        new.change = Change { asked, step: Step::Done, at: None };
        return Due { held: new, at: None };
    };
    let passed = |times: u32| new.change.at.map(|at| later(at, overlap.saturating_mul(times)));
    match new.change.step {
        Step::Done if new.change.asked != asked && asked.is_some() => {
            new.accepted = vec![token, fresh()];
            new.change = Change { asked, step: Step::Announced, at: Some(now) };
        }
        Step::Announced if passed(1).is_none_or(|at| at <= now) => {
            new.token = new.accepted.last().cloned().or(new.token);
            new.change = Change { step: Step::Switched, at: Some(now), ..new.change };
        }
        Step::Switched if passed(3).is_none_or(|at| at <= now) => {
            new.accepted = vec![token];
            new.change = Change { step: Step::Done, at: None, ..new.change };
        }
        Step::Done | Step::Announced | Step::Switched => {}
    }
    // Another token was written by hand: the bridge must take it.
    if let Some(token) = new.token.clone().filter(|token| !new.accepted.contains(token)) {
        new.accepted.insert(0, token);
    }
    let at = match new.change.step {
        Step::Done => None,
        Step::Announced => new.change.at.map(|at| later(at, overlap)),
        Step::Switched => new.change.at.map(|at| later(at, overlap.saturating_mul(3))),
    };
    Due { held: new, at }
}

/// What bridges take for a token.
fn is_token(text: &str) -> bool {
    text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A token that cannot be guessed, from the system's randomness.
///
/// # Errors
/// When the system has none.
pub fn fresh() -> Result<Sensitive, rustls::crypto::GetRandomFailed> {
    random::secret::<32>().map(Sensitive::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAP: Duration = Duration::from_secs(300);

    fn at(minutes: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + k8s_openapi::jiff::SignedDuration::from_mins(minutes)
    }

    fn token(name: &str) -> Sensitive {
        Sensitive::new(format!("{name}-0123456789abcdef"))
    }

    fn step(held: &Held, asked: Option<&str>, minutes: i64) -> Due {
        due(held, asked, None, OVERLAP, at(minutes), || token("new"))
    }

    fn settled(name: &str) -> Held {
        Held { token: Some(token(name)), accepted: vec![token(name)], ..Held::default() }
    }

    #[test]
    fn a_token_is_made_where_there_is_none_or_none_of_use() {
        for missing in [None, Some(Sensitive::new("short")), Some(Sensitive::new("two words, sixteen long"))] {
            let held = Held { token: missing, accepted: vec![token("stranger")], ..Held::default() };
            assert_eq!(step(&held, None, 0), Due { held: settled("new"), at: None });
        }
        // What was asked for before there was one has been done.
        let made = step(&Held::default(), Some("1"), 0).held;
        assert_eq!(step(&made, Some("1"), 1).held, made);
    }

    #[test]
    fn nothing_is_due_as_long_as_nobody_asks() {
        assert_eq!(step(&settled("old"), None, 0), Due { held: settled("old"), at: None });
    }

    #[test]
    fn what_callers_show_is_accepted_at_every_step_of_a_change() {
        let announced = step(&settled("old"), Some("1"), 0);
        assert_eq!(announced.at, Some(at(5)));
        assert_eq!((announced.held.token.as_ref(), announced.held.accepted.len()), (Some(&token("old")), 2));
        // A second look changes nothing, nor does another wish meanwhile.
        assert_eq!(step(&announced.held, Some("2"), 4), announced);
        let switched = step(&announced.held, Some("1"), 5);
        assert_eq!(switched.at, Some(at(20)));
        assert_eq!((switched.held.token.as_ref(), switched.held.accepted.len()), (Some(&token("new")), 2));
        assert_eq!(step(&switched.held, Some("1"), 19), switched);
        let done = step(&switched.held, Some("1"), 20);
        assert_eq!(
            (done.held.token.as_ref(), done.held.accepted.as_slice()),
            (Some(&token("new")), &[token("new")][..])
        );
        assert_eq!((done.at, step(&done.held, Some("1"), 60).held), (None, done.held));
    }

    #[test]
    fn a_change_goes_on_that_was_begun_by_a_clock_that_was_ahead() {
        let year = 365 * 24 * 60;
        let announced = step(&settled("old"), Some("1"), year).held;
        let seen = step(&announced, Some("1"), 0);
        assert_eq!(seen.at, Some(at(5)));
        let switched = step(&seen.held, Some("1"), 5).held;
        let ahead = Change { at: Some(at(year)), ..switched.change.clone() };
        let seen = step(&Held { change: ahead, ..switched }, Some("1"), 6);
        assert_eq!((seen.held.change.step, seen.at), (Step::Switched, Some(at(21))));
        assert_eq!(step(&seen.held, Some("1"), 21).held.change.step, Step::Done);
    }

    #[test]
    fn a_token_that_somebody_wrote_is_accepted() {
        let held = Held { token: Some(token("own")), ..settled("old") };
        assert_eq!(step(&held, None, 0).held.accepted, [token("own"), token("old")]);
    }

    #[test]
    fn authorities_are_told_and_left_alone_when_they_are_not_ours_to_say() {
        let told = due(&settled("old"), None, Some("PEM"), OVERLAP, at(0), || token("new")).held;
        assert_eq!(told.authorities.as_deref(), Some("PEM"));
        assert_eq!(step(&told, None, 1).held, told);
    }

    #[test]
    fn a_fresh_token_is_one_and_never_the_same() {
        let (one, other) = (fresh().unwrap(), fresh().unwrap());
        assert!(one != other && one.reveal().len() == 64 && is_token(one.reveal()));
    }
}
