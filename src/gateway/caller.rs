//! Who calls: the bearer token, whose it is, and whether they may ask again so soon.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderMap, header, request::Parts},
};
use k8s_openapi::{api::authentication::v1::UserInfo, jiff::Timestamp};
use kube::Client;
use tokio::time::Instant;

use super::{code::Code, failure::Failure, state::Shared, story::Story};

/// The API server's own bound on all headers together is 1 MiB; no token comes near this.
const LONGEST_TOKEN: usize = 16 << 10;

/// A caller whose token the API server accepts.
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// Who it is, with groups and all.
    pub identity: Arc<UserInfo>,
    /// The API server, as that user.
    pub client: Client,
    /// When the token expires, if it says so.
    pub expires: Option<Timestamp>,
    /// The request's story.
    pub story: Story,
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Failure> {
        let story = parts.extensions.get::<Story>().cloned().unwrap_or_else(|| Story::begin(&parts.headers));
        let token = bearer(&parts.headers).ok_or_else(Failure::unauthorized)?;
        let identity = gateway.identities.of(token).await?;
        let user = identity.user.username.clone().filter(|user| !user.is_empty()).ok_or_else(Failure::unauthorized)?;
        story.is_by(&user);
        gateway.rate.take(&user, Instant::now()).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            Failure::new(Code::RateLimited, format!("too many requests; try again in {seconds} s")).after(seconds)
        })?;
        let client = gateway.callers.client(token).map_err(|_| Failure::unauthorized())?;
        Ok(Self { user, identity: identity.user, client, expires: identity.expires, story })
    }
}

/// The one bearer token in the headers (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (only, None) = (given.next()?, given.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=:".contains(&b);
    let is_token = !token.is_empty() && token.len() <= LONGEST_TOKEN && token.bytes().all(fits);
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then_some(token)
}

/// The session that a path names.
pub struct Id(pub String);

impl FromRequestParts<Shared> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Failure> {
        let id = Path::<String>::from_request_parts(parts, gateway).await;
        id.map(|Path(id)| Self(id)).map_err(|_| Failure::new(Code::BadRequest, "the id in the path cannot be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_of(values: &[&str]) -> Option<String> {
        let headers = values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect();
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn one_bearer_token_and_nothing_else_is_taken() {
        assert_eq!(token_of(&["Bearer abc.d-e_f"]).as_deref(), Some("abc.d-e_f"));
        assert_eq!(token_of(&["bearer  abc"]).as_deref(), Some("abc"));
        for none in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Basic abc"],
            &["Bearer a b"],
            &["Bearer a\tb"],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(token_of(none), None, "{none:?}");
        }
        assert_eq!(token_of(&[&format!("Bearer {}", "a".repeat(LONGEST_TOKEN + 1))]), None);
    }
}
