//! One event as it goes out.

use axum::response::sse;
use serde_json::{Value, json};

use crate::{api::WhatsAppInstance, gateway::session::Session};

/// What a stream tells.
pub enum Told<'a> {
    /// A session as it is now.
    Session(&'a WhatsAppInstance),
    /// A session as it was when it went.
    Deleted(&'a WhatsAppInstance),
    /// Everything there was has been told.
    Ready,
    /// The stream could not go on where it was asked to, and begins anew.
    Reset(&'static str),
    /// Nothing more comes.
    End(&'static str),
    /// Nothing happened; only the place in the stream.
    Place,
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
