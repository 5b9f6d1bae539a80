//! Hands messages to WhatsApp.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use wacore::proto_helpers::MessageBuilderExt as _;
use waproto::whatsapp as wa;
use whatsapp_operator::{bridge_api::Content, model::Sensitive};
use whatsapp_rust::{Client, Jid, SendError, SendOptions, cache::Freshness};

use super::{Delivery, Outgoing};
use crate::outbox::{Obstacle, Recipient};

/// How many recipients a client remembers the address of. More are asked for again.
const REMEMBERED: usize = 4096;

/// Where the recipients of one client's messages are, as the server said. Clones share it.
#[derive(Clone, Default)]
pub struct Addresses(Arc<Mutex<HashMap<Sensitive, Jid>>>);

impl Addresses {
    fn get(&self, number: &Sensitive) -> Option<Jid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(number).cloned()
    }

    fn put(&self, number: &Sensitive, address: Jid) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(number.clone(), address);
    }
}

/// Hands a message over under the id it has. The server's acknowledgement comes as an event.
pub async fn send(client: &Client, addresses: &Addresses, message: Outgoing) -> Delivery {
    let Outgoing { id, to, content, fresh } = message;
    let address = match address(client, addresses, &to, fresh).await {
        Ok(address) => address,
        Err(obstacle) => return Delivery::Hindered(obstacle),
    };
    let Content::Text { text } = content;
    let mut options = SendOptions::default().with_message_id(id);
    if fresh {
        options = options.with_device_freshness(Freshness::Refresh);
    }
    match client.send_message_with_options(address.clone(), wa::Message::text(text.reveal()), options).await {
        // whatsapp-rust 0.7.0 sends, and says that all is well, also when the phone's keys could not be had and only other
        // devices of the recipient get something they can read (send/mod.rs).
        Ok(_) => Delivery::HandedOver { keyed: client.signal().validate_session(&address).await.unwrap_or(false) },
        Err(SendError::InvalidRequest(_)) => Delivery::Hindered(Obstacle::Unsendable),
        Err(_) => Delivery::Hindered(Obstacle::Connection),
    }
}

/// The recipient's address, which the server knows better than whoever wrote the number: in Brazil, Mexico and Argentina one
/// phone has two.
async fn address(client: &Client, addresses: &Addresses, to: &Recipient, fresh: bool) -> Result<Jid, Obstacle> {
    let (number, asked) = match to {
        Recipient::Lid(user) => return Ok(Jid::lid(user.reveal())),
        Recipient::PhoneNumber(number) => (number, Jid::pn(number.reveal())),
    };
    if let Some(known) = addresses.get(number).filter(|_| !fresh) {
        return Ok(known);
    }
    let answer = client.contacts().is_on_whatsapp(&[asked]).await.map_err(|_| Obstacle::Connection)?;
    let found = answer.into_iter().next().ok_or(Obstacle::NotOnWhatsApp)?;
    if found.contact_error.is_some() {
        return Err(Obstacle::Connection);
    }
    if !found.is_registered {
        return Err(Obstacle::NotOnWhatsApp);
    }
    // Where the server names the linked id, it names the number beside it; the library finds the one by the other.
    let address = found.pn_jid.unwrap_or(found.jid).to_non_ad();
    addresses.put(number, address.clone());
    Ok(address)
}
