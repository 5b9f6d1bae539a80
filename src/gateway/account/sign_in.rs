//! `POST /api/v1/sign-in`, `POST /api/v1/sign-out` and `GET /api/v1/me`.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::Response,
};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::gateway::{
    answer::{self, Success},
    caller::{Caller, Via, is_token},
    cookie,
    failure::Failure,
    input::{Fields, Parameters, body},
    state::{Gateway, Shared},
};

/// A token to sign in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "eyJhbGciOiJSUzI1NiIs..."}))]
#[allow(dead_code)] // documents what is read field by field
pub struct SignIn {
    /// A bearer token that the API server accepts, at most 3800 characters.
    #[schema(min_length = 1, max_length = 3800)]
    token: String,
}

/// Who a caller is.
#[derive(Serialize, ToSchema)]
pub struct Account {
    /// The user's name, which is the owner of what they create.
    #[schema(example = "alice@example.com")]
    pub user: String,
    /// How the request said so.
    pub signed_in_by: SignedInBy,
    /// When the token expires; null when it does not say.
    #[schema(example = "2026-01-01T13:00:00Z")]
    pub expires_at: Option<String>,
    /// The gateway's default namespace.
    #[schema(example = "default")]
    pub namespace: String,
    /// The gateway's version.
    #[schema(example = "0.1.0")]
    pub version: String,
}

/// How a request says whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignedInBy {
    /// By a bearer token in the header, its own or a proxy's.
    Header,
    /// By the cookie of `sign-in`.
    Cookie,
}

/// Nobody.
#[derive(Serialize, ToSchema)]
pub struct SignedOut {
    /// Always true.
    #[schema(example = true)]
    pub signed_out: bool,
}

fn account(gateway: &Gateway, user: String, signed_in_by: SignedInBy, expires: Option<Timestamp>) -> Account {
    Account {
        user,
        signed_in_by,
        expires_at: expires.map(|at| at.to_string()),
        namespace: gateway.settings.namespace.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Sign in with a browser
///
/// Exchanges a bearer token for a cookie that scripts cannot read. The cookie holds the token itself and is worth as much:
/// the gateway keeps nothing. Programs send the token as a header instead.
#[utoipa::path(
    post, path = "/api/v1/sign-in", operation_id = "sign-in", tag = "account", security(()),
    request_body(content = SignIn, example = json!({"token": "eyJhbGciOiJSUzI1NiIs..."})),
    responses((status = 200, description = "Signed in; `Set-Cookie` has the cookie.", body = Success<Account>)),
)]
pub async fn sign_in(
    State(gateway): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Failure> {
    Parameters::of(&uri, &[])?;
    if cookie::is_foreign_page(&headers) {
        return Err(Failure::cross_site());
    }
    let text = body(&headers, content).await?;
    let token = Fields::of(text.as_deref(), &["token"])?.required("token", (1, cookie::LONGEST_TOKEN))?;
    let token = token.trim();
    if !is_token(token) {
        return Err(Failure::unauthorized());
    }
    let identity = gateway.identities.of(token).await?;
    let user = identity.user.username.clone().filter(|user| !user.is_empty()).ok_or_else(Failure::unauthorized)?;
    let account = account(&gateway, user, SignedInBy::Cookie, identity.expires);
    let mut response = answer::with(StatusCode::OK, account);
    let secure = cookie::is_secure(gateway.settings.https, &headers);
    let set = cookie::set(&headers, token, secure).ok_or_else(Failure::unauthorized)?;
    response.headers_mut().insert(header::SET_COOKIE, set);
    Ok(response)
}

/// Sign out
///
/// Removes the cookie of `sign-in`. The token itself stays good until it expires.
#[utoipa::path(
    post, path = "/api/v1/sign-out", operation_id = "sign-out", tag = "account", security(()),
    responses((status = 200, description = "Signed out.", body = Success<SignedOut>)),
)]
pub async fn sign_out(uri: Uri, headers: HeaderMap, content: Body) -> Result<Response, Failure> {
    Parameters::of(&uri, &[])?;
    if cookie::is_foreign_page(&headers) {
        return Err(Failure::cross_site());
    }
    Fields::none(body(&headers, content).await?.as_deref())?;
    let mut response = answer::with(StatusCode::OK, SignedOut { signed_out: true });
    for value in cookie::removed(&headers) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    Ok(response)
}

/// Who I am
///
/// As the API server says of the token.
#[utoipa::path(
    get, path = "/api/v1/me", operation_id = "me", tag = "account",
    responses((status = 200, description = "The caller.", body = Success<Account>)),
)]
pub async fn me(State(gateway): State<Shared>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    Parameters::of(&uri, &[])?;
    let by = match caller.via {
        Via::Header => SignedInBy::Header,
        Via::Cookie => SignedInBy::Cookie,
    };
    Ok(answer::with(StatusCode::OK, account(&gateway, caller.user, by, caller.expires)))
}
