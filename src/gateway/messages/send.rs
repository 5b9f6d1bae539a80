//! `POST /api/v1/messages/send/`: what becomes of a request, step by step.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri},
    response::Response,
};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    destination::destination,
    key::{self, Key},
    message::Message,
    route::Routing,
    submit::submit,
    wanted::wanted,
};
use crate::{
    bridge_api::{Content, Extra, MessageSpec},
    gateway::{
        answer::{self, Success},
        caller::Caller,
        failure::Failure,
        input::{Parameters, long_body},
        state::Shared,
    },
    model::Sensitive,
};

/// The header of an answer to a repeated request.
const REPLAYED: &str = "idempotent-replayed";

/// A message to send.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // read field by field, so that each refusal names its own
pub struct NewMessage {
    /// A phone number in international form, or a WhatsApp address of a person.
    #[schema(min_length = 1, max_length = 64, example = "+15551234567")]
    recipient: String,
    /// The text, which arrives as it is. Any characters (Unicode code points), but not white space only and not U+0000.
    #[schema(min_length = 1, max_length = 65536, pattern = r"^[^\u0000]*$", example = "Your order is on its way.")]
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
    let text = long_body(&headers, content, &gateway.long_bodies, &caller.user).await?;
    let wanted = wanted(text.as_deref())?;
    let owner = parameters.owner()?.unwrap_or(&caller.user).to_owned();
    // `expires_in` is left out of the fingerprint: a client that derives it from a deadline sends a smaller value with each retry.
    let asked = json!([wanted.recipient, wanted.text, wanted.session, wanted.routing == Routing::Balanced]);
    let key = key.map(|key| Key::new(&owner, &key, &asked));
    let to = destination(&gateway, &caller, &wanted, &owner, key.as_ref()).await?;
    if let Some(place) = gateway.index.object_ref(&to.uid) {
        caller.story.is_about(place);
    }

    let spec = MessageSpec {
        to: Sensitive::new(wanted.recipient),
        content: Content::Text { text: Sensitive::new(wanted.text) },
        expires_at: Some(to.expires_at),
        extra: Extra::default(),
    };
    let message = submit(&gateway, &caller, &to, &spec, wait).await?;
    let status = if message.is_settled() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = answer::with(status, message);
    if to.replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}
