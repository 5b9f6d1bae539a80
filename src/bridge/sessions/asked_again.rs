//! What was sent, for recipients who could not read it and ask again.

use async_trait::async_trait;
use whatsapp_operator::bridge_api::Recipient;

use super::People;
use crate::{backend, keys::SentMessages, store::Reader};

/// The bridge's own tables, which have what was sent for as long as its history lasts.
pub struct AskedAgain {
    messages: Reader,
    people: People,
}

impl AskedAgain {
    /// Reads what was sent from `messages`.
    pub fn new(messages: Reader, people: People) -> Self {
        Self { messages, people }
    }
}

#[async_trait]
impl SentMessages for AskedAgain {
    async fn message(&self, session: &str, chat: &str, id: &str) -> Option<Vec<u8>> {
        let chat = Recipient::parse(chat).ok()?;
        let message = match self.messages.handed_over(session, id).await {
            Ok(message) => message?,
            Err(error) => {
                tracing::warn!(session, %error, "a recipient asks for a message again, which cannot be looked up");
                return None;
            }
        };
        // Whoever knows an id may ask for what was sent under it; only the person it was for gets it.
        let to = Recipient::parse(message.to.reveal()).ok()?;
        self.people.all_keys(chat.key()).contains(&to.key()).then(|| backend::encoded(message.content))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use whatsapp_operator::{bridge_api::Content, model::Sensitive};

    use super::*;
    use crate::{
        sessions::new_message::{check, queued},
        store::{Change, MessageChange, Store},
    };

    const TO: &str = "+5511987654321";
    /// As WhatsApp has the number, and the linked id of the same person.
    const AS_KEPT: &str = "551187654321@s.whatsapp.net";
    const LID: &str = "4711@lid";
    const ID: &str = "3EB0000000000001";

    #[tokio::test]
    async fn a_message_is_for_the_person_it_was_sent_to() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| {}).unwrap();
        let people = People::default();
        let sent = AskedAgain::new(store.reader.clone(), people.clone());
        let key = |text| Recipient::parse(text).unwrap().key();
        let content = || Content::Text { text: Sensitive::new("Hello") };
        let spec = serde_json::from_value(json!({"to": TO, "content": content()})).unwrap();
        let message = queued(&check(ID, spec).unwrap(), "a", 1, Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let accept = MessageChange::Accept { message: Box::new(message), recipient: key(TO) };
        store.apply(vec![Change::Message(accept)]).await.unwrap();
        let asked = async |session: &str, chat: &str, id: &str| sent.message(session, chat, id).await;
        let number = "5511987654321@s.whatsapp.net";
        assert_eq!(asked("a", number, ID).await, None, "the server was not given it yet");

        let hand_over = MessageChange::HandOver { session: "a".to_owned(), sequence: 1 };
        store.apply(vec![Change::Message(hand_over)]).await.unwrap();
        let whole = Some(backend::encoded(content()));
        assert_eq!(asked("a", number, ID).await, whole);
        for (session, chat, id) in [
            ("b", number, ID),
            ("a", number, "3EB0000000000002"),
            ("a", "15550003961@s.whatsapp.net", ID),
            ("a", AS_KEPT, ID),
            ("a", LID, ID),
            ("a", "120363000000000001@g.us", ID),
            ("a", "", ID),
        ] {
            assert_eq!(asked(session, chat, id).await, None, "{session} {chat} {id}");
        }
        people.learn(key(LID), key(AS_KEPT));
        people.learn(key(TO), key(AS_KEPT));
        for chat in [number, AS_KEPT, LID] {
            assert_eq!(asked("a", chat, ID).await, whole, "{chat}");
        }
    }
}
