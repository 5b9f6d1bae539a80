//! What a phone sends back to whoever wrote to it.

use crate::faults::messages::ReceiptRule;
use crate::keys::Key;
use crate::letters::Address;
use crate::mail::{Class, Letter};
use crate::phone::Account;
use crate::prekeys::{self, PublicPreKey};
use crate::registry::DeviceKey;
use crate::world::{World, now};
use std::sync::Arc;
use std::time::Duration;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, Server};

/// From this request on a phone sends its keys along, so that the sender makes a new session (WhatsApp Web
/// `WAWebSendRetryReceiptJob`).
const WITH_KEYS: u8 = 2;
/// How far away a phone is. One that asked within a millisecond would be faster than whatsapp-rust 0.7.0 notes what it has sent, which
/// no network is.
const AWAY: Duration = Duration::from_millis(50);
/// A phone gives up after so many requests for one message.
const LAST_REQUEST: u8 = 4;

/// The phone says of a message that it was delivered, and perhaps read, as its rules have it.
pub fn confirm(world: &Arc<World>, account: &Account, addressed: &Jid, to: DeviceKey, id: &str) {
    let rule = world.faults.rules(account.phone).receipts;
    let from = rule.address.map_or_else(|| addressed.clone(), |address| by(account, address));
    let kinds = [(rule.delivered, None), (rule.read, Some("read"))].into_iter();
    let letters: Vec<Letter> = kinds.filter(|(said, _)| *said).map(|(_, kind)| receipt(&from, id, kind)).collect();
    post_after(world, &rule, to, letters);
}

/// The owner of the phone reads everything that arrived; returns how many messages that were.
#[must_use]
pub fn read(world: &Arc<World>, account: &Account) -> usize {
    let rule = world.faults.rules(account.phone).receipts;
    let from = by(account, rule.address.unwrap_or_default());
    let read = world.inbox.read(account.phone);
    for (to, id) in &read {
        post_after(world, &rule, *to, vec![receipt(&from, id, Some("read"))]);
    }
    read.len()
}

/// The phone could not read a message, and asks for it again; nothing, when it has asked often enough.
///
/// # Errors
/// When its keys cannot be made.
pub async fn ask_again(
    world: &Arc<World>,
    account: &Account,
    addressed: &Jid,
    to: DeviceKey,
    id: &str,
) -> anyhow::Result<()> {
    let count = world.inbox.asks_again(to, account, id);
    if count > LAST_REQUEST {
        return Ok(());
    }
    let rule = world.faults.rules(account.phone).receipts;
    let from = rule.address.map_or_else(|| addressed.clone(), |address| by(account, address));
    let retry = NodeBuilder::new("retry").attr("v", 1_u8).attr("count", count).attr("id", id).attr("t", now()).build();
    let mut parts = vec![retry, prekeys::bytes("registration", account.registration_id.to_be_bytes())];
    if count >= WITH_KEYS {
        let one_time = world.signal.of(account).lock().await.one_time_key();
        parts.push(keys(account, &one_time));
    }
    let node = envelope(&from, id, Some("retry")).children(parts).build();
    tokio::time::sleep(AWAY).await;
    post_after(world, &rule, to, vec![letter(id, node)]);
    Ok(())
}

fn keys(account: &Account, one_time: &(u32, Key)) -> Node {
    let one_time = PublicPreKey { id: one_time.0, value: one_time.1.public() };
    let signed = PublicPreKey { id: account.signed.id, value: account.signed.key.public() };
    let parts = [
        prekeys::bytes("type", [prekeys::CURVE25519]),
        prekeys::bytes("identity", account.identity.public()),
        NodeBuilder::new("key").children(prekeys::prekey_fields(&one_time)).build(),
        prekeys::signed_node(&signed, &account.signed.signature.0),
    ];
    NodeBuilder::new("keys").children(parts).build()
}

fn receipt(from: &Jid, id: &str, kind: Option<&'static str>) -> Letter {
    letter(id, envelope(from, id, kind).build())
}

fn envelope(from: &Jid, id: &str, kind: Option<&'static str>) -> NodeBuilder {
    let receipt = NodeBuilder::new("receipt").attr("from", from).attr("id", id).attr("t", now());
    match kind {
        Some(kind) => receipt.attr("type", kind),
        None => receipt,
    }
}

fn letter(id: &str, node: Node) -> Letter {
    Letter { class: Class::Receipt, ..Letter::notification(id.to_owned(), node) }
}

fn by(account: &Account, address: Address) -> Jid {
    match address {
        Address::Pn => Jid::pn(account.phone.to_string()),
        Address::Lid => account.lid_jid(0),
    }
}

/// The kind of address somebody was written to by.
#[must_use]
pub fn address_of(jid: &Jid) -> Address {
    if jid.server == Server::Lid { Address::Lid } else { Address::Pn }
}

fn post_after(world: &Arc<World>, rule: &ReceiptRule, to: DeviceKey, letters: Vec<Letter>) {
    if rule.after_ms == 0 {
        return world.mail.post(to, letters);
    }
    let (world, pause) = (Arc::clone(world), Duration::from_millis(rule.after_ms));
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        world.mail.post(to, letters);
    });
}
