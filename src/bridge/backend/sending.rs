//! Hands messages to WhatsApp.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use wacore::{
    iq::{
        spec::IqSpec,
        usync::{IsOnWhatsAppQueryType, IsOnWhatsAppSpec, IsOnWhatsAppUser},
    },
    proto_helpers::MessageBuilderExt as _,
};
use waproto::whatsapp as wa;
use whatsapp_operator::{bridge_api::Content, model::Sensitive, platform::lock};
use whatsapp_rust::{
    Client, Jid, SendError, SendOptions, anyhow,
    cache::Freshness,
    features::ContactError,
    request::{InfoQuery, IqError},
    wacore_binary::NodeRef,
};

use super::{Delivery, Identity, Outgoing, Refused};
use crate::outbox::{Obstacle, Recipient};

/// How many recipients a client remembers the address of. More are asked for again.
const REMEMBERED: usize = 4096;

/// Where the recipients of one client's messages are, as the server said. Clones share it.
#[derive(Clone, Default)]
pub struct Addresses(Arc<Mutex<HashMap<Sensitive, Found>>>);

/// A recipient as the server has them.
#[derive(Clone)]
struct Found {
    address: Jid,
    /// Their linked id, where the server named it.
    lid: Option<Jid>,
}

impl Found {
    fn identity(&self) -> Identity {
        Identity { person: person(&self.address).key(), lid: self.lid.as_ref().map(|lid| person(lid).key()) }
    }
}

impl Addresses {
    fn get(&self, number: &Sensitive) -> Option<Found> {
        lock(&self.0).get(number).cloned()
    }

    fn put(&self, number: &Sensitive, found: Found) {
        let mut known = lock(&self.0);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(number.clone(), found);
    }
}

/// Hands a message over under the id it has. The server's acknowledgement comes as an event.
pub async fn send(client: &Client, addresses: &Addresses, outgoing: Outgoing) -> Delivery {
    let Outgoing { id, to, content, fresh } = outgoing;
    let found = match find(client, addresses, &to, fresh).await {
        Ok(found) => found,
        Err(obstacle) => return Delivery::Hindered(obstacle),
    };
    let content = message(content);
    let address = &found.address;
    let send = |options| client.send_message_with_options(address.clone(), content.clone(), options);
    let as_known = SendOptions::default().with_message_id(id);
    let sent = if fresh {
        let asked_anew = send(as_known.clone().with_device_freshness(Freshness::Refresh)).await;
        if asked_anew.as_ref().is_err_and(is_about_the_list) { send(as_known).await } else { asked_anew }
    } else {
        send(as_known).await
    };
    match sent {
        Ok(_) => Delivery::HandedOver { keyed: is_keyed(client, address).await, identity: found.identity() },
        Err(error) => Delivery::Hindered(obstacle(&error)),
    }
}

/// Whether a message that was handed over was for the recipient's phone too. whatsapp-rust 0.7.0 sends, and says that all is well, also when
/// the phone's keys could not be had, or the server named other devices of the recipient alone, and only those get something they can read
/// (send/mod.rs, usync.rs). The phone is device 0.
async fn is_keyed(client: &Client, address: &Jid) -> bool {
    // They are known since it was sent. Where they are not any more, the session tells enough.
    let devices = client.signal().get_user_devices(std::slice::from_ref(address)).await;
    let is_left_out =
        devices.is_ok_and(|devices| !devices.is_empty() && devices.iter().all(|device| device.device != 0));
    !is_left_out && client.signal().validate_session(address).await.unwrap_or(false)
}

/// Who a recipient is, as the server says.
pub async fn identify(client: &Client, addresses: &Addresses, recipient: &Recipient) -> Result<Identity, Refused> {
    let found = find(client, addresses, recipient, false).await.map_err(|obstacle| match obstacle {
        Obstacle::NotOnWhatsApp | Obstacle::NotMentioned | Obstacle::Recipient | Obstacle::Unsendable => {
            Refused::ByServer
        }
        Obstacle::Passing | Obstacle::Connection => Refused::NotAnswered,
    })?;
    Ok(found.identity())
}

/// What a message says, as WhatsApp has it.
fn message(Content::Text { text }: Content) -> wa::Message {
    wa::Message::text(text.reveal())
}

/// What a message says, as it is encrypted for its recipient.
pub fn encoded(content: Content) -> Vec<u8> {
    waproto::codec::message_to_vec(&message(content))
}

/// Whether the server answered, and the library cannot read what. Nothing was sent. Asked for the devices anew it wants more of the
/// answer than otherwise, a signed list for each that has companions, and of the account's own devices too (whatsapp-rust 0.7.0,
/// client/device_registry.rs): the same message goes out as the first try would have had it. A list without any device is an internal
/// error to it (usync.rs).
fn is_about_the_list(error: &SendError) -> bool {
    matches!(error, SendError::Iq(IqError::ParseError(_)) | SendError::Internal(_))
}

/// Why a message was not sent. In whatsapp-rust 0.7.0 nothing fails after the message itself went out, and everything before asks
/// for devices and keys, or encrypts (send/mod.rs).
fn obstacle(error: &SendError) -> Obstacle {
    match error {
        SendError::InvalidRequest(_) => Obstacle::Unsendable,
        SendError::Iq(error) => unanswered(error),
        // The keys could not be read or written, or nothing could be encrypted.
        SendError::Internal(_) | SendError::NotLoggedIn => Obstacle::Passing,
        _ => Obstacle::Connection,
    }
}

/// What it means that a question about a recipient failed, after which nothing is sent: a refusal is about them, and anything else,
/// a server that has too much to do and a connection that is gone among it, is not.
fn unanswered(error: &IqError) -> Obstacle {
    match error {
        IqError::ServerError { code: 400..=428 | 430..=499, .. } => Obstacle::Recipient,
        _ => Obstacle::Passing,
    }
}

/// The recipient's address, which the server knows better than the caller who wrote the number: in Brazil, Mexico and Argentina one
/// phone has two.
async fn find(client: &Client, addresses: &Addresses, to: &Recipient, fresh: bool) -> Result<Found, Obstacle> {
    let (number, asked) = match to {
        Recipient::Lid(user) => return Ok(Found { address: Jid::lid(user.reveal()), lid: None }),
        Recipient::PhoneNumber(number) => (number, Jid::pn(number.reveal())),
    };
    if let Some(known) = addresses.get(number).filter(|_| !fresh) {
        return Ok(known);
    }
    let answer = client.contacts().is_on_whatsapp(std::slice::from_ref(&asked)).await.map_err(|error| match error {
        ContactError::Iq(error) => unanswered(&error),
        _ => Obstacle::Recipient,
    })?;
    let Some(found) = answer.into_iter().next().filter(|found| found.is_registered) else {
        return Err(account(client, asked).await);
    };
    // Where the server names the linked id, it names the number beside it; the library finds the one by the other.
    let found = Found { address: found.pn_jid.unwrap_or(found.jid).to_non_ad(), lid: found.lid };
    addresses.put(number, found.clone());
    Ok(found)
}

/// Whose address it is.
fn person(address: &Jid) -> Recipient {
    let user = Sensitive::new(address.user.as_str());
    if address.is_lid() { Recipient::Lid(user) } else { Recipient::PhoneNumber(user) }
}

/// What the server says of a number of which the library says that it has no account. The library takes an answer that says nothing
/// about it for the same (whatsapp-rust 0.7.0, iq/usync.rs).
async fn account(client: &Client, number: Jid) -> Obstacle {
    let user = IsOnWhatsAppUser { jid: number, known_lid: None };
    let id = fastrand::u64(..).to_string();
    let question = Account(IsOnWhatsAppSpec::new(vec![user], id, IsOnWhatsAppQueryType::Pn));
    client.execute(question).await.unwrap_or_else(|error| unanswered(&error))
}

/// The library's question whether a number has an account, with the answer as the server gave it.
struct Account(IsOnWhatsAppSpec);

impl IqSpec for Account {
    type Response = Obstacle;

    fn build_iq(&self) -> InfoQuery<'static> {
        self.0.build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> Result<Obstacle, anyhow::Error> {
        let user = response.get_optional_child_by_tag(&["usync", "list", "user"]);
        let Some(contact) = user.and_then(|user| user.get_optional_child("contact")) else {
            return Ok(Obstacle::NotMentioned);
        };
        let stated = contact.attrs().optional_string("type");
        Ok(match stated.as_deref() {
            // By now it has one, or the server could not look.
            Some("in") | None => Obstacle::Recipient,
            Some(_) => Obstacle::NotOnWhatsApp,
        })
    }
}
