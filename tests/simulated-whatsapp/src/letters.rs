//! What people write with their phones to the companions of other phones.

use crate::keys::{random, to_hex};
use crate::mail::{Class, Letter};
use crate::phone::Account;
use crate::prekeys::Bundle;
use crate::registry::DeviceKey;
use crate::world::{Refusal, World, digits, now};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use wacore::messages::MessageUtils;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use waproto::whatsapp as wa;

/// The most messages one request writes.
const MOST: u32 = 10_000;
/// How long a device may take to upload its keys.
const KEYS_DEADLINE: Duration = Duration::from_secs(60);
/// The longest pause between two of them, in milliseconds.
const LONGEST_PAUSE: u64 = 600_000;

/// `POST /v1/phones/{phone}/messages`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Writing {
    /// The number of the person who writes.
    pub from: String,
    /// What is written; with a `count`, followed by each message's own number.
    pub text: String,
    /// The name of the person.
    #[serde(default)]
    pub name: String,
    /// How many messages; one, when left out.
    pub count: Option<u32>,
    /// Milliseconds from one message to the next.
    #[serde(default)]
    pub interval_ms: u64,
    /// By which address the person is named.
    #[serde(default)]
    pub address: Address,
    /// Whether the messages wait for the next login although the device is connected.
    #[serde(default)]
    pub queued: bool,
}

/// An account's two addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Address {
    /// The phone number.
    #[default]
    Pn,
    /// The address that does not show the number.
    Lid,
}

/// Answer of `POST /v1/phones/{phone}/messages`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    /// The ids of the messages, in the order they were written.
    pub ids: Vec<String>,
}

/// Somebody writes to the phone with this number: encrypts the messages for each of its companions and leaves the rest to
/// [`crate::mail`].
///
/// # Errors
/// [`Refusal::Unknown`] without a linked device, [`Refusal::Conflict`] when one does not upload its keys.
pub async fn write(world: &World, to: u64, writing: &Writing) -> Result<Written, Refusal> {
    let invalid = |what: &str| Err(Refusal::Invalid(what.to_owned()));
    let count = writing.count.unwrap_or(1);
    let Some(from) = digits(&writing.from) else {
        return invalid("`from` must be a phone number of 5 to 15 digits, like +15550002");
    };
    if from == to {
        return invalid("`from` must be another number than the phone that is written to");
    }
    if !(1..=MOST).contains(&count) || writing.interval_ms > LONGEST_PAUSE {
        return invalid("`count` must be 1 to 10000, `intervalMs` at most 600000");
    }
    let devices = world.registry.devices(Some(to));
    if devices.is_empty() {
        return Err(Refusal::Unknown("no device is linked to this phone number".to_owned()));
    }
    // A device uploads its keys while it logs in.
    let uploaded = async {
        while devices.iter().any(|device| !world.registry.has_bundle(device.key)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(KEYS_DEADLINE, uploaded).await.is_err() {
        return Err(Refusal::Conflict("a linked device does not upload its keys: is it connected".to_owned()));
    }
    let author = world.registry.account_or_new(from)?;
    let ids: Vec<String> = (0..count).map(|_| message_id()).collect();
    let phone = world.signal.of(&author);
    let mut phone = phone.lock().await;
    for device in devices {
        let mut letters = Vec::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            let text = match count {
                1 => writing.text.clone(),
                _ => format!("{} {}", writing.text, place + 1),
            };
            let message = wa::Message { conversation: Some(text), ..Default::default() };
            let plain = MessageUtils::encode_and_pad(&message);
            let sealed = phone.seal(device.key, &plain, || take_bundle(world, device.key)).await?;
            letters.push(Letter {
                class: Class::Message(DeviceKey { phone: from, device: 0 }),
                id: id.clone(),
                node: envelope(&author, writing, id, sealed),
                pause: Duration::from_millis(if place == 0 { 0 } else { writing.interval_ms }),
                queued: writing.queued,
            });
        }
        world.mail.post(device.key, letters);
    }
    Ok(Written { ids })
}

fn envelope(author: &Account, writing: &Writing, id: &str, (kind, sealed): (&'static str, Vec<u8>)) -> Node {
    let (number, hidden) = (Jid::pn(author.phone.to_string()), author.lid_jid(0));
    let message = NodeBuilder::new("message").attr("id", id).attr("type", "text").attr("t", now());
    let message = match writing.address {
        Address::Pn => message.attr("from", number).attr("sender_lid", hidden).attr("addressing_mode", "pn"),
        Address::Lid => message.attr("from", hidden).attr("sender_pn", number).attr("addressing_mode", "lid"),
    };
    let message = if writing.name.is_empty() { message } else { message.attr("notify", writing.name.as_str()) };
    message.children([NodeBuilder::new("enc").attr("v", "2").attr("type", kind).bytes(sealed).build()]).build()
}

/// What the phone says to a companion of its own, as a stanza.
///
/// # Errors
/// When the companion's keys cannot be used.
pub async fn to_companion(
    world: &World,
    account: &Account,
    to: DeviceKey,
    id: &str,
    content: &wa::Message,
) -> anyhow::Result<Node> {
    let plain = MessageUtils::encode_and_pad(content);
    let phone = world.signal.of(account);
    let (kind, sealed) = phone.lock().await.seal(to, &plain, || take_bundle(world, to)).await?;
    Ok(NodeBuilder::new("message")
        .attr("from", Jid::pn(account.phone.to_string()))
        .attr("id", id)
        .attr("type", "text")
        .attr("category", "peer")
        .attr("push_priority", "high_force")
        .attr("t", now())
        .children([NodeBuilder::new("enc").attr("v", "2").attr("type", kind).bytes(sealed).build()])
        .build())
}

/// The owner of a phone changes the name: its devices are told that there is something new among the account's settings.
///
/// # Errors
/// [`Refusal::Unknown`] for a number that no device was ever linked to.
pub fn rename(world: &World, phone: u64, name: &str) -> Result<usize, Refusal> {
    if world.registry.account(phone).is_none() {
        return Err(Refusal::Unknown("no device was ever linked to this phone number".to_owned()));
    }
    let mut renamed = Ok(false);
    let account = world.registry.change_account(phone, |account| renamed = account.rename(name, now()))?;
    if !renamed? {
        return Ok(0);
    }
    let devices = world.registry.devices(Some(phone));
    for device in &devices {
        let id = to_hex(&random::<6>());
        let node = account.settings.notification(&id, now());
        world.mail.post(device.key, [Letter::notification(id, node)]);
    }
    Ok(devices.len())
}

/// An id as phones make them.
#[must_use]
pub fn message_id() -> String {
    format!("3EB0{}", to_hex(&random::<9>()).to_uppercase())
}

/// The device's keys with one one-time key, which is used up by this and must not be handed to anybody else.
fn take_bundle(world: &World, key: DeviceKey) -> anyhow::Result<Option<Bundle>> {
    world.registry.change_bundle(key, |bundle| {
        let mut used = bundle.clone();
        used.one_time.truncate(1);
        bundle.one_time.pop_front();
        used
    })
}
