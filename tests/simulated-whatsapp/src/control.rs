//! The control API: what a tester does to the server and to the phones, as JSON over HTTP.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `POST /v1/scan` | [`ScanRequest`] | [`Linked`] |
//! | `POST /v1/pair-code` | [`PairCodeRequest`] | [`Linked`] |
//! | `GET /v1/devices` | | list of [`DeviceLine`] |
//! | `GET /v1/stats` | | [`Stats`] |
//! | `GET /v1/logins` | | list of [`LoginLine`] |
//! | `GET /v1/presences` | | list of [`PresenceLine`] |
//! | `GET`, `POST /v1/mode` | [`ModeBody`] | [`ModeBody`] |
//! | `GET`, `POST /v1/phones/{phone}/rules` | [`Rules`](crate::faults::Rules): replaces all, `{}` ends them | the same |
//! | `GET`, `POST /v1/newcomers` | [`NewcomerRules`](crate::faults::NewcomerRules), likewise | the same |
//! | `POST /v1/phones/{phone}/act` | [`Live`](crate::faults::Live) | [`Touched`] |
//! | `POST /v1/pairings/refresh` | | [`Refreshed`](faults::Refreshed) |
//! | `POST /v1/phones/{phone}/messages` | [`Writing`](crate::letters::Writing) | [`Written`](crate::letters::Written) |
//! | `GET /v1/phones/{phone}/messages` | | list of [`Delivery`](crate::mail::Delivery) |
//! | `GET /v1/inbox?phone=` | | list of [`InboxLine`](crate::inbox::InboxLine): what one phone or all received |
//! | `POST /v1/phones/{phone}/read` | the owner reads what arrived | [`Read`](messages::Read) |
//! | `POST /v1/phones/{phone}/rename` | [`Name`](messages::Name) | [`Touched`] |
//! | `POST /v1/phones/{phone}/{verb}` | [`Sentence`], may be empty | [`Touched`] |
//!
//! Verbs: `unlink`, `logout`, `replace`, `ban`, `restrict`, `unrestrict`, `drop`. A refusal is a [`RefusalBody`] with
//! 400 (malformed), 404 (nothing there), 409 (too late or twice), 502 (the client said no) or 504 (it said nothing).

pub mod faults;
pub mod messages;

use crate::faults::LinkFault;
use crate::logins::LoginLine;
use crate::pairing::Owner;
use crate::phone::Ban;
use crate::presences::PresenceLine;
use crate::registry::DeviceKey;
use crate::world::{Mode, Refusal, World, digits, now};
use crate::{iq, login, pairing, qr, stanza};
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{FromRequest, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// WhatsApp's sub-reason "sent too many messages to people who do not have the number", used when none is given.
const DEFAULT_BAN_CODE: u16 = 101;
/// Length of a ban or restriction when none is given.
const DEFAULT_SECONDS: u64 = 3600;

/// `POST /v1/scan`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScanRequest {
    /// What the QR code says.
    pub qr: String,
    /// The phone that scans it.
    pub phone: String,
    /// The name of its owner.
    #[serde(default)]
    pub push_name: String,
    /// What is wrong with the link the phone offers.
    pub fault: Option<LinkFault>,
}

/// `POST /v1/pair-code`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PairCodeRequest {
    /// What the client shows, with or without the dash.
    pub code: String,
    /// The phone it is typed into.
    pub phone: String,
    /// The name of its owner.
    #[serde(default)]
    pub push_name: String,
    /// What is wrong with the link the phone offers.
    pub fault: Option<LinkFault>,
}

/// The linked device.
#[derive(Serialize, Deserialize)]
pub struct Linked {
    /// `<phone>:<device>@s.whatsapp.net`.
    pub jid: String,
}

/// One line of `GET /v1/devices`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceLine {
    /// The device's address.
    pub jid: String,
    /// `+` and the digits.
    pub phone: String,
    /// The account's name.
    pub push_name: String,
    /// Whether it is logged in now.
    pub connected: bool,
    /// Unix seconds.
    pub registered_at: u64,
}

/// `GET /v1/stats`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Devices in the table.
    pub registered: usize,
    /// Devices logged in.
    pub connected: usize,
    /// Companions waiting to be linked.
    pub pairings_open: usize,
    /// WebSockets accepted since the start.
    pub connections_accepted: u64,
    /// Devices linked since the start.
    pub registrations_total: u64,
    /// Handshakes by IK that were answered as such.
    pub ik_total: u64,
    /// Connections that began with where they are to be routed to.
    pub routed_total: u64,
}

/// Body of `ban` and `restrict`; may be left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sentence {
    /// How long; 0 ends it.
    pub seconds: Option<u64>,
    /// The ban's sub-reason.
    pub code: Option<u16>,
}

/// What a verb on a phone touched.
#[derive(Debug, Serialize, Deserialize)]
pub struct Touched {
    /// Linked devices of the phone.
    pub devices: usize,
    /// Of these, connected ones.
    pub connected: usize,
}

/// `POST /v1/mode` (fields may be left out) and its answer.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModeBody {
    /// The mode.
    pub mode: Option<Mode>,
    /// How long message acks are held back.
    pub ack_delay_ms: Option<u64>,
}

/// Body of every refusal.
#[derive(Serialize, Deserialize)]
pub struct RefusalBody {
    /// One sentence.
    pub error: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Rejected(_) => StatusCode::BAD_GATEWAY,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(RefusalBody { error: self.to_string() })).into_response()
    }
}

/// A JSON body whose mistakes are answered in the same form as every other refusal.
struct Body<T>(T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;
    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Refusal> {
        // An empty body stands for an object without fields; curl without -H is welcome too.
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|error: BytesRejection| Refusal::Invalid(format!("the request body cannot be read: {error}")))?;
        let bytes = if bytes.is_empty() { &b"{}"[..] } else { &bytes[..] };
        Json::<T>::from_bytes(bytes).map(|Json(body)| Self(body)).map_err(|error: JsonRejection| {
            Refusal::Invalid(format!("the request body is not valid: {}", error.body_text()))
        })
    }
}

type Shared = State<Arc<World>>;

/// All routes.
pub fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/v1/scan", post(scan))
        .route("/v1/pair-code", post(pair_code))
        .route("/v1/devices", get(devices))
        .route("/v1/stats", get(stats))
        .route("/v1/logins", get(logins))
        .route("/v1/presences", get(presences))
        .route("/v1/mode", get(read_mode).post(set_mode))
        .route("/v1/phones/{phone}/{verb}", post(phone))
        .merge(faults::router())
        .merge(messages::router())
        .fallback(|| async { Refusal::Unknown("there is no such path: see simulated-whatsapp --help".to_owned()) })
        .with_state(world)
}

async fn scan(State(world): Shared, Body(request): Body<ScanRequest>) -> Result<Json<Linked>, Refusal> {
    let code = qr::parse(&request.qr).map_err(|error| Refusal::Invalid(error.to_string()))?;
    let owner = Owner { phone: number(&request.phone)?, push_name: request.push_name, fault: request.fault };
    let jid = pairing::scan(&world, &code, &owner).await?;
    Ok(Json(Linked { jid: jid.to_string() }))
}

async fn pair_code(State(world): Shared, Body(request): Body<PairCodeRequest>) -> Result<Json<Linked>, Refusal> {
    let owner = Owner { phone: number(&request.phone)?, push_name: request.push_name, fault: request.fault };
    let jid = crate::pair_code::enter(&world, &request.code, &owner).await?;
    Ok(Json(Linked { jid: jid.to_string() }))
}

async fn devices(State(world): Shared) -> Json<Vec<DeviceLine>> {
    let line = |device: crate::registry::Device| DeviceLine {
        jid: device.key.jid().to_string(),
        phone: format!("+{}", device.key.phone),
        push_name: world.registry.account(device.key.phone).map(|account| account.push_name).unwrap_or_default(),
        connected: world.is_connected(device.key),
        registered_at: device.registered_at,
    };
    Json(world.registry.devices(None).into_iter().map(line).collect())
}

async fn stats(State(world): Shared) -> Json<Stats> {
    Json(Stats {
        registered: world.registry.device_count(),
        connected: world.connected_count(),
        pairings_open: world.open_pairings(),
        connections_accepted: world.counters.connections.load(Ordering::Relaxed),
        registrations_total: world.counters.registrations.load(Ordering::Relaxed),
        ik_total: world.counters.ik.load(Ordering::Relaxed),
        routed_total: world.counters.routed.load(Ordering::Relaxed),
    })
}

async fn logins(State(world): Shared) -> Json<Vec<LoginLine>> {
    Json(world.logins.all())
}

async fn presences(State(world): Shared) -> Json<Vec<PresenceLine>> {
    Json(world.presences.all())
}

async fn read_mode(State(world): Shared) -> Json<ModeBody> {
    let delay = u64::try_from(world.ack_delay().as_millis()).ok();
    Json(ModeBody { mode: Some(*world.mode().borrow()), ack_delay_ms: delay })
}

async fn set_mode(State(world): Shared, Body(change): Body<ModeBody>) -> Json<ModeBody> {
    if let Some(delay) = change.ack_delay_ms {
        world.set_ack_delay(delay);
    }
    if let Some(mode) = change.mode {
        world.set_mode(mode);
    }
    read_mode(State(world)).await
}

async fn phone(
    State(world): Shared,
    Path((phone, verb)): Path<(String, String)>,
    Body(sentence): Body<Sentence>,
) -> Result<Json<Touched>, Refusal> {
    let phone = number(&phone)?;
    if world.registry.account(phone).is_none() {
        return Err(Refusal::Unknown("no device was ever linked to this phone number".to_owned()));
    }
    let keys: Vec<DeviceKey> = world.registry.devices(Some(phone)).into_iter().map(|device| device.key).collect();
    let until = now() + sentence.seconds.unwrap_or(DEFAULT_SECONDS);
    let connected = match verb.as_str() {
        "unlink" => remove(&world, &keys, || stanza::conflict("device_removed"))?,
        "logout" => remove(&world, &keys, || stanza::failure(401).build())?,
        "replace" => end(&world, &keys, || Some(stanza::conflict("replaced"))),
        "drop" => end(&world, &keys, || None),
        "ban" => {
            let ban = Ban { code: sentence.code.unwrap_or(DEFAULT_BAN_CODE), until };
            let account = world.registry.change_account(phone, |account| account.ban = Some(ban))?;
            // A ban of no seconds lifts the one before and closes nothing.
            match account.banned(now()) {
                Some(ban) => end(&world, &keys, || Some(login::banned(ban.code, ban.until - now()))),
                None => 0,
            }
        }
        "restrict" => restrict(&world, phone, &keys, Some(until))?,
        "unrestrict" => restrict(&world, phone, &keys, None)?,
        _ => {
            return Err(Refusal::Unknown(
                "the verb must be one of unlink, logout, replace, ban, restrict, unrestrict, drop".to_owned(),
            ));
        }
    };
    Ok(Json(Touched { devices: keys.len(), connected }))
}

/// Off the table first, so that a client that comes straight back is refused.
fn remove(world: &World, keys: &[DeviceKey], last: impl Fn() -> wacore_binary::Node) -> Result<usize, Refusal> {
    for key in keys {
        world.registry.remove_device(*key)?;
    }
    Ok(end(world, keys, || Some(last())))
}

fn end(world: &World, keys: &[DeviceKey], last: impl Fn() -> Option<wacore_binary::Node>) -> usize {
    keys.iter().filter(|key| world.end(**key, last())).count()
}

fn restrict(world: &World, phone: u64, keys: &[DeviceKey], until: Option<u64>) -> Result<usize, Refusal> {
    let account = world.registry.change_account(phone, |account| account.restricted_until = until)?;
    Ok(keys.iter().filter(|key| world.send(**key, iq::timelock_notification(&account, now()))).count())
}

fn number(text: &str) -> Result<u64, Refusal> {
    digits(text).ok_or_else(|| Refusal::Invalid("the phone number must have 5 to 15 digits, like +15550001".to_owned()))
}
