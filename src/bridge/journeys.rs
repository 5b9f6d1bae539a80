//! Messages of recorded traces, from the request that brought one to the server's word on it: one step of the trace, which tells how
//! long it waited. Kept in memory only: after a restart, such a step is missing.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Mutex,
};

use opentelemetry::KeyValue;
use whatsapp_operator::{
    bridge_api::{MessageState, MessageStatus},
    platform::{
        lock,
        trace::{self, Over, Trace, export},
    },
};

/// Messages that are followed at a time; those beyond are not.
const MOST: usize = 10_000;

/// The messages that are followed, by session and id.
#[derive(Debug, Default)]
pub struct Journeys(Mutex<HashMap<(String, String), Trace>>);

impl Journeys {
    /// A message is about to be accepted. It is followed when its request's trace is recorded; whether it now is.
    pub fn begin(&self, session: &str, message: &str) -> bool {
        let Some(trace) = trace::current().filter(|trace| export::is_on() && trace.is_sampled()) else { return false };
        let mut followed = lock(&self.0);
        if followed.len() >= MOST {
            return false;
        }
        // A repetition of the request is of another trace, but the message is of the first one's.
        let Entry::Vacant(place) = followed.entry((session.to_owned(), message.to_owned())) else { return false };
        place.insert(trace.step());
        true
    }

    /// It was not accepted, or had been already.
    pub fn forget(&self, session: &str, message: &str) {
        lock(&self.0).remove(&(session.to_owned(), message.to_owned()));
    }

    /// The server has it, or it has ended.
    pub fn over(&self, message: &MessageStatus) {
        if !export::is_on() {
            return;
        }
        let Some(trace) = lock(&self.0).remove(&(message.session.clone(), message.id.clone())) else { return };
        let mut attributes = vec![
            KeyValue::new("messaging.system", "whatsapp"),
            KeyValue::new("messaging.message.id", message.id.clone()),
            KeyValue::new("whatsapp.session", message.session.clone()),
            KeyValue::new("whatsapp.message.state", format!("{:?}", message.state)),
        ];
        if let Some(cause) = &message.cause {
            attributes.push(KeyValue::new("error.type", format!("{cause:?}")));
        }
        let failed = message.state == MessageState::Failed;
        let began = message.accepted_at.into();
        export::record(Over { trace, name: "send".to_owned(), answers: false, began, failed, attributes });
    }
}
