//! `POST connect/`, `disconnect/`, `unlink/`, `refresh-qr/` and `set-primary/`: one patch each, as the caller, and a wait for what comes
//! of it.

use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts as _, Request, State},
    http::StatusCode,
    response::Response,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::{
    api::{DesiredState, WhatsAppInstance, WhatsAppInstanceStatus, labels},
    gateway::{
        answer::{self, Success},
        caller::{Caller, Id},
        code::Code,
        failure::Failure,
        input::{Fields, Parameters, body},
        instances,
        parameters::{InNamespace, OneSession},
        session::Session,
        state::Shared,
        wait::{self, Goal, Standing},
    },
    rules::{actions::starts_again, primary, progress::Gate},
};

/// How long the answer waits for what was asked for, unless the caller says.
pub const WAIT: u64 = 10;

/// A request about one session that has no body.
pub struct About {
    /// Whose it is.
    pub caller: Caller,
    /// The session.
    pub instance: WhatsAppInstance,
    /// How long the answer may take.
    pub limit: Duration,
}

impl FromRequest<Shared> for About {
    type Rejection = Failure;

    async fn from_request(request: Request, gateway: &Shared) -> Result<Self, Failure> {
        let (mut parts, content) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, gateway).await?;
        let Id(id) = Id::from_request_parts(&mut parts, gateway).await?;
        let parameters = Parameters::of(&parts.uri, &["wait", "namespace"])?;
        let limit = parameters.wait(WAIT)?;
        Fields::none(body(&parts.headers, content).await?.as_deref())?;
        let instance = instances::find(gateway, &caller, &id, parameters.namespace()?).await?;
        Ok(Self { caller, instance, limit })
    }
}

async fn act(
    gateway: &Shared,
    about: About,
    asked: Change,
    gate: fn(&WhatsAppInstance) -> Gate,
    goal: Goal,
) -> Result<Response, Failure> {
    let patch = asked.patch(&about.instance)?;
    change(gateway, about, patch, gate, goal).await
}

async fn change(
    gateway: &Shared,
    about: About,
    patch: Value,
    gate: fn(&WhatsAppInstance) -> Gate,
    goal: Goal,
) -> Result<Response, Failure> {
    let About { caller, instance, limit } = about;
    let changed = instances::change(&caller, &instance, patch).await?;
    let gate = gate(&changed);
    let (now, standing) = wait::until(gateway, &caller, changed, gate, goal, limit).await;
    let now = now.ok_or_else(Failure::not_found)?;
    let status = if standing == Standing::Reached { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(answer::with(status, Session::whole(&now)))
}

/// A value that the annotation never had, and a person can read when it was.
pub fn refresh() -> Value {
    json!({ "annotations": { labels::REFRESH_QR: Timestamp::now().to_string() } })
}

/// What is asked of a session by one change of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Be online; started again where it has ended by itself.
    Connect,
    /// Be offline.
    Disconnect,
    /// Have no device linked.
    Unlink,
    /// A new code.
    RefreshQr,
}

impl Change {
    /// The change.
    ///
    /// # Errors
    /// When it cannot be asked of the session as it is.
    pub fn patch(self, instance: &WhatsAppInstance) -> Result<Value, Failure> {
        let wanted = |state: DesiredState| json!({ "spec": { "desiredState": state } });
        Ok(match self {
            Self::Connect => {
                let mut patch = wanted(DesiredState::Connected);
                if starts_again(instance) {
                    patch["metadata"] = refresh();
                }
                patch
            }
            Self::Disconnect => wanted(DesiredState::Disconnected),
            Self::Unlink => wanted(DesiredState::Unlinked),
            Self::RefreshQr if is_connected(instance) => return Err(already_connected()),
            Self::RefreshQr => json!({ "metadata": refresh() }),
        })
    }
}

/// Bring a session online
///
/// A session that has ended by itself is started again; one that is not linked needs a scan, and the answer is then 202 with
/// the code.
#[utoipa::path(
    post, path = "/api/v1/sessions/connect/{id}/", operation_id = "connect", tag = "sessions",
    params(
        OneSession,
        InNamespace,
        ("wait" = Option<u64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait until it is connected; 10 when not given."),
    ),
    responses(
        (status = 200, description = "It is connected.", body = Success<Session>),
        (status = 202, description = "Asked for; the answer says where it stands.", body = Success<Session>),
    ),
)]
pub async fn connect(State(gateway): State<Shared>, about: About) -> Result<Response, Failure> {
    let gate = if starts_again(&about.instance) { Gate::after_refresh } else { Gate::after_change };
    act(&gateway, about, Change::Connect, gate, Goal::Connected).await
}

/// Take a session offline
///
/// The device stays linked, so that connecting again needs no scan.
#[utoipa::path(
    post, path = "/api/v1/sessions/disconnect/{id}/", operation_id = "disconnect", tag = "sessions",
    params(
        OneSession,
        InNamespace,
        ("wait" = Option<u64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait until it is offline; 10 when not given."),
    ),
    responses(
        (status = 200, description = "It is offline.", body = Success<Session>),
        (status = 202, description = "Asked for; the answer says where it stands.", body = Success<Session>),
    ),
)]
pub async fn disconnect(State(gateway): State<Shared>, about: About) -> Result<Response, Failure> {
    act(&gateway, about, Change::Disconnect, Gate::after_change, Goal::Disconnected).await
}

/// Unlink a session's device
///
/// The device is removed from the WhatsApp account and its keys are deleted; the session, its name and its place stay. To
/// connect it again takes a scan.
#[utoipa::path(
    post, path = "/api/v1/sessions/unlink/{id}/", operation_id = "unlink", tag = "sessions",
    params(
        OneSession,
        InNamespace,
        ("wait" = Option<u64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait until no device is linked; 10 when not given."),
    ),
    responses(
        (status = 200, description = "No device is linked.", body = Success<Session>),
        (status = 202, description = "Asked for; the answer says where it stands.", body = Success<Session>),
    ),
)]
pub async fn unlink(State(gateway): State<Shared>, about: About) -> Result<Response, Failure> {
    act(&gateway, about, Change::Unlink, Gate::after_change, Goal::Unlinked).await
}

/// Ask for a new code
///
/// Opens a new pairing window, and waits for its first code. A connected session is refused.
#[utoipa::path(
    post, path = "/api/v1/sessions/refresh-qr/{id}/", operation_id = "refresh-qr", tag = "sessions",
    params(
        OneSession,
        InNamespace,
        ("wait" = Option<u64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait for the code; 10 when not given."),
    ),
    responses(
        (status = 200, description = "The new code.", body = Success<Session>),
        (status = 202, description = "Asked for; the answer says where it stands.", body = Success<Session>),
    ),
)]
pub async fn refresh_qr(State(gateway): State<Shared>, about: About) -> Result<Response, Failure> {
    act(&gateway, about, Change::RefreshQr, Gate::after_refresh, Goal::Code).await
}

/// Make a session the primary one
///
/// Only a connected one can be. It takes over from the one before in one step.
#[utoipa::path(
    post, path = "/api/v1/sessions/set-primary/{id}/", operation_id = "set-primary", tag = "sessions",
    params(
        OneSession,
        InNamespace,
        ("wait" = Option<u64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait until it is; 10 when not given."),
    ),
    responses(
        (status = 200, description = "It is the primary one.", body = Success<Session>),
        (status = 202, description = "Asked for; the answer says where it stands.", body = Success<Session>),
    ),
)]
pub async fn set_primary(State(gateway): State<Shared>, about: About) -> Result<Response, Failure> {
    if about.instance.owner().is_none() {
        return Err(Failure::new(
            Code::OwnerMissing,
            "the session has no owner, and only an owner has a primary session",
        ));
    }
    // Admission says the same, where it is asked: it is not when the wish was there before.
    primary::check_wish(&about.instance.name_any(), false, true, is_connected(&about.instance))?;
    let patch = primary::wish(&about.instance, Timestamp::now());
    change(&gateway, about, patch, Gate::after_change, Goal::Primary).await
}

/// Whether the session is connected to WhatsApp.
pub fn is_connected(instance: &WhatsAppInstance) -> bool {
    instance.status.as_ref().is_some_and(WhatsAppInstanceStatus::is_connected)
}

/// Nothing to scan.
pub fn already_connected() -> Failure {
    Failure::new(
        Code::AlreadyConnected,
        "the session is connected, so there is no code; unlink its device first (POST sessions/unlink/{id}/) to link another account",
    )
}
