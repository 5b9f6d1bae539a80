//! What messages say, for those whose state is told: a message moves about four times in a few seconds, and is read from its
//! bridge once. Bounded in bytes; the oldest goes first.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::bridge_api::{Content, Message};

/// Bytes of texts kept: some ten thousand messages as people write them.
const MOST: usize = 4 << 20;
/// What an entry costs beside its text, roughly.
const ENTRY: usize = 512;

type Name = (String, String);

/// Messages by session and id.
#[derive(Default)]
pub struct Kept {
    messages: HashMap<Name, Arc<Message>>,
    order: VecDeque<Name>,
    bytes: usize,
}

impl Kept {
    /// A message, as it was when it was read.
    pub fn get(&self, session: &str, id: &str) -> Option<Arc<Message>> {
        self.messages.get(&(session.to_owned(), id.to_owned())).cloned()
    }

    /// Keeps a message.
    pub fn put(&mut self, message: Arc<Message>) {
        let name = (message.status.session.clone(), message.status.id.clone());
        let more = cost(&message);
        if more > MOST / 4 || self.messages.contains_key(&name) {
            return;
        }
        self.bytes += more;
        self.order.push_back(name.clone());
        self.messages.insert(name, message);
        while self.bytes > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(gone) = self.messages.remove(&oldest) {
                self.bytes -= cost(&gone);
            }
        }
    }
}

fn cost(message: &Message) -> usize {
    let Content::Text { text } = &message.content;
    ENTRY + text.reveal().len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(id: usize, length: usize) -> Arc<Message> {
        let time = "2026-01-01T00:00:00Z";
        let message = json!({
            "id": id.to_string(), "session": "s", "sequence": id, "state": "Queued", "acceptedAt": time, "expiresAt": time,
            "to": "+15550001", "content": {"type": "text", "text": "x".repeat(length)},
        });
        Arc::new(serde_json::from_value(message).unwrap())
    }

    #[test]
    fn the_oldest_go_and_the_bytes_stay_within_bounds() {
        let mut kept = Kept::default();
        for id in 0..200 {
            kept.put(message(id, 100_000));
            kept.put(message(id, 100_000));
        }
        assert!(kept.bytes <= MOST && kept.messages.len() == kept.order.len());
        assert!(kept.get("s", "199").is_some() && kept.get("s", "0").is_none());
        kept.put(message(999, MOST));
        assert!(kept.get("s", "999").is_none());
        let counted: usize = kept.messages.values().map(|message| cost(message)).sum();
        assert_eq!(counted, kept.bytes);
    }
}
