//! Who calls: the token in the header or in the cookie, whose it is, and whether they may ask again so soon.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderMap, Method, header, request::Parts},
};
use k8s_openapi::{api::authentication::v1::UserInfo, jiff::Timestamp};
use kube::Client;
use tokio::time::Instant;

use super::{code::Code, cookie, failure::Failure, state::Shared, story::Story};

/// The API server's own bound on all headers together is 1 MiB; no token comes near this.
const LONGEST_TOKEN: usize = 16 << 10;

/// A caller whose token the API server accepts.
#[derive(Clone)]
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// Who it is, with groups and all.
    pub identity: Arc<UserInfo>,
    /// The API server, as that user.
    pub client: Client,
    /// When the token expires, if it says so.
    pub expires: Option<Timestamp>,
    /// Where the token stood.
    pub via: Via,
    /// What is known of the request, for its log line.
    pub story: Story,
}

/// Where a token stands in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// In the header Authorization.
    Header,
    /// In the cookie of a browser that is signed in.
    Cookie,
}

impl Caller {
    /// The same caller, whose request is about one more instance.
    #[must_use]
    pub fn about_another(&self) -> Self {
        Self { story: self.story.another(), ..self.clone() }
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, Failure> {
        let story = parts.extensions.get::<Story>().cloned().unwrap_or_else(|| Story::begin(&parts.headers));
        let (token, via) = token(gateway.settings.https, &parts.headers).ok_or_else(Failure::unauthorized)?;
        // A browser adds its cookies by itself, also to what the page of somebody else asks for: ours, and that of a proxy which
        // makes a header of it.
        let by_another = match via {
            Via::Cookie => !cookie::is_own_page(&parts.headers),
            Via::Header => cookie::is_other_site(&parts.headers, &gateway.settings.origins),
        };
        if by_another && changes(&parts.method) {
            return Err(Failure::cross_site());
        }
        let identity = gateway.identities.of(token).await?;
        let user = identity.user.username.clone().filter(|user| !user.is_empty()).ok_or_else(Failure::unauthorized)?;
        if changes(&parts.method) && shown_to(&parts.headers).is_some_and(|shown_to| shown_to != user) {
            return Err(Failure::new(
                Code::AnotherUser,
                "another person has signed in with this browser since the page was shown; it begins anew",
            ));
        }
        story.is_by(&user);
        gateway.rate.take(&user, Instant::now()).map_err(Failure::rate_limited)?;
        let client = gateway.callers.client(token).map_err(|_| Failure::unauthorized())?;
        Ok(Self { user, identity: identity.user, client, expires: identity.expires, via, story })
    }
}

fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// Whom the dashboard's page believes to be signed in. Windows share their cookies, so it may be somebody else by now.
fn shown_to(headers: &HeaderMap) -> Option<String> {
    let encoded = headers.get("x-dashboard-user")?.to_str().ok()?;
    let url = reqwest::Url::parse(&format!("http://page/?user={encoded}")).ok()?;
    url.query_pairs().next().map(|(_, user)| user.into_owned())
}

/// The token in the headers. Whatever stands in the header Authorization counts, and the cookie only where nothing does: a
/// proxy that signs people in is not overruled by what their browsers remember.
fn token(https: bool, headers: &HeaderMap) -> Option<(&str, Via)> {
    if headers.contains_key(header::AUTHORIZATION) {
        return bearer(headers).map(|token| (token, Via::Header));
    }
    cookie::token(https, headers).filter(|token| is_token(token)).map(|token| (token, Via::Cookie))
}

/// Whether a text has the form of a bearer token.
pub fn is_token(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=:".contains(&b);
    !text.is_empty() && text.len() <= LONGEST_TOKEN && text.bytes().all(fits)
}

/// The one bearer token in the headers (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (only, None) = (given.next()?, given.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && is_token(token)).then_some(token)
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

    #[test]
    fn the_user_that_a_page_was_shown_to_is_read_as_browsers_write_it() {
        let of = |value: &str| {
            shown_to(
                &[(header::HeaderName::from_static("x-dashboard-user"), value.parse().unwrap())].into_iter().collect(),
            )
        };
        assert_eq!(of("system%3Aserviceaccount%3Aa%3Ab").as_deref(), Some("system:serviceaccount:a:b"));
        assert_eq!(of("zo%C3%AB%2Btest%40example.com").as_deref(), Some("zoë+test@example.com"));
        assert_eq!(shown_to(&HeaderMap::new()), None);
    }

    #[test]
    fn a_header_counts_before_a_cookie_also_when_it_is_no_good() {
        let given = |pairs: &[(header::HeaderName, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
        };
        let (cookie, host) = ((header::COOKIE, "whatsapp-operator=abc"), (header::HOST, "a.example"));
        let both = given(&[host.clone(), cookie.clone(), (header::AUTHORIZATION, "Bearer def")]);
        assert_eq!(token(false, &both), Some(("def", Via::Header)));
        assert_eq!(token(false, &given(&[host.clone(), cookie.clone()])), Some(("abc", Via::Cookie)));
        assert_eq!(token(true, &given(&[host.clone(), cookie.clone()])), None);
        assert_eq!(token(false, &given(&[host, cookie, (header::AUTHORIZATION, "Basic def")])), None);
        assert!(changes(&Method::POST) && changes(&Method::DELETE) && !changes(&Method::GET));
    }
}
