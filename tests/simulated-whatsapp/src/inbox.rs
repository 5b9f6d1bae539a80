//! What the phones have received: for tests that count how often each message arrived.

use crate::phone::Account;
use crate::registry::DeviceKey;
use crate::world::{lock, now_ms};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Mutex;
use waproto::whatsapp as wa;

/// Far more than a test sends.
const KEPT: usize = 1_000_000;

/// A message that a phone received: a line of `GET /v1/inbox`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InboxLine {
    /// The message's id, as its sender chose it.
    pub id: String,
    /// The sender's number: `+` and the digits.
    pub from: String,
    /// Which of the sender's devices.
    pub device: u16,
    /// The number of the phone that received it.
    pub to: String,
    /// The other address of that phone, by its linked id.
    pub lid: String,
    /// What it says; empty when it is not a text.
    pub text: String,
    /// How often it arrived and could be read.
    pub count: u32,
    /// How often the phone asked for it again because it could not be read, or said so.
    pub retries: u8,
    /// When it arrived first, in unix milliseconds; 0 when it could not be read yet.
    pub at: u64,
    /// Whether the phone's owner has read it.
    pub read: bool,
    /// When the server first acknowledged it to its sender, in unix milliseconds; 0 when it has not yet.
    #[serde(default)]
    pub acked_at: u64,
}

#[derive(Default)]
struct Tables {
    lines: Vec<Entry>,
    by_id: HashMap<(DeviceKey, u64, String), usize>,
    /// Apart from the lines: the server acknowledges what no phone has read yet.
    acked: HashMap<(DeviceKey, String), u64>,
}

struct Entry {
    from: DeviceKey,
    to: u64,
    line: InboxLine,
}

/// Everything received, in the order in which it arrived first.
#[derive(Default)]
pub struct Inbox(Mutex<Tables>);

impl Inbox {
    /// A message arrived that can be read.
    pub fn arrived(&self, from: DeviceKey, to: &Account, id: &str, content: &wa::Message) {
        self.change(from, to, id, |line| {
            line.count += 1;
            if line.at == 0 {
                line.at = now_ms();
                line.text = text(content);
            }
        });
    }

    /// The phone asks for a message again; returns for the how manieth time.
    pub fn asks_again(&self, from: DeviceKey, to: &Account, id: &str) -> u8 {
        self.change(from, to, id, |line| {
            line.retries = line.retries.saturating_add(1);
            line.retries
        })
        .unwrap_or(u8::MAX)
    }

    /// The server acknowledges a message. To be called before its sender hears of that.
    pub fn acknowledged(&self, from: DeviceKey, id: String) {
        let mut tables = lock(&self.0);
        if tables.acked.len() < KEPT {
            tables.acked.entry((from, id)).or_insert_with(now_ms);
        }
    }

    /// The owner of a phone reads what arrived: returns what was not read before, with its sender.
    pub fn read(&self, to: u64) -> Vec<(DeviceKey, String)> {
        let mut tables = lock(&self.0);
        let unread = tables.lines.iter_mut().filter(|entry| entry.to == to && entry.line.count > 0 && !entry.line.read);
        let read = unread.map(|entry| {
            entry.line.read = true;
            (entry.from, entry.line.id.clone())
        });
        read.collect()
    }

    /// What this phone received, or all phones.
    #[must_use]
    pub fn lines(&self, to: Option<u64>) -> Vec<InboxLine> {
        let tables = lock(&self.0);
        let wanted = tables.lines.iter().filter(|entry| to.is_none_or(|to| entry.to == to));
        let acked_at = |entry: &Entry| tables.acked.get(&(entry.from, entry.line.id.clone())).copied().unwrap_or(0);
        wanted.map(|entry| InboxLine { acked_at: acked_at(entry), ..entry.line.clone() }).collect()
    }

    /// Whether the owner of a phone has had a message from this account.
    #[must_use]
    pub fn knows(&self, to: u64, from: u64) -> bool {
        lock(&self.0).lines.iter().any(|entry| entry.to == to && entry.from.phone == from && entry.line.count > 0)
    }

    fn change<T>(
        &self,
        from: DeviceKey,
        account: &Account,
        id: &str,
        change: impl FnOnce(&mut InboxLine) -> T,
    ) -> Option<T> {
        let (mut tables, to) = (lock(&self.0), account.phone);
        let Tables { lines, by_id, .. } = &mut *tables;
        let place = match by_id.get(&(from, to, id.to_owned())) {
            Some(place) => *place,
            None if lines.len() >= KEPT => return None,
            None => {
                let line = InboxLine {
                    id: id.to_owned(),
                    from: format!("+{}", from.phone),
                    device: from.device,
                    to: format!("+{to}"),
                    lid: format!("{}@lid", account.lid),
                    text: String::new(),
                    count: 0,
                    retries: 0,
                    at: 0,
                    read: false,
                    acked_at: 0,
                };
                lines.push(Entry { from, to, line });
                by_id.insert((from, to, id.to_owned()), lines.len() - 1);
                lines.len() - 1
            }
        };
        lines.get_mut(place).map(|entry| change(&mut entry.line))
    }
}

fn text(content: &wa::Message) -> String {
    let extended = || content.extended_text_message.as_option().and_then(|text| text.text.clone());
    content.conversation.clone().or_else(extended).unwrap_or_default()
}
