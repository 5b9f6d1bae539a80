//! What waits for the companions or was delivered to them: messages, receipts and notifications of the server.
//!
//! The server keeps each letter until the device has acknowledged it, and hands it out again at the next login. What waits
//! when a device logs in is its backlog: announced, delivered with the attribute `offline`, and its end is said. Lives as
//! long as the process.

use crate::connection::{Command, Outbox};
use crate::registry::DeviceKey;
use crate::stanza;
use crate::world::{World, lock, now_ms};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef, NodeValue};

#[cfg(test)]
mod tests;

/// What became of a message to one device: a line of `GET /v1/phones/{phone}/messages`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The message's id.
    pub id: String,
    /// Which of the phone's devices.
    pub device: u16,
    /// Who wrote it: `+` and the digits.
    pub from: String,
    /// When it was written, in unix milliseconds.
    pub at: u64,
    /// How often it was sent to the device: more than once when it was not acknowledged before the connection ended.
    pub sent: u32,
    /// Whether it was part of a backlog.
    pub offline: bool,
    /// Whether the device acknowledged it, by an ack or a receipt.
    pub acknowledged: bool,
    /// The receipts the device sent: `delivered`, `read`, `retry` and so on.
    pub receipts: Vec<String>,
}

/// What a letter is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A message of this device; 0 is the phone itself.
    Message(DeviceKey),
    /// A receipt for a message that the device wrote.
    Receipt,
    /// Something the server has to say.
    Notification,
}

impl Class {
    /// The stanza's name.
    fn tag(self) -> &'static str {
        match self {
            Self::Message(_) => "message",
            Self::Receipt => "receipt",
            Self::Notification => "notification",
        }
    }
}

/// Something to deliver.
pub struct Letter {
    /// What it is.
    pub class: Class,
    /// The stanza's id, by which the device acknowledges it.
    pub id: String,
    /// The stanza.
    pub node: Node,
    /// How long after the letter before it goes out, at the earliest.
    pub pause: Duration,
    /// Held back until the next login, although the device is connected.
    pub queued: bool,
}

impl Letter {
    /// A notification that goes out at once.
    #[must_use]
    pub fn notification(id: String, node: Node) -> Self {
        Self { class: Class::Notification, id, node, pause: Duration::ZERO, queued: false }
    }

    /// The address it comes from; none where that is the server's own, which clients write in more than one way.
    fn sender(&self) -> Option<Jid> {
        self.node.attrs.get("from").and_then(NodeValue::to_jid).filter(|sender| !sender.user.is_empty())
    }

    /// Who wrote it, if it is a message.
    fn author(&self) -> Option<DeviceKey> {
        match self.class {
            Class::Message(author) => Some(author),
            _ => None,
        }
    }
}

struct Kept {
    letter: Letter,
    delivery: Delivery,
    /// The connection over which it was sent last.
    over: Option<u64>,
    /// Acknowledged, so that only the record of it is kept.
    done: bool,
}

#[derive(Default)]
struct Mailbox {
    letters: Vec<Kept>,
    /// The connection over which letters are delivered now.
    reader: Option<u64>,
    /// Up to which letter this connection has come.
    place: usize,
    /// With how many letters it is tidied up next.
    tidy_at: usize,
    more: Arc<Notify>,
}

impl Mailbox {
    /// Throws away what is acknowledged, except the record of messages.
    fn tidy(&mut self) {
        self.letters.retain(|kept| !kept.done || kept.letter.author().is_some());
        self.place = 0;
        self.tidy_at = self.letters.len() * 2 + 1024;
    }
}

/// All letters.
#[derive(Default)]
pub struct Mail(Mutex<HashMap<DeviceKey, Mailbox>>);

impl Mail {
    /// Accepts letters for a device, in this order.
    pub fn post(&self, key: DeviceKey, letters: impl IntoIterator<Item = Letter>) {
        let mut boxes = lock(&self.0);
        let found = boxes.entry(key).or_default();
        let reader = found.reader;
        if found.letters.len() > found.tidy_at {
            found.tidy();
        }
        found.letters.extend(letters.into_iter().map(|letter| Kept {
            delivery: Delivery {
                id: letter.id.clone(),
                device: key.device,
                from: letter.author().map(|author| format!("+{}", author.phone)).unwrap_or_default(),
                at: now_ms(),
                sent: 0,
                offline: false,
                acknowledged: false,
                receipts: Vec::new(),
            },
            // As if it had been sent over this connection already: it goes out over the next one.
            over: reader.filter(|_| letter.queued),
            letter,
            done: false,
        }));
        found.more.notify_one();
    }

    /// What became of the messages to a phone's devices, oldest first.
    #[must_use]
    pub fn deliveries(&self, phone: u64) -> Vec<Delivery> {
        let boxes = lock(&self.0);
        let of_phone = boxes.iter().filter(|(key, _)| key.phone == phone);
        let messages =
            of_phone.flat_map(|(_, found)| found.letters.iter().filter(|kept| kept.letter.author().is_some()));
        let mut all: Vec<_> = messages.map(|kept| kept.delivery.clone()).collect();
        all.sort_by_key(|delivery| (delivery.at, delivery.device));
        all
    }

    /// A device acknowledged a stanza that was sent to it: by its id, its class, whom it is from, and for a receipt its type. The devices of
    /// an account confirm one message with receipts that differ only in whom they are from, and the ack of one says nothing of another,
    /// which may not even have been sent yet.
    pub fn acknowledged(&self, key: DeviceKey, ack: &NodeRef<'_>) {
        let [id, class] = ["id", "class"].map(|name| stanza::attr(ack, name).unwrap_or_default());
        let (kind, to) = (stanza::attr(ack, "type"), ack.attrs().optional_jid("to"));
        let is_it = |kept: &Kept| {
            let letter = &kept.letter;
            let is_kind = |value: &NodeValue| kind.as_deref() == Some(&*value.as_str());
            !kept.done
                && kept.delivery.sent > 0
                && letter.id == id
                && letter.class.tag() == class
                && letter.sender().is_none_or(|sender| Some(sender) == to)
                && (letter.class != Class::Receipt || letter.node.attrs.get("type").map_or(kind.is_none(), is_kind))
        };
        self.settle(key, is_it, 1, |_| {});
    }

    /// A device sent a receipt, for one message or several. Returns who wrote the first.
    pub fn receipt(&self, key: DeviceKey, receipt: &NodeRef<'_>) -> Option<DeviceKey> {
        let kind = stanza::attr(receipt, "type").unwrap_or_else(|| "delivered".to_owned());
        let ids = stanza::receipt_ids(receipt);
        let is_it = |kept: &Kept| kept.letter.author().is_some() && ids.contains(&kept.letter.id);
        self.settle(key, is_it, ids.len(), |delivery| delivery.receipts.push(kind.clone()))
    }

    fn settle(
        &self,
        key: DeviceKey,
        is_it: impl Fn(&Kept) -> bool,
        most: usize,
        note: impl Fn(&mut Delivery),
    ) -> Option<DeviceKey> {
        let mut boxes = lock(&self.0);
        // The latest are asked after most.
        let named = boxes.get_mut(&key)?.letters.iter_mut().rev().filter(|kept| is_it(kept)).take(most);
        let settled = named.map(|kept| {
            kept.done = true;
            kept.delivery.acknowledged = true;
            note(&mut kept.delivery);
            kept.letter.author()
        });
        settled.last().flatten()
    }

    /// A device may read its mail over this connection from now on. Returns the announcement of its backlog, if it has
    /// one, how long that is, and what tells of further letters.
    fn open(&self, key: DeviceKey, connection: u64) -> (Option<Node>, usize, Arc<Notify>) {
        let mut boxes = lock(&self.0);
        let found = boxes.entry(key).or_default();
        found.reader = Some(connection);
        found.more = Arc::default();
        found.tidy();
        let waiting = |tag: Option<&str>| {
            let waiting = found.letters.iter().filter(|kept| !kept.done);
            waiting.filter(|kept| tag.is_none_or(|tag| kept.letter.class.tag() == tag)).count()
        };
        let count = waiting(None);
        let preview = NodeBuilder::new("offline_preview")
            .attr("count", count)
            .attr("message", waiting(Some("message")))
            .attr("notification", waiting(Some("notification")))
            .attr("receipt", waiting(Some("receipt")))
            .attr("appdata", 0_u32)
            .attr("call", 0_u32);
        let preview = (count > 0).then(|| NodeBuilder::new("ib").children([preview.build()]).build());
        (preview, count, Arc::clone(&found.more))
    }

    fn with_next<T>(&self, key: DeviceKey, connection: u64, act: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        let mut boxes = lock(&self.0);
        let found = boxes.get_mut(&key).filter(|found| found.reader == Some(connection))?;
        let rest = found.letters.get(found.place..)?;
        found.place += rest.iter().position(|kept| !kept.done && kept.over != Some(connection))?;
        found.letters.get_mut(found.place).map(act)
    }

    /// How long to wait before the next letter over this connection is due.
    fn pause(&self, key: DeviceKey, connection: u64) -> Option<Duration> {
        self.with_next(key, connection, |kept| kept.letter.pause)
    }

    /// The next letter over this connection, which counts as sent; `offline` is its place in a backlog.
    fn next(&self, key: DeviceKey, connection: u64, offline: Option<usize>) -> Option<Node> {
        self.with_next(key, connection, |kept| {
            kept.over = Some(connection);
            kept.delivery.sent += 1;
            let mut node = kept.letter.node.clone();
            if let Some(place) = offline {
                kept.delivery.offline = true;
                node.attrs.insert("offline", place);
            }
            node
        })
    }

    fn close(&self, key: DeviceKey, connection: u64) {
        if let Some(found) = lock(&self.0).get_mut(&key).filter(|found| found.reader == Some(connection)) {
            found.reader = None;
        }
    }
}

/// Delivers a device's mail over a connection that has just left the passive mode, until the connection ends: the backlog,
/// the word that it is over, which is said of an empty one too since clients wait a minute for it, and what comes after.
pub fn deliver(world: &Arc<World>, key: DeviceKey, connection: u64, outbox: Outbox) {
    let (preview, count, more) = world.mail.open(key, connection);
    if let Some(preview) = preview {
        let _ = outbox.send(Command::Send(preview));
    }
    let end = NodeBuilder::new("offline").attr("count", count).build();
    let end = Command::Send(NodeBuilder::new("ib").children([end]).build());
    if count == 0 {
        // Said before this returns, so that it comes before whatever is said next.
        let _ = outbox.send(end);
        let reader = Reader { world: Arc::clone(world), key, connection, outbox };
        tokio::spawn(async move { reader.live(&more).await });
        return;
    }
    let reader = Reader { world: Arc::clone(world), key, connection, outbox };
    tokio::spawn(async move {
        for place in 0..count {
            if !reader.send_next(Some(place)).await {
                break;
            }
        }
        let _ = reader.outbox.send(end);
        reader.live(&more).await;
    });
}

/// A connection over which a device reads its mail.
struct Reader {
    world: Arc<World>,
    key: DeviceKey,
    connection: u64,
    outbox: Outbox,
}

impl Reader {
    async fn live(self, more: &Notify) {
        loop {
            while self.send_next(None).await {}
            tokio::select! {
                () = more.notified() => {}
                () = self.outbox.closed() => return self.world.mail.close(self.key, self.connection),
            }
        }
    }

    /// Sends the next letter when it is due; false when there is none, or the connection has ended.
    async fn send_next(&self, offline: Option<usize>) -> bool {
        let mail = &self.world.mail;
        let Some(pause) = mail.pause(self.key, self.connection) else { return false };
        if !pause.is_zero() {
            tokio::select! {
                () = self.outbox.closed() => return false,
                () = tokio::time::sleep(pause) => {}
            }
        }
        let next = mail.next(self.key, self.connection, offline);
        next.is_some_and(|node| self.outbox.send(Command::Send(node)).is_ok())
    }
}
