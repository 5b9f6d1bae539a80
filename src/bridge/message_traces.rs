//! Messages of recorded traces, from the request that brought one to the server's word on it: one step of the trace, which tells how
//! long it waited. Kept in memory only: after a restart, such a step is missing.

use std::{collections::HashMap, sync::Mutex};

use opentelemetry::KeyValue;
use whatsapp_operator::{
    bridge_api::{MessageState, MessageStatus},
    platform::{
        lock,
        trace::{Over, Trace, export},
    },
};

/// Messages that are followed at a time; those beyond are not.
const MOST: usize = 10_000;

/// The messages that are followed, by session and id.
#[derive(Debug, Default)]
pub struct MessageTraces(Mutex<HashMap<(String, String), Trace>>);

impl MessageTraces {
    /// A message is accepted. It is followed when the trace of its request is recorded.
    pub fn begin(&self, message: &MessageStatus, trace: Option<Trace>) {
        let Some(trace) = trace.filter(Trace::is_sent) else { return };
        let mut followed = lock(&self.0);
        if followed.len() < MOST {
            followed.insert((message.session.clone(), message.id.clone()), trace.step());
        }
    }

    /// The messages of a session are followed no longer: they are another's.
    pub fn forget(&self, session: &str) {
        lock(&self.0).retain(|(of, _), _| of != session);
    }

    /// The server has it, or it has ended.
    pub fn over(&self, message: &MessageStatus) {
        let mut followed = lock(&self.0);
        // Mostly nothing is: no key is made for it.
        if followed.is_empty() {
            return;
        }
        let Some(trace) = followed.remove(&(message.session.clone(), message.id.clone())) else { return };
        drop(followed);
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
