//! `POST link/{id}/` and `DELETE link/{id}/`: make a link, and take it back.

use std::time::Duration;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    api::{Phase, labels},
    gateway::{
        answer::{self, Success},
        caller::{Caller, Id},
        code::Code,
        failure::Failure,
        input::{Fields, Parameters, body},
        instances,
        parameters::{InNamespace, OneSession},
        session::{Session, phase},
        sessions::act::{already_connected, is_connected, refresh},
        state::Shared,
    },
    platform::random,
    rules::{
        actions::starts_again,
        link::{LONGEST, LinkingLink, wants_device},
    },
};

/// Seconds that a link works at least.
const SHORTEST: u64 = 30;

/// A link to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"expires_in": 600}))]
#[allow(dead_code)] // read field by field, so that errors can name the field
pub struct NewLink {
    /// Seconds that it works; 600 when not given.
    #[schema(minimum = 30, maximum = 600)]
    expires_in: Option<u64>,
}

/// A link for whoever has the phone.
#[derive(Serialize, ToSchema)]
#[schema(as = LinkingLink)]
pub struct Made {
    /// Address of the page, with the link's secret after the `#`: browsers send that to nobody. Whoever has it can link a phone of
    /// their own to the session. Only the path where the gateway was not told at which address people reach it (`--public-url`).
    #[schema(
        example = "https://whatsapp.example.com/dashboard/link#7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10.9b0c41d5e8f7a6b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9"
    )]
    link: String,
    /// When it stops working; earlier once a device is linked, or another link is made.
    #[schema(example = "2026-01-01T12:10:00Z")]
    expires_at: String,
}

/// Make a link for the person with the phone
///
/// It shows the session's codes, and nothing else, to the first browser that opens it, without an account of the cluster. It works
/// until a device is linked, ten minutes at most; new pairing windows open by themselves until then. A session has one at a time.
#[utoipa::path(
    post, path = "/api/v1/sessions/link/{id}/", operation_id = "link", tag = "sessions",
    params(OneSession, InNamespace),
    request_body(content = Option<NewLink>, example = json!({"expires_in": 600})),
    responses((status = 201, description = "The link. It is shown this once.", body = Success<Made>)),
)]
pub async fn link(
    State(gateway): State<Shared>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["namespace"])?;
    let lasts = lasts(body(&headers, content).await?.as_deref())?;
    let found = instances::find(&gateway, &caller, &id, parameters.namespace()?).await?;
    if is_connected(&found) {
        return Err(already_connected());
    }
    if !wants_device(&found) {
        let phase = phase(&found);
        let message = format!(
            "there is no code to show: the session is {phase}; connect it first (POST sessions/connect/{{id}}/)"
        );
        return Err(Failure::new(Code::NoCode, message));
    }
    let secret = random::secret::<32>()
        .map_err(|_| Failure::new(Code::Internal, "the gateway's machine gave no randomness; try again"))?;
    let link = LinkingLink::new(&secret, found.status.as_ref(), Timestamp::now(), lasts);
    let patch = patch(Some(&link), starts_again(&found));
    let changed = instances::change(&caller, &found, patch).await?;
    let link_name = link.name();
    tracing::info!(
        request = caller.story.id(),
        caller = caller.user,
        instance = caller.story.instance(),
        link_name,
        "a linking link is made"
    );
    let begin = gateway.settings.public_url.as_deref().unwrap_or_default();
    let address = format!("{begin}/dashboard/link#{}.{secret}", changed.uid().unwrap_or_default());
    Ok(answer::with(StatusCode::CREATED, Made { link: address, expires_at: answer::moment(link.expires_at()) }))
}

fn lasts(text: Option<&str>) -> Result<Duration, Failure> {
    let Some(fields) = Fields::optional(text, &["expires_in"])? else { return Ok(LONGEST) };
    let given = fields.number("expires_in", (SHORTEST, LONGEST.as_secs()))?;
    Ok(given.map_or(LONGEST, Duration::from_secs))
}

/// Take a link back
///
/// From now on it shows nothing. A code that it has shown stops working too: a new pairing window is opened.
#[utoipa::path(
    delete, path = "/api/v1/sessions/link/{id}/", operation_id = "revoke-link", tag = "sessions",
    params(OneSession, InNamespace),
    responses((status = 200, description = "The session has no link.", body = Success<Session>)),
)]
pub async fn revoke_link(
    State(gateway): State<Shared>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["namespace"])?;
    Fields::none(body(&headers, content).await?.as_deref())?;
    let found = instances::find(&gateway, &caller, &id, parameters.namespace()?).await?;
    let was_shown = found.annotations().contains_key(labels::LINKING_LINK) && phase(&found) == Phase::AwaitingPairing;
    let changed = instances::change(&caller, &found, patch(None, was_shown)).await?;
    if let Some(link) = LinkingLink::of(&found) {
        let link_name = link.name();
        tracing::info!(
            request = caller.story.id(),
            caller = caller.user,
            instance = caller.story.instance(),
            link_name,
            "a linking link is taken back"
        );
    }
    Ok(answer::with(StatusCode::OK, Session::whole(&changed)))
}

/// Gives a session this link or none, and with `anew` a new pairing window.
fn patch(link: Option<&LinkingLink>, anew: bool) -> Value {
    let mut metadata = if anew { refresh() } else { json!({}) };
    metadata["annotations"][labels::LINKING_LINK] = link.map(LinkingLink::annotation).into();
    json!({ "metadata": metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_lasts_ten_minutes_unless_less_is_asked_for() {
        let said = |text: &str| lasts(Some(text)).map_err(|failure| failure.message);
        assert_eq!(lasts(None).unwrap(), LONGEST);
        assert_eq!(said("{}").unwrap(), LONGEST);
        assert_eq!(said(r#"{"expires_in": 30}"#).unwrap(), Duration::from_secs(30));
        for (bad, says) in [
            (r#"{"expires_in": 601}"#, "a whole number from 30 to 600"),
            (r#"{"expires_in": "60"}"#, "a whole number from 30 to 600"),
            (r#"{"minutes": 5}"#, "unknown field"),
        ] {
            assert!(said(bad).unwrap_err().contains(says), "{bad}");
        }
    }
}
