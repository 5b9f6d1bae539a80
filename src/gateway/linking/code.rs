//! `POST /api/v1/linking-code`: the code behind a link, and what becomes of it.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use futures::StreamExt as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Api, ResourceExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    api::{Phase, WhatsAppInstance},
    bridge_api::Claim,
    gateway::{
        answer::{self, Success},
        bridges::Unanswered,
        code::Code,
        failure::Failure,
        index::Known,
        input::{Fields, Parameters, body},
        picture::{Drawing, drawing},
        session::{LinkMethod, Session, phase},
        state::{Gateway, Shared},
        story::Story,
    },
    platform::{hex::sha256, watch::watch_object},
    rules::link::LinkingLink,
};

/// How long an answer waits for something new; proxies commonly wait for a minute.
const WAIT: Duration = Duration::from_secs(25);
/// A link may be opened before this gateway has heard of it.
const YOUNG: Duration = Duration::from_secs(2);
/// Which browser was the first is kept for so long after the link has expired.
const OUTLASTS: SignedDuration = SignedDuration::from_mins(5);

/// What somebody with a link asks for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"link": "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10.9b0c41d5e8f7a6b3", "browser": "0f2b7c4de1a94f35b6d8c07e91a3f254"}))]
#[allow(dead_code)] // read field by field, so that errors can name the field
pub struct Opened {
    /// What stands after the `#` of the link.
    #[schema(min_length = 1, max_length = 200)]
    link: String,
    /// Something random that the browser keeps: the first one that opens a link is the only one.
    #[schema(min_length = 16, max_length = 64)]
    browser: String,
    /// `version` of the last answer; the next comes when there is another, 25 seconds later at most.
    #[schema(max_length = 64)]
    seen: Option<String>,
}

/// What a link shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LinkingCode {
    /// Where it stands.
    state: Progress,
    /// Names this answer, to be given as `seen`.
    #[schema(example = "code 2026-01-01T12:01:00Z")]
    version: String,
    /// How the device is linked.
    pairing_method: LinkMethod,
    /// The QR code, drawn; null with pairing method Code, and while there is none.
    qr_drawing: Option<Drawing>,
    /// The characters to type on the phone; null with pairing method QR, and while there are none.
    #[schema(example = json!(null))]
    pairing_code: Option<String>,
    /// When the code stops working; null while there is none.
    #[schema(example = "2026-01-01T12:01:00Z")]
    code_expires_at: Option<String>,
    /// When the link stops working.
    #[schema(example = "2026-01-01T12:10:00Z")]
    link_expires_at: String,
}

/// Where the linking of a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Progress {
    /// There is a code.
    Code,
    /// The code is on its way.
    Waiting,
    /// The phone has used it.
    Linking,
    /// Done.
    Linked,
}

/// The code behind a link
///
/// For the page of a linking link: needs no token but the link. Answers at once, or, with `seen`, when there is something new.
#[utoipa::path(
    post, path = "/api/v1/linking-code", operation_id = "linking-code", tag = "sessions", security(()),
    request_body(content = Opened, example = json!({"link": "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10.9b0c41d5e8f7a6b3", "browser": "0f2b7c4de1a94f35b6d8c07e91a3f254"})),
    responses((status = 200, description = "The code, or where it stands.", body = Success<LinkingCode>)),
)]
pub async fn linking_code(
    State(gateway): State<Shared>,
    Extension(story): Extension<Story>,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Failure> {
    Parameters::of(&uri, &[])?;
    let text = body(&headers, content).await?;
    let fields = Fields::of(text.as_deref(), &["link", "browser", "seen"])?;
    let link = fields.required("link", (1, 200))?;
    let browser = fields.required("browser", (16, 64))?;
    let seen = fields.text("seen", (0, 64))?;
    let (uid, secret) = link.split_once('.').ok_or_else(over)?;
    let (known, link) = opened(&gateway, uid, secret).await?;
    story.is_by(&format!("linking link {}", link.name()));
    story.is_about(known.place.clone());
    let _open = gateway.streams.open(&format!("linking link {uid}"), &gateway.metrics)?;
    keep_for(&gateway, &story, &link, uid, &browser).await?;
    let left = link.expires_at().duration_since(Timestamp::now()).try_into().unwrap_or_default();
    let code =
        follow(&gateway, &known, secret, seen.as_deref(), WAIT.min(left).saturating_sub(story.began().elapsed()))
            .await?;
    Ok(answer::with(StatusCode::OK, code))
}

/// One refusal for a link that never existed, was taken back, was used, or has expired, so that the page does not tell which.
fn over() -> Failure {
    Failure::new(
        Code::LinkOver,
        "the link does not work any more: it has expired, was used, or was taken back; ask whoever sent it for a new one",
    )
}

/// The instance that a link is for, as this gateway knows it.
async fn opened(gateway: &Gateway, uid: &str, secret: &str) -> Result<(Arc<Known>, LinkingLink), Failure> {
    let mut changes = gateway.index.changes();
    let finding = async {
        loop {
            // Only those that exist are waited for.
            let known = gateway.index.known(uid)?;
            let link = known.link.clone().filter(|link| link.is_opened_by(secret, Timestamp::now()));
            if let Some(link) = link {
                return Some((known, link));
            }
            changes.changed().await.ok()?;
        }
    };
    tokio::time::timeout(YOUNG, finding).await.ok().flatten().ok_or_else(over)
}

/// The first browser that opens a link keeps it.
async fn keep_for(
    gateway: &Gateway,
    story: &Story,
    link: &LinkingLink,
    uid: &str,
    browser: &str,
) -> Result<(), Failure> {
    let key = &sha256(&json!(["linking link", link.annotation()]).to_string());
    let ours = &Claim {
        fingerprint: sha256(browser),
        session: uid.to_owned(),
        place: String::new(),
        // Names this request, because the shard may be asked more than once.
        message: format!("{:016x}", fastrand::u64(..)),
        expires_at: link.expires_at().checked_add(OUTLASTS).unwrap_or(Timestamp::MAX),
    };
    let claimed = gateway.bridges.ask_home(story, key, |home| async move { home.claim(key, ours).await }).await;
    let first = claimed.map_err(|why| match why {
        Unanswered::Unasked(failure) => failure,
        Unanswered::Bridge(error) => {
            tracing::warn!(request = story.id(), %error, "which browser opened a link first cannot be checked");
            Failure::new(
                Code::BridgeUnavailable,
                "which browser opened the link first cannot be checked now; try again in a moment",
            )
        }
    })?;
    if first.fingerprint != ours.fingerprint {
        return Err(Failure::new(
            Code::LinkTaken,
            "the link was opened in another browser before; go on there, or ask whoever sent it for a new one",
        ));
    }
    if first.message == ours.message {
        let (caller, instance) = (story.caller(), story.instance());
        tracing::info!(request = story.id(), caller, instance, "a linking link is opened");
    }
    Ok(())
}

/// What is behind the link now; when that was seen already, what comes next, or the same again when nothing does within `limit`.
async fn follow(
    gateway: &Gateway,
    known: &Known,
    secret: &str,
    seen: Option<&str>,
    limit: Duration,
) -> Result<LinkingCode, Failure> {
    let api: Api<WhatsAppInstance> = Api::namespaced(gateway.client.clone(), &known.place.namespace);
    let mut changes = pin!(watch_object(api, &known.place.name));
    let mut end = pin!(tokio::time::sleep(limit));
    let mut last: Option<WhatsAppInstance> = None;
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(Some(now))) if now.uid().as_deref() == Some(&known.uid) => {
                    let code = shown(&now, secret, Timestamp::now()).ok_or_else(over)?;
                    if seen != Some(code.version.as_str()) {
                        return Ok(code);
                    }
                    last = Some(now);
                }
                Some(Ok(_)) => return Err(over()),
                // It is made again by itself.
                Some(Err(error)) => tracing::debug!(%error, "watch the instance of a link"),
                None => break,
            },
            () = &mut end => break,
            () = gateway.closing.cancelled() => break,
        }
    }
    let last = last.ok_or_else(|| {
        Failure::new(Code::Unavailable, "the API server does not answer the gateway; try again in a moment")
    })?;
    shown(&last, secret, Timestamp::now()).ok_or_else(over)
}

/// What an instance shows to whoever has its link; nothing when the link does not work any more.
fn shown(instance: &WhatsAppInstance, secret: &str, now: Timestamp) -> Option<LinkingCode> {
    let link = LinkingLink::of(instance).filter(|link| link.is_opened_by(secret, now))?;
    let used = instance.status.as_ref().is_some_and(|status| link.is_used(status));
    let whole = Session::whole(instance);
    let (qr, typed) = (whole.qr_code.flatten(), whole.pairing_code.flatten());
    let has_code = qr.is_some() || typed.is_some();
    let state = match phase(instance) {
        Phase::Connected | Phase::Restricted if used => Progress::Linked,
        Phase::Connecting | Phase::Reconnecting => Progress::Linking,
        Phase::Terminating | Phase::Rejected => return None,
        _ if used => return None,
        Phase::AwaitingPairing if has_code => Progress::Code,
        _ => Progress::Waiting,
    };
    let is_shown = state == Progress::Code;
    let code_expires_at = whole.qr_expires_at.filter(|_| is_shown);
    Some(LinkingCode {
        version: format!("{state:?} {}", code_expires_at.as_deref().unwrap_or_default()).trim_end().to_lowercase(),
        state,
        pairing_method: whole.pairing_method,
        qr_drawing: qr.filter(|_| is_shown).as_deref().and_then(drawing),
        pairing_code: typed.filter(|_| is_shown),
        code_expires_at,
        link_expires_at: answer::moment(link.expires_at()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{api::labels::LINKING_LINK, gateway::testing::instance, rules::link::LONGEST};

    fn at(time: &str) -> Timestamp {
        format!("2026-01-01T{time}Z").parse().unwrap()
    }

    fn linked_by(secret: &str, status: Value) -> WhatsAppInstance {
        let mut instance = instance(json!({}), status);
        let link = LinkingLink::new(secret, None, at("12:00:00"), LONGEST);
        instance.annotations_mut().insert(LINKING_LINK.to_owned(), link.annotation());
        instance
    }

    fn paired(phase: &str) -> Value {
        let paired = json!({"type": "Paired", "status": "True", "reason": "x", "message": "", "lastTransitionTime": at("12:01:00")});
        json!({"phase": phase, "conditions": [paired], "phoneNumber": "+15550001111"})
    }

    #[test]
    fn a_link_shows_the_code_and_nothing_else() {
        let qr = json!({"code": "2@secret", "expiresAt": "2026-01-01T12:00:20Z", "attempt": 1, "attempts": 6});
        let waiting = linked_by("s", json!({"phase": "AwaitingPairing", "qr": qr}));
        let code = shown(&waiting, "s", at("12:00:01")).unwrap();
        assert!(code.state == Progress::Code && code.qr_drawing.is_some());
        assert_eq!(code.version, "code 2026-01-01t12:00:20z");
        assert!(!serde_json::to_string(&code).unwrap().contains(&waiting.spec.name.clone()));
        assert_eq!(shown(&waiting, "other", at("12:00:01")), None);
        assert_eq!(shown(&waiting, "s", at("12:10:00")), None);
        let state = |status: Value| shown(&linked_by("s", status), "s", at("12:01:01")).map(|code| code.state);
        assert_eq!(state(json!({"phase": "PairingExpired"})), Some(Progress::Waiting));
        assert_eq!(state(paired("Connecting")), Some(Progress::Linking));
        assert_eq!(state(paired("Connected")), Some(Progress::Linked));
        assert_eq!(state(paired("LoggedOut")), None, "it was used");
        assert_eq!(state(json!({"phase": "Rejected"})), None);
    }
}
