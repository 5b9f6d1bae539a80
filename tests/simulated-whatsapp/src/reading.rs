//! What companions write, on its way: the parts for phones are read there, the parts for other companions are delivered.

use crate::connection::{Command, Outbox};
use crate::letters::{self, Address};
use crate::mail::{Class, Letter};
use crate::phone::{self, Account};
use crate::receipts::{self, address_of};
use crate::registry::DeviceKey;
use crate::stanza;
use crate::world::{World, now};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use wacore::messages::decode_plaintext;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};
use wacore_libsignal::protocol::SignalProtocolError;
use waproto::whatsapp::{self as wa, message::protocol_message::Type};

/// Where the phones read what one connection writes, in the order it was written. Apart from the connection, so that
/// decrypting does not hold up acknowledgements.
pub struct Reading(mpsc::UnboundedSender<Part>);

/// The part of a message that is for one phone.
struct Part {
    id: String,
    to: Jid,
    kind: String,
    ciphertext: Vec<u8>,
}

impl Reading {
    /// The phones read what `from` writes over the connection behind `outbox`, until that ends.
    #[must_use]
    pub fn start(world: Arc<World>, from: DeviceKey, outbox: Outbox) -> Self {
        let (sender, mut parts) = mpsc::unbounded_channel::<Part>();
        tokio::spawn(async move {
            while let Some(part) = parts.recv().await {
                if let Err(error) = read(&world, from, &outbox, &part).await {
                    tracing::info!("a phone cannot answer a message: {error:#}");
                }
            }
        });
        Self(sender)
    }

    /// Takes a message apart.
    pub fn take(&self, world: &World, from: DeviceKey, message: &NodeRef<'_>) {
        let Some(to) = message.attrs().optional_jid("to") else { return };
        // Written to one device because that asked for it again: nobody else gets it, and the device gets it once. whatsmeow and Baileys
        // say so, and Baileys lists the device among the participants all the same.
        let is_for_one = stanza::attr(message, "device_fanout").as_deref() == Some("false");
        let participants = message.get_optional_child("participants").filter(|_| !is_for_one);
        let participants = participants.and_then(NodeRef::children).unwrap_or_default();
        let parts = participants.iter().filter_map(|part| Some((part.attrs().optional_jid("jid")?, part)));
        for (device, holder) in std::iter::once((to, message)).chain(parts) {
            let Some(enc) = holder.get_optional_child("enc") else { continue };
            if device.device == 0 {
                let Some(ciphertext) = enc.content_bytes().map(<[u8]>::to_vec) else { continue };
                let id = stanza::attr(message, "id").unwrap_or_default();
                let kind = stanza::attr(enc, "type").unwrap_or_default();
                let _ = self.0.send(Part { id, to: device, kind, ciphertext });
            } else {
                deliver(world, from, &device, message, enc);
            }
        }
    }
}

async fn read(world: &Arc<World>, from: DeviceKey, outbox: &Outbox, part: &Part) -> anyhow::Result<()> {
    let Some(account) = world.person(&part.to)? else { return Ok(()) };
    let is_own = account.phone == from.phone;
    if !is_own && world.faults.take_retry(account.phone) {
        return receipts::ask_again(world, &account, &part.to, from, &part.id).await;
    }
    let opened = world.signal.of(&account).lock().await.open(from, &part.kind, &part.ciphertext).await;
    let content = opened.and_then(|plain| decode_plaintext(&plain, 2));
    match content {
        Ok(content) if is_own => answer_own(world, &account, from, outbox, &content).await,
        Ok(content) => {
            world.inbox.arrived(from, &account, &part.id, &content);
            receipts::confirm(world, &account, &part.to, from, &part.id);
            Ok(())
        }
        // The copy for the own phone: it has no use for it here.
        Err(_) if is_own => Ok(()),
        // With a number that its sender has used up: WhatsApp's clients take it for a copy of an earlier message and say nothing
        // (whatsmeow: ErrOldCounter; whatsapp-rust: receive.rs).
        Err(error) if matches!(error.downcast_ref(), Some(SignalProtocolError::DuplicatedMessage(..))) => {
            tracing::info!("a phone drops a message that it takes for a copy of an earlier one");
            Ok(())
        }
        Err(error) => {
            tracing::info!("a phone cannot read a message: {error:#}");
            receipts::ask_again(world, &account, &part.to, from, &part.id).await
        }
    }
}

/// What the own phone does with what its companion writes to it.
async fn answer_own(
    world: &World,
    account: &Account,
    from: DeviceKey,
    outbox: &Outbox,
    content: &wa::Message,
) -> anyhow::Result<()> {
    let inner = content.protocol_message.as_option();
    if inner.is_none_or(|inner| inner.r#type != Some(Type::APP_STATE_SYNC_KEY_REQUEST)) {
        return Ok(());
    }
    world.counters.key_requests.fetch_add(1, Ordering::Relaxed);
    if !world.faults.rules(from.phone).keep_app_state_key {
        let key = phone::app_state_key_share(account, from, now());
        let share = letters::to_companion(world, account, from, &letters::message_id(), &key).await?;
        let _ = outbox.send(Command::Send(share));
    }
    Ok(())
}

/// Delivers the part of a message that is for another companion.
fn deliver(world: &World, from: DeviceKey, to: &Jid, message: &NodeRef<'_>, enc: &NodeRef<'_>) {
    let (Some(author), Some(reader)) = (world.registry.account(from.phone), world.account_of(to)) else { return };
    let key = DeviceKey { phone: reader.phone, device: to.device };
    if world.registry.device(key).is_none() || key == from {
        return;
    }
    let id = stanza::attr(message, "id").unwrap_or_default();
    let node = forwarded(&author, from, &id, to, message, enc);
    let letter = Letter { class: Class::Message(from), ..Letter::notification(id, node) };
    world.mail.post(key, [letter]);
}

fn forwarded(author: &Account, from: DeviceKey, id: &str, to: &Jid, message: &NodeRef<'_>, enc: &NodeRef<'_>) -> Node {
    let (number, hidden) = (from.jid(), author.lid_jid(from.device));
    let mut node = NodeBuilder::new("message").attr("id", id).attr("t", now());
    node = match address_of(to) {
        Address::Pn => node.attr("from", number).attr("sender_lid", hidden),
        Address::Lid => node.attr("from", hidden).attr("sender_pn", number),
    };
    for name in ["type", "category", "push_priority", "edit"] {
        if let Some(value) = stanza::attr(message, name) {
            node = node.attr(name, value);
        }
    }
    if !author.push_name.is_empty() {
        node = node.attr("notify", author.push_name.as_str());
    }
    // A copy of what the account wrote to somebody else says to whom.
    let recipient = message
        .attrs()
        .optional_jid("to")
        .filter(|_| to.user == from.phone.to_string() || to.user == author.lid.to_string());
    if let Some(recipient) = recipient {
        node = node.attr("recipient", recipient);
    }
    let identity = message.get_optional_child("device-identity").map(NodeRef::to_owned);
    let identity = identity.filter(|_| stanza::attr(enc, "type").as_deref() == Some("pkmsg"));
    node.children(std::iter::once(enc.to_owned()).chain(identity)).build()
}

/// Passes a receipt of a companion on to the companion that wrote the message.
pub fn forward_receipt(world: &World, from: DeviceKey, to: DeviceKey, receipt: &NodeRef<'_>) {
    let mut node = receipt.to_owned();
    let by_lid = receipt.attrs().optional_jid("to").is_some_and(|jid| address_of(&jid) == Address::Lid);
    let account = world.registry.account(from.phone).filter(|_| by_lid);
    node.attrs.insert("from", account.map_or_else(|| from.jid(), |account| account.lid_jid(from.device)));
    node.attrs.0.retain(|(name, _)| name != "to");
    node.attrs.insert("t", now());
    let id = stanza::attr(receipt, "id").unwrap_or_default();
    world.mail.post(to, [Letter { class: Class::Receipt, ..Letter::notification(id, node) }]);
}
