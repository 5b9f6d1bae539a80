//! One event as it goes out.

use std::{sync::Arc, time::Duration};

use axum::response::sse;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use utoipa::ToSchema;

use crate::{
    api::WhatsAppInstance,
    bridge_api::{self, MessageStatus},
    gateway::{messages::message::Message, session::Session},
};

/// One event of the stream, as it is written there.
#[derive(ToSchema)]
#[allow(dead_code)] // what is written is put together by hand
pub struct StreamEvent {
    /// session, ready, deleted, message, reset or end.
    #[schema(example = "ready")]
    event: String,
    /// JSON: an object with `type`, which is the event's name, and `session`, `message` or `reason`.
    #[schema(example = "{\"type\":\"ready\"}")]
    data: String,
    /// What `Last-Event-ID` has to be to go on after this event. Not every event has one.
    #[schema(example = "1234~a1b2c3d4:18f0-17")]
    id: Option<String>,
}

/// What a stream tells.
pub enum Told<'a> {
    /// A session as it is now.
    Session(&'a WhatsAppInstance),
    /// A session as it was when it went.
    Deleted(&'a WhatsAppInstance),
    /// Everything there was has been told.
    Ready,
    /// The stream could not go on where it was asked to.
    Reset(&'static str),
    /// Nothing more comes.
    End(&'static str),
    /// Nothing happened; only the place in the stream.
    Place,
}

/// An event on its way to a caller.
pub enum Outgoing {
    /// As it goes out.
    Event(sse::Event),
    /// A message that moved. It is written when its turn comes: what it says is shared by all streams until then.
    Message {
        /// The message, as it was when it was read.
        whole: Arc<bridge_api::Message>,
        /// How far it had come.
        status: Box<MessageStatus>,
        /// The place in the stream that it leads to.
        place: String,
    },
}

/// A caller that takes nothing for as long is dropped, without harm to others.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way to a caller.
#[derive(Clone)]
pub struct Line(pub mpsc::Sender<Outgoing>);

impl Line {
    /// Says it; none when the caller is gone, or takes nothing for too long.
    pub async fn say(&self, outgoing: Outgoing) -> Option<()> {
        timeout(PATIENCE, self.0.send(outgoing)).await.ok()?.ok()
    }
}

impl Outgoing {
    /// As it goes out.
    pub fn event(self) -> sse::Event {
        match self {
            Self::Event(event) => event,
            Self::Message { whole, status, place } => {
                let data =
                    json!({"type": "message", "message": Message::at(&whole, &completed(&whole.status, *status))});
                sse::Event::default().id(place).event("message").data(data.to_string())
            }
        }
    }
}

/// What an event says of a message, with what it waits for, which stands only in what was `read`.
fn completed(read: &MessageStatus, mut told: MessageStatus) -> MessageStatus {
    if read.state == told.state {
        told.waits_for = told.waits_for.or_else(|| read.waits_for.clone());
        told.estimated_send_at = told.estimated_send_at.or(read.estimated_send_at);
    }
    told
}

impl Told<'_> {
    /// With the place in the stream that it leads to, if it leads to one.
    pub fn event(&self, place: Option<&str>) -> sse::Event {
        let event = place.map_or_else(sse::Event::default, |place| sse::Event::default().id(place));
        let (kind, data) = match self {
            Self::Session(instance) => ("session", session(instance)),
            Self::Deleted(instance) => ("deleted", session(instance)),
            Self::Ready => ("ready", json!({})),
            Self::Reset(reason) => ("reset", json!({ "reason": reason })),
            Self::End(reason) => ("end", json!({ "reason": reason })),
            Self::Place => return event,
        };
        let mut data = data;
        data["type"] = kind.into();
        event.event(kind).data(data.to_string())
    }
}

/// Without its codes: they are for whoever asks for them.
fn session(instance: &WhatsAppInstance) -> Value {
    json!({ "session": serde_json::to_value(Session::brief(instance)).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_what_it_is_about_and_what_the_message_waits_for() {
        let time = "2026-01-01T00:00:00Z";
        let status = |more: Value| -> MessageStatus {
            let mut all = json!({"id": "1", "session": "s", "sequence": 1, "state": "Sent", "acceptedAt": time, "expiresAt": time});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(all).unwrap()
        };
        // A gateway that read the message when it was sent already, and hears of the recipient's linked device now.
        let arrived = status(json!({"companionDeliveredAt": time}));
        assert_eq!(completed(&status(json!({})), arrived.clone()), arrived);
        let waits = json!({"state": "Queued", "waitsFor": "Pacing", "estimatedSendAt": time});
        let queued = status(json!({"state": "Queued"}));
        assert_eq!(completed(&status(waits.clone()), queued.clone()), status(waits.clone()));
        assert_eq!(completed(&status(waits), arrived.clone()), arrived, "it does not wait any more");
    }
}
