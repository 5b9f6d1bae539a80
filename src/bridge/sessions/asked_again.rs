//! What was sent, for recipients who could not read it and ask again.

use async_trait::async_trait;
use whatsapp_operator::bridge_api::Recipient;

use super::{People, RunningClients};
use crate::{backend, keys::SentMessages, store::Reader};

/// The bridge's own tables, which have what was sent for as long as its history lasts.
pub struct AskedAgain {
    messages: Reader,
    people: People,
    running: RunningClients,
}

impl AskedAgain {
    /// Reads what was sent from `messages`. Who asks for it is known from `people`, or from the server, which the clients ask.
    pub fn new(messages: Reader, people: People, running: RunningClients) -> Self {
        Self { messages, people, running }
    }

    /// Whether `chat` and `to` are one person. In Brazil, Mexico and Argentina one phone has two numbers, and everybody has a linked id:
    /// what is known of that is forgotten with each start.
    async fn is_for(&self, session: &str, chat: &Recipient, to: Recipient) -> bool {
        let written = to.key();
        let is_known = || self.people.all_keys(chat.key()).contains(&written);
        if is_known() {
            return true;
        }
        let Some(client) = self.running.of(session) else { return false };
        match client.identify(to).await {
            Ok(identity) => {
                self.people.recognize(written, identity);
                is_known()
            }
            Err(error) => {
                tracing::info!(session, %error, "a recipient asks for a message again, and the server does not say whether it was for them");
                false
            }
        }
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
        self.is_for(session, &chat, to).await.then(|| backend::encoded(message.content))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use serde_json::json;
    use tempfile::TempDir;
    use whatsapp_operator::{bridge_api::Content, model::Sensitive};

    use super::*;
    use crate::{
        backend::{Command, Identity, Refused, commands},
        outbox::RecipientKey,
        sessions::new_message::{check, queued},
        store::{Change, MessageChange, Store},
    };

    const TO: &str = "+5511987654321";
    /// As WhatsApp has the number, and the linked id of the same person.
    const AS_KEPT: &str = "551187654321@s.whatsapp.net";
    const LID: &str = "4711@lid";
    const SOMEBODY_ELSE: &str = "15550003961@s.whatsapp.net";
    const ID: &str = "3EB0000000000001";
    const PATIENCE: Duration = Duration::from_secs(20);

    fn key(text: &str) -> RecipientKey {
        Recipient::parse(text).unwrap().key()
    }

    fn content() -> Content {
        Content::Text { text: Sensitive::new("Hello") }
    }

    /// A store in which session "a" has accepted a message to [`TO`].
    async fn store() -> (TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| {}).unwrap();
        let spec = serde_json::from_value(json!({"to": TO, "content": content()})).unwrap();
        let message = queued(&check(ID, spec).unwrap(), "a", 1, Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let accept = MessageChange::Accept { message: Box::new(message), recipient: key(TO) };
        store.apply(vec![Change::Message(accept)]).await.unwrap();
        (directory, store)
    }

    async fn hand_over(store: &Store) {
        let hand_over = MessageChange::HandOver { session: "a".to_owned(), sequence: 1 };
        store.apply(vec![Change::Message(hand_over)]).await.unwrap();
    }

    #[tokio::test]
    async fn a_message_is_for_the_person_it_was_sent_to() {
        let (_directory, store) = store().await;
        let people = People::default();
        let sent = AskedAgain::new(store.reader.clone(), people.clone(), RunningClients::default());
        let asked = async |session: &str, chat: &str, id: &str| sent.message(session, chat, id).await;
        let number = "5511987654321@s.whatsapp.net";
        assert_eq!(asked("a", number, ID).await, None, "the server was not given it yet");

        hand_over(&store).await;
        let whole = Some(backend::encoded(content()));
        assert_eq!(asked("a", number, ID).await, whole);
        for (session, chat, id) in [
            ("b", number, ID),
            ("a", number, "3EB0000000000002"),
            ("a", SOMEBODY_ELSE, ID),
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

    #[tokio::test]
    async fn who_it_is_that_asks_is_asked_of_the_server_where_it_is_not_known() {
        let (_directory, store) = store().await;
        hand_over(&store).await;
        let running = RunningClients::default();
        let sent = AskedAgain::new(store.reader.clone(), People::default(), running.clone());
        assert_eq!(sent.message("a", AS_KEPT, ID).await, None, "there is no client to ask");

        let (client, mut told) = commands();
        let _runs = running.note("a", &client);
        let identity = Identity { person: key(AS_KEPT), lid: Some(key(LID)) };
        let mut asked = async |chat: &str, says: Result<Identity, Refused>| {
            let answering = async {
                let next = tokio::time::timeout(PATIENCE, told.next()).await.expect("it is asked");
                let Command::Identify(who, answer) = next else { panic!("it is asked who that is") };
                assert_eq!(who.key(), key(TO));
                answer.give(says);
            };
            tokio::join!(sent.message("a", chat, ID), answering).0
        };
        let whole = Some(backend::encoded(content()));
        assert_eq!(asked(AS_KEPT, Err(Refused::NotAnswered)).await, None);
        assert_eq!(asked(SOMEBODY_ELSE, Ok(identity)).await, None);
        // Known by now.
        for chat in [AS_KEPT, LID] {
            assert_eq!(sent.message("a", chat, ID).await, whole, "{chat}");
        }
    }
}
