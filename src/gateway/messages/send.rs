//! `POST /api/v1/messages/send/`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri},
    response::Response,
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    key::{self, Key},
    message::{Message, public_id},
    route::{self, Busy, Routing},
};
use crate::{
    api::BridgeBinding,
    bridge_api::{
        self, BridgeError, CLAIM_OUTLASTS, Claim, Content, ErrorCode, Extra, LONGEST_TEXT, Load, LoadQuery,
        MessageSpec, Open, Recipient, RecipientKey,
    },
    drivers,
    gateway::{
        access::Verb,
        answer::{self, Success},
        bridges::{Unanswered, of_bridge},
        caller::Caller,
        code::Code,
        failure::Failure,
        index::Known,
        input::{Fields, LARGEST_MESSAGE, Parameters, body_of},
        state::{Gateway, Shared},
    },
    model::Sensitive,
};

/// How long a message may wait when the caller does not say, and at most.
const EXPIRES_IN: u64 = 24 * 3600;
const LONGEST_EXPIRY: u64 = 30 * 24 * 3600;
/// How far a bridge's clock may be behind ours. A bridge refuses a time that is more than [`LONGEST_EXPIRY`] after its own, so a
/// message that may wait the longest expires this much earlier.
const CLOCKS_APART: u64 = 5 * 60;
const REPLAYED: &str = "idempotent-replayed";

/// A message to send.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // read field by field, so that each refusal names its own
pub struct NewMessage {
    /// A phone number in international form, or a WhatsApp address of a person.
    #[schema(min_length = 1, max_length = 64, example = "+15551234567")]
    recipient: String,
    /// The text.
    #[schema(min_length = 1, max_length = 65536, example = "Your order is on its way.")]
    message: String,
    /// The session to send through; chosen by `routing` when not given.
    #[schema(min_length = 1, max_length = 253)]
    session_id: Option<String>,
    /// primary (default): through the owner's primary session. balanced: through one of those that can send now.
    routing: Option<RoutingWord>,
    /// After how many seconds it is not to be sent any more; 86400 when not given.
    #[schema(minimum = 1, maximum = 2_592_000)]
    expires_in: Option<u64>,
}

/// The two ways.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code)] // as above
enum RoutingWord {
    /// Through the primary session.
    Primary,
    /// Through one that can send now.
    Balanced,
}

struct Wanted {
    recipient: String,
    /// The same however the recipient is written.
    key: RecipientKey,
    text: String,
    session: Option<String>,
    routing: Routing,
    expires_in: u64,
}

/// Send a message
///
/// 202: the message is on disk and will reach WhatsApp once, or end in a state with a cause. 200: within `wait` seconds it was
/// sent, or ended. With an `Idempotency-Key` a repetition of the request is the same message, also when the primary session
/// has changed meanwhile; its answer has `Idempotent-Replayed: true` and the state that the message is in now.
#[utoipa::path(
    post, path = "/api/v1/messages/send/", operation_id = "send", tag = "messages",
    params(
        ("wait" = Option<u64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait until it is sent; 0 when not given."),
        ("owner" = Option<String>, Query, min_length = 1, max_length = 253, description = "Through whose sessions; the caller's own when not given."),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 257, pattern = r#"^("[!-~]{1,255}"|[!-~]{1,255})$"#, description = "Names the message: 1 to 255 visible characters, with or without quotes around them. Kept until 24 hours after the message expires. `expires_in` is that of the first request: another one is the same message still."),
    ),
    request_body(content = NewMessage, example = json!({"recipient": "+15551234567", "message": "Your order is on its way."})),
    responses(
        (status = 202, description = "Accepted; it waits.", body = Success<Message>),
        (status = 200, description = "Sent, or ended, within `wait`.", body = Success<Message>),
    ),
)]
pub async fn send(
    State(gateway): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["wait", "owner"])?;
    let wait = parameters.wait(0)?;
    let key = key::of(&headers)?;
    let text = body_of(&headers, content, LARGEST_MESSAGE).await?;
    let wanted = wanted(text.as_deref())?;
    let owner = parameters.owner()?.unwrap_or(&caller.user).to_owned();
    // Not after how long it expires: whoever computes that from a deadline asks for less each time, and means the same message.
    let asked = json!([wanted.recipient, wanted.text, wanted.session, wanted.routing == Routing::Balanced]);
    let key = key.map(|key| Key::new(&owner, &key, &asked));
    let way = way(&gateway, &caller, &wanted, &owner, key.as_ref()).await?;
    if let Some(place) = gateway.index.place(&way.uid) {
        caller.story.is_about(place);
    }

    let spec = MessageSpec {
        to: Sensitive::new(wanted.recipient),
        content: Content::Text { text: Sensitive::new(wanted.text) },
        expires_at: Some(way.expires_at),
        extra: Extra::default(),
    };
    let message = hand_over(&gateway, &caller, &way, &spec, wait).await?;
    tracing::info!(
        request = caller.story.id(),
        caller = caller.user,
        message_id = message.id,
        replayed = way.replayed,
        "message accepted"
    );
    let status = if message.is_settled() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = answer::with(status, message);
    if way.replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Where a message goes.
struct Way {
    uid: String,
    bridge: BridgeBinding,
    id: String,
    /// Until when it may be sent.
    expires_at: Timestamp,
    /// Somebody has asked for it before.
    replayed: bool,
}

impl Way {
    /// That of a message with a key. Whoever claimed the key may not have got as far as the bridge, and may have given the message
    /// another time: it expires when the key says, or the key would be free again while it may still be repeated.
    fn of(claim: Claim, replayed: bool, bridge: Option<BridgeBinding>) -> Option<Self> {
        let named = claim.place.split_once('/');
        let named = named.map(|(name, shard)| BridgeBinding { name: name.to_owned(), shard: shard.to_owned() });
        let expires_at = claim.expires_at.checked_sub(CLAIM_OUTLASTS).unwrap_or(Timestamp::MIN);
        Some(Self { uid: claim.session, bridge: named.or(bridge)?, id: claim.message, expires_at, replayed })
    }

    /// What to do where it is not known whether the message was accepted, without sending it twice.
    fn once_more(&self) -> String {
        let id = public_id(&self.uid, &self.id);
        format!(
            "repeat the request with its Idempotency-Key, or, if it had none, look first whether there is a message /api/v1/messages/{id}/"
        )
    }
}

/// Where a message goes: through the instance that sends now, or the way that it went when its key was used before.
async fn way(
    gateway: &Gateway,
    caller: &Caller,
    wanted: &Wanted,
    owner: &str,
    key: Option<&Key>,
) -> Result<Way, Failure> {
    let expires_at = expiry(Timestamp::now(), wanted.expires_in);
    let sender = sender(gateway, caller, wanted, owner).await;
    match (sender.and_then(|sender| Ok((bridge(&sender)?, sender))), key) {
        (Ok((bridge, sender)), None) => {
            Ok(Way { uid: sender.uid.clone(), bridge, id: new_id(), expires_at, replayed: false })
        }
        (Ok((bridge, sender)), Some(key)) => {
            let ours = (sender.uid.clone(), format!("{}/{}", bridge.name, bridge.shard), new_id());
            let (claim, new) = key.claim(gateway, caller, ours, expires_at).await?;
            Way::of(claim, !new, Some(bridge)).ok_or_else(Failure::not_found)
        }
        // A repetition is about whoever sent it, though nobody does now. Keys are the owner's own.
        (Err(nobody), Some(key)) if says_that_nobody_sends(&nobody) && owner == caller.user => {
            let claim = key.claimed(gateway, caller).await?;
            let before = claim.and_then(|claim| Way::of(claim, true, None));
            let Some(before) = before else { return Err(nobody) };
            match gateway.index.known(drivers::instance_uid(&before.uid)) {
                Some(known) if !may_send(gateway, caller, &known).await? => Err(nobody),
                _ => Ok(before),
            }
        }
        (Err(failure), _) => Err(failure),
    }
}

/// When a message expires that may wait for so many seconds.
fn expiry(now: Timestamp, expires_in: u64) -> Timestamp {
    let seconds = expires_in.min(LONGEST_EXPIRY - CLOCKS_APART);
    now.checked_add(SignedDuration::from_secs(seconds.cast_signed())).unwrap_or(Timestamp::MAX)
}

fn says_that_nobody_sends(failure: &Failure) -> bool {
    matches!(failure.code, Code::NotFound | Code::NoPrimary | Code::NoneReady | Code::NotPaired)
}

fn wanted(text: Option<&str>) -> Result<Wanted, Failure> {
    let fields = Fields::of(text, &["recipient", "message", "session_id", "routing", "expires_in"])?;
    let invalid = |message: &str| Failure::new(Code::Invalid, message);
    let recipient = fields.required("recipient", (1, 64))?;
    let key = Recipient::parse(&recipient).map_err(|bad| invalid(&bad.to_string()))?.key();
    let text = fields.required("message", (1, LONGEST_TEXT))?;
    if text.trim().is_empty() {
        return Err(invalid("field \"message\" must not be blank; give it something that shows"));
    }
    let session = fields.text("session_id", (1, 253))?;
    let routing = match fields.text("routing", (1, 20))?.as_deref() {
        None | Some("primary") => Routing::Primary,
        Some("balanced") => Routing::Balanced,
        Some(_) => return Err(invalid("field \"routing\" must be primary or balanced")),
    };
    let expires_in = fields.number("expires_in", (1, LONGEST_EXPIRY))?.unwrap_or(EXPIRES_IN);
    let recipient = Recipient::plain(&recipient);
    Ok(Wanted { recipient, key, text, session, routing, expires_in })
}

/// The instance that sends, if the caller may send through it.
async fn sender(gateway: &Gateway, caller: &Caller, wanted: &Wanted, owner: &str) -> Result<Arc<Known>, Failure> {
    match (&wanted.session, wanted.routing) {
        (Some(session), _) => {
            let found = gateway.index.known(drivers::instance_uid(session)).ok_or_else(Failure::not_found)?;
            // Keys are the owner's own: nobody uses another's by a session that is not that owner's.
            let fits = owner == caller.user || found.owner.as_deref() == Some(owner);
            if fits && may_send(gateway, caller, &found).await? { Ok(found) } else { Err(Failure::not_found()) }
        }
        (None, Routing::Primary) => primary(gateway, caller, owner).await,
        (None, Routing::Balanced) => {
            let ready = route::ready(allowed(gateway, caller, owner).await?)?;
            balanced(gateway, ready, wanted).await
        }
    }
}

async fn may_send(gateway: &Gateway, caller: &Caller, known: &Known) -> Result<bool, Failure> {
    gateway.access.may(&caller.identity, Verb::Create, known.owner.as_deref(), &known.place.namespace).await
}

/// Those of an owner's instances through which the caller may send.
async fn allowed(gateway: &Gateway, caller: &Caller, owner: &str) -> Result<Vec<Arc<Known>>, Failure> {
    let own = gateway.index.of_owner(owner);
    let mut allowed = Vec::with_capacity(own.len());
    for known in own {
        if may_send(gateway, caller, &known).await? {
            allowed.push(known);
        }
    }
    Ok(allowed)
}

/// How long it may take until a primary one is seen: while it moves, the instances are told one after the other.
const MOVING: Duration = Duration::from_secs(3);

/// The owner's primary one. An owner with instances has one, though for a moment none of them may say so.
async fn primary(gateway: &Gateway, caller: &Caller, owner: &str) -> Result<Arc<Known>, Failure> {
    let mut changes = gateway.index.changes();
    let seen = async {
        loop {
            changes.borrow_and_update();
            let own = allowed(gateway, caller, owner).await?;
            let found = route::primary(&own);
            // The sender lives in the gateway.
            if found.is_ok() || own.iter().all(|known| known.going) || changes.changed().await.is_err() {
                return found;
            }
        }
    };
    match tokio::time::timeout(MOVING, seen).await {
        Ok(found) => found,
        Err(_) => route::primary(&[]),
    }
}

/// How long the bridges may take to say how busy their sessions are; those that do not are taken for idle.
const ASKING: Duration = Duration::from_secs(2);

/// The one of several instances that sends.
async fn balanced(gateway: &Gateway, ready: Vec<Arc<Known>>, wanted: &Wanted) -> Result<Arc<Known>, Failure> {
    let mut shards: HashMap<&BridgeBinding, Vec<String>> = HashMap::new();
    if ready.len() > 1 {
        for known in &ready {
            if let Some(bridge) = &known.bridge {
                shards.entry(bridge).or_default().push(known.uid.clone());
            }
        }
    }
    let asking = shards.into_iter().map(async |(bridge, sessions)| {
        let query = &LoadQuery { to: Some(Sensitive::new(wanted.recipient.clone())), sessions };
        let asked = gateway.bridges.ask(bridge, |shard| async move { shard.load(query).await });
        let answer = tokio::time::timeout(ASKING, asked).await;
        answer.ok()?.inspect_err(|error| tracing::debug!(%error, "a shard does not say how busy it is")).ok()
    });
    let loads = futures::future::join_all(asking).await.into_iter().flatten().flatten();
    let busy: HashMap<String, Busy> =
        loads.map(|Load { session, waiting, knows_recipient }| (session, Busy { waiting, knows_recipient })).collect();
    let chosen = route::balanced(&ready, wanted.key, |known| busy.get(&known.uid).copied().unwrap_or_default());
    chosen.ok_or_else(Failure::not_found)
}

fn bridge(known: &Known) -> Result<BridgeBinding, Failure> {
    known.bridge.clone().ok_or_else(|| {
        Failure::new(
            Code::NotPaired,
            "the session has no place on a bridge yet, so no device is linked; wait for its QR code and scan it",
        )
    })
}

/// 3EB0 and 18 hexadecimal digits, as WhatsApp's web client makes them.
fn new_id() -> String {
    format!("3EB0{:016X}{:02X}", fastrand::u64(..), fastrand::u8(..))
}

/// How long a bridge may take to say once more how a message stands, when the time to wait for it is up.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Has the bridge accept the message, and waits until it is sent, at most so long.
async fn hand_over(
    gateway: &Gateway,
    caller: &Caller,
    way: &Way,
    spec: &MessageSpec,
    wait: Duration,
) -> Result<Message, Failure> {
    let deadline = caller.story.until(wait);
    // From before the message is there, so that nothing is missed.
    let waiter = (!wait.is_zero()).then(|| gateway.feeds.wait(&way.bridge, &way.uid, &way.id));
    let accepted = gateway
        .bridges
        .ask(&way.bridge, |shard| async move { until_answered(|| shard.send(&way.uid, &way.id, spec)).await });
    let accepted = match accepted.await {
        Ok((accepted, _)) => accepted,
        Err(Unanswered::Unasked(failure)) => return Err(failure),
        Err(Unanswered::Bridge(error)) => not_accepted(gateway, way, &error).await?,
    };
    gateway.feeds.accepted(&accepted);
    let message = Message::of(&accepted);
    let Some(waiter) = waiter.filter(|_| !message.is_settled()) else { return Ok(message) };
    let settled = async {
        loop {
            waiter.notified().await;
            if let Some(message) = look(gateway, way).await.filter(Message::is_settled) {
                return message;
            }
        }
    };
    let settled = tokio::select! {
        settled = tokio::time::timeout_at(deadline, settled) => settled.ok(),
        () = gateway.closing.cancelled() => None,
    };
    match settled {
        Some(message) => Ok(message),
        None => {
            let last = tokio::time::timeout(LAST_LOOK, look(gateway, way)).await;
            Ok(last.ok().flatten().unwrap_or(message))
        }
    }
}

/// Asks once more where nobody knows what became of the first time: under one id it is one message. Where there is no word the second
/// time either, it is not known still, also when the bridge is not there any more by then.
async fn until_answered<T, F>(ask: impl Fn() -> F) -> Result<T, BridgeError>
where
    F: Future<Output = Result<T, BridgeError>>,
{
    match ask().await {
        // Whoever did not answer in time was given it.
        Err(open) if open.leaves_open() && open != BridgeError::TimedOut => match ask().await {
            answered @ (Ok(_) | Err(BridgeError::NotFound | BridgeError::Refused { .. })) => answered,
            Err(_) => Err(open),
        },
        answered => answered,
    }
}

fn never_accepted() -> Failure {
    Failure::new(
        Code::KeyReused,
        "this idempotency key was used for a message whose time is over, and its bridge never accepted it; send it with a new key",
    )
}

/// What follows from a refusal to accept the message: it was accepted before, or the caller is refused.
async fn not_accepted(gateway: &Gateway, way: &Way, error: &BridgeError) -> Result<bridge_api::Message, Failure> {
    match error {
        // A bridge of the release before does not look for a message of a session that it has no more.
        BridgeError::NotFound if way.replayed => match read(gateway, way).await {
            Err(Unanswered::Bridge(error)) => Err(refused(&error, way, stays(gateway, way))),
            found => Ok(found?),
        },
        // The bridge has looked for it, and knows of none.
        BridgeError::Refused { code: Open::Known(ErrorCode::Invalid), .. }
            if way.replayed && way.expires_at <= Timestamp::now() =>
        {
            Err(never_accepted())
        }
        error => Err(refused(error, way, stays(gateway, way))),
    }
}

/// Whether the instance that sends is there to stay.
fn stays(gateway: &Gateway, way: &Way) -> bool {
    gateway.index.known(drivers::instance_uid(&way.uid)).is_some_and(|known| !known.going)
}

/// What a bridge's refusal to accept a message becomes. That it was not accepted is said only where the bridge has looked, and its
/// session will not be there again; where nobody knows, that is said.
fn refused(error: &BridgeError, way: &Way, stays: bool) -> Failure {
    match error {
        error if error.leaves_open() => Failure::new(
            Code::Timeout,
            format!("the bridge did not answer, and may have accepted the message all the same: {}", way.once_more()),
        ),
        BridgeError::NotFound | BridgeError::Refused { code: Open::Known(ErrorCode::Deleting), .. }
            if way.replayed && !stays =>
        {
            Failure::new(
                Code::SessionGone,
                "the session that this idempotency key was used with is gone or being deleted, and its bridge never accepted the message; send it with a new key",
            )
        }
        // Its disk may have been slow, and have it yet.
        BridgeError::Refused { code: Open::Known(ErrorCode::Internal), .. } => Failure::new(
            Code::BridgeUnavailable,
            format!(
                "the bridge of this session failed to write the message down, because its disk is slow or cannot be written for example, and may have it all the same: {}; have an administrator look at that disk",
                way.once_more()
            ),
        ),
        BridgeError::NotFound if stays => Failure::new(
            Code::NotPaired,
            "the session is not on its bridge yet, so no device is linked; wait for its QR code and scan it",
        ),
        // The bridge's own words quote nothing; which of the fields it is, it knows best.
        error => of_bridge(error),
    }
}

/// The message as its bridge has it.
async fn read(gateway: &Gateway, way: &Way) -> Result<bridge_api::Message, Unanswered> {
    gateway.bridges.ask(&way.bridge, |shard| async move { shard.read(&way.uid, &way.id).await }).await
}

async fn look(gateway: &Gateway, way: &Way) -> Option<Message> {
    read(gateway, way).await.ok().as_ref().map(Message::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_strictly() {
        let code = |text: &str| wanted(Some(text)).err().map(|failure| failure.code);
        assert_eq!(code(r#"{"recipient":"+15551234567","message":"Hi"}"#), None);
        for (text, expected) in [
            (r#"{"message":"Hi"}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567"}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":" "}"#, Code::Invalid),
            (r#"{"recipient":5,"message":"Hi"}"#, Code::Invalid),
            (r#"{"recipient":"0170 1234567","message":"Hi"}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":"Hi","routing":"fast"}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":"Hi","expires_in":0}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":"Hi","expires_in":2592001}"#, Code::Invalid),
            (r#"{"recipient":"+15551234567","message":"Hi","text":"Hi"}"#, Code::BadRequest),
            (r#"{"recipient":"+15551234567","message":"Hi","message":"Hi"}"#, Code::BadRequest),
        ] {
            assert_eq!(code(text), Some(expected), "{text}");
        }
    }

    fn way(replayed: bool) -> Way {
        let bridge = BridgeBinding { name: "builtin".to_owned(), shard: "shard-0".to_owned() };
        let (uid, id) = ("s".to_owned(), "3EB0000000000001".to_owned());
        Way { uid, bridge, id, expires_at: Timestamp::MAX, replayed }
    }

    fn broken() -> BridgeError {
        BridgeError::Broken { cause: "connection reset".into() }
    }

    #[test]
    fn the_longest_expiry_fits_a_bridge_whose_clock_is_behind() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let bridges_clock = now - SignedDuration::from_secs(299);
        let longest = expiry(now, LONGEST_EXPIRY).duration_since(bridges_clock);
        assert!(longest < SignedDuration::from_hours(30 * 24), "{longest}");
        assert_eq!(expiry(now, 86_400), now + SignedDuration::from_hours(24));
    }

    #[test]
    fn a_message_with_a_key_expires_when_the_key_says() {
        let first: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let claim = Claim {
            fingerprint: "f".to_owned(),
            session: "s".to_owned(),
            place: "builtin/shard-0".to_owned(),
            message: "3EB0000000000001".to_owned(),
            expires_at: first + CLAIM_OUTLASTS,
        };
        let way = Way::of(claim, true, None).unwrap();
        assert_eq!((way.expires_at, way.bridge.shard.as_str()), (first, "shard-0"));
    }

    #[test]
    fn a_message_is_said_not_to_be_accepted_only_where_it_never_will_be() {
        let deleting = BridgeError::Refused { code: ErrorCode::Deleting.into(), retry_after: None };
        let code = |error: &BridgeError, replayed, stays| refused(error, &way(replayed), stays).code;
        assert_eq!(code(&BridgeError::NotFound, true, false), Code::SessionGone);
        assert_eq!(code(&deleting, true, false), Code::SessionGone);
        assert_eq!(code(&deleting, false, false), Code::Terminating);
        // Made a moment ago, or made anew.
        assert_eq!(code(&BridgeError::NotFound, true, true), Code::NotPaired);
        assert_eq!(
            code(&BridgeError::Unreachable { cause: "connection refused".into() }, true, false),
            Code::BridgeUnavailable
        );
        let failed = BridgeError::Refused { code: ErrorCode::Internal.into(), retry_after: None };
        let failed = refused(&failed, &way(false), true);
        assert_eq!(failed.code, Code::BridgeUnavailable);
        assert!(failed.message.contains("disk") && failed.message.contains("s.3EB0000000000001"), "{}", failed.message);
        for error in [broken(), BridgeError::TimedOut, BridgeError::StreamEnded, BridgeError::Malformed { status: 500 }]
        {
            let failure = refused(&error, &way(false), true);
            assert_eq!(failure.code, Code::Timeout, "{error}");
            // Whoever has no key can find out.
            assert!(failure.message.contains("/api/v1/messages/s.3EB0000000000001/"), "{}", failure.message);
        }
    }

    #[tokio::test]
    async fn a_broken_connection_is_tried_once_more_and_what_is_not_known_stays_so() {
        let full = || BridgeError::Refused { code: ErrorCode::QueueFull.into(), retry_after: None };
        let gone = || BridgeError::Unreachable { cause: "connection refused".into() };
        for (answers, came, asked) in [
            (vec![Ok(1), Ok(2)], Ok(1), 1),
            (vec![Err(broken()), Ok(2)], Ok(2), 2),
            // The bridge has looked.
            (vec![Err(broken()), Err(full())], Err(full()), 2),
            (vec![Err(broken()), Err(gone())], Err(broken()), 2),
            (vec![Err(broken()), Err(BridgeError::TimedOut)], Err(broken()), 2),
            (vec![Err(gone()), Ok(2)], Err(gone()), 1),
            (vec![Err(BridgeError::TimedOut), Ok(2)], Err(BridgeError::TimedOut), 1),
        ] {
            let times = std::cell::Cell::new(0);
            let ask = || {
                times.set(times.get() + 1);
                std::future::ready(answers[times.get() - 1].clone())
            };
            assert_eq!((until_answered(ask).await, times.get()), (came, asked), "{answers:?}");
        }
    }

    #[test]
    fn an_id_looks_like_those_of_whatsapps_web_client() {
        let id = new_id();
        assert!(id.len() == 22 && id.starts_with("3EB0") && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}
