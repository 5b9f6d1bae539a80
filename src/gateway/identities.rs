//! Whose tokens are, kept for a moment: the API server is asked once, not with every request.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::{
    api::authentication::v1::UserInfo,
    jiff::{SignedDuration, Timestamp},
};
use kube::Client;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, time::Instant};

use super::{code::Code, failure::Failure, metrics::GatewayMetrics, remembered::Remembered};
use crate::platform::{lock, tokens};

/// As long as a webhook authorizer's or the API server's own caches keep such answers, roughly.
const KNOWN: Duration = Duration::from_secs(30);
/// A token that is refused may be accepted a moment later: that of a new account.
const UNKNOWN: Duration = Duration::from_secs(5);
/// The API server answers in milliseconds; a caller does not wait longer for it.
const ASKING: Duration = Duration::from_secs(5);
/// For so long after its end the API server still accepts a token of a service account, to make up for clocks that differ. The gateway does not,
/// and asks about a token whose end is longer ago only because its own clock may be wrong.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// Questions under way at once: garbage costs the API server no more than that.
const AT_ONCE: usize = 32;

/// Who a token is, and until when.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user.
    pub user: Arc<UserInfo>,
    /// When the token expires, if it says so itself. Not by a clock of ours that is ahead: where it would be over already, the API server
    /// knows better.
    pub expires: Option<Timestamp>,
}

/// Asks, and remembers.
pub struct Identities {
    client: Client,
    audiences: Vec<String>,
    remembered: Mutex<Remembered<Key, Verdict>>,
    asking: Semaphore,
    metrics: GatewayMetrics,
}

impl Identities {
    /// By the gateway's own client; tokens must be for one of `audiences`, or for the API server when there are none.
    pub fn new(client: Client, audiences: Vec<String>, metrics: GatewayMetrics) -> Self {
        Self { client, audiences, remembered: Mutex::default(), asking: Semaphore::new(AT_ONCE), metrics }
    }

    /// Whose `token` is.
    ///
    /// # Errors
    /// When it is nobody's, or nobody says so.
    pub async fn of(&self, token: &str) -> Result<Identity, Failure> {
        let key: Key = Sha256::digest(token.as_bytes()).into();
        let (said, now) = (expiry(token), Timestamp::now());
        if said.is_some_and(|at| at <= now && now.duration_since(at) <= LEEWAY) {
            return Err(Failure::unauthorized());
        }
        let expires = said.filter(|at| *at > now);
        let found = |verdict| match verdict {
            Verdict::Somebody(user) => Ok(Identity { user, expires }),
            Verdict::Nobody => Err(Failure::unauthorized()),
        };
        if let Some(verdict) = lock(&self.remembered).get(&key, Instant::now()).cloned() {
            return found(verdict);
        }
        let late = || {
            Failure::new(
                Code::Unavailable,
                "the gateway cannot ask the API server whose the token is; try again in a moment",
            )
        };
        let permit = tokio::time::timeout(ASKING, self.asking.acquire()).await;
        let _permit = permit.map_err(|_| late())?.map_err(|_| late())?;
        let verdict = match tokens::user_of(&self.client, token, &self.audiences, ASKING).await {
            Ok(user) => user.map_or(Verdict::Nobody, |user| Verdict::Somebody(Arc::new(user))),
            Err(error) => {
                self.metrics.asked("failed");
                tracing::warn!(%error, "ask whose a token is; the gateway needs the right to create tokenreviews");
                return Err(late());
            }
        };
        let known = matches!(verdict, Verdict::Somebody(_));
        self.metrics.asked(if known { "known" } else { "unknown" });
        let keep = keep(known, said, Timestamp::now());
        lock(&self.remembered).put(key, verdict.clone(), keep, Instant::now());
        found(verdict)
    }
}

type Key = [u8; 32];

/// What the API server said of a token.
#[derive(Clone, Debug)]
enum Verdict {
    Somebody(Arc<UserInfo>),
    Nobody,
}

/// How long an answer is kept: one that knows the token never longer than the token lives. Where it is over by our clock and good for the
/// API server, one of the two clocks is wrong, and it is asked each time.
fn keep(known: bool, expires: Option<Timestamp>, now: Timestamp) -> Duration {
    if !known {
        return UNKNOWN;
    }
    let left = expires.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
    left.map_or(KNOWN, |left| left.min(KNOWN))
}

/// When a token expires by its own word (a JWT's claim `exp`, RFC 7519 section 4.1.4). It is believed only where that makes
/// the token's life shorter; whether it is genuine, the API server says.
fn expiry(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: Option<f64>,
    }
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    #[allow(clippy::cast_possible_truncation)] // saturating, and a time that far away is none
    Timestamp::from_second(claims.exp? as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.signature", URL_SAFE_NO_PAD.encode(claims))
    }

    /// An API server that knows the tokens of its own clock, which is an hour behind this machine's.
    #[tokio::test]
    async fn a_token_that_is_over_by_a_clock_that_is_ahead_is_good_where_the_api_server_says_so() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let review = async |axum::Json(review): axum::Json<serde_json::Value>| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            let token = review["spec"]["token"].as_str().unwrap();
            let known = expiry(token).is_some_and(|at| at > Timestamp::now() - SignedDuration::from_hours(1));
            let user = serde_json::json!({"username": "alice"});
            axum::Json(serde_json::json!({"spec": {}, "status": {"authenticated": known, "user": user}}))
        };
        let app = axum::Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", axum::routing::post(review));
        let identities = Identities::new(Client::new(app, "ns"), Vec::new(), GatewayMetrics::default());
        let exp = |seconds: i64| token(&format!("{{\"exp\":{}}}", Timestamp::now().as_second() + seconds));
        assert!(identities.of(&exp(-20)).await.is_err());
        assert_eq!(ASKED.load(Ordering::Relaxed), 0, "one that has just ended is over");
        let good = exp(-1800);
        for _ in 0..2 {
            let identity = identities.of(&good).await.unwrap();
            assert_eq!((identity.user.username.as_deref(), identity.expires), (Some("alice"), None));
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 2, "not remembered");
        let ended = exp(-5400);
        for _ in 0..2 {
            assert!(identities.of(&ended).await.is_err());
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 3, "one that is nobody's is");
    }

    #[test]
    fn a_tokens_own_word_shortens_how_long_it_is_remembered() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let exp = |seconds: i64| expiry(&token(&format!("{{\"exp\":{}}}", now.as_second() + seconds)));
        assert_eq!(keep(true, exp(3600), now), KNOWN);
        assert_eq!(keep(true, exp(7), now), Duration::from_secs(7));
        assert_eq!(keep(false, exp(3600), now), UNKNOWN);
        // By a clock that is ahead.
        assert_eq!(keep(true, exp(-3600), now), Duration::ZERO);
        assert_eq!(keep(false, exp(-3600), now), UNKNOWN);
        assert_eq!(keep(true, None, now), KNOWN);
        for odd in [
            "",
            "opaque",
            "a.b",
            "a.b.c",
            "a.e30.c.d",
            &token("[]"),
            &token("{\"exp\":\"x\"}"),
            &token("{\"exp\":1e300}"),
        ] {
            assert_eq!(expiry(odd), None, "{odd}");
        }
    }
}
