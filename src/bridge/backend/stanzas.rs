//! What only the stanzas themselves tell: whatsapp-rust 0.7.0 has no event for it.
//!
//! - How many references the server gave for a pairing window.
//! - That an account is in coexistence: whatsapp-rust verifies the link of such an account with the prefix of its outer type
//!   (wacore/src/pair.rs) and reports a wrong signature, where the inner type decides.
//! - That a live connection is ended with 429, "too many requests".
//! - That the server answered something after the login: `<success>` alone has been followed by nothing.
//! - That it refuses something while it delivers nothing yet: whatsapp-rust takes it for granted that what it asks for first is done.

use std::{
    borrow::Cow,
    sync::{Mutex, MutexGuard},
};

use tokio::sync::Notify;
use waproto::{
    codec::{adv_device_identity_decode, adv_signed_device_identity_decode, adv_signed_device_identity_hmac_decode},
    whatsapp::ADVEncryptionType,
};
use whatsapp_operator::platform::lock;
use whatsapp_rust::wacore_binary::NodeRef;

/// The code of a stream error that asks for fewer logins.
const TOO_MANY_REQUESTS: &str = "429";

/// What has been seen on the connection that there is.
#[derive(Clone, Copy, Default)]
struct Seen {
    references: Option<u32>,
    coexistence: bool,
    answered: bool,
    /// The login is through for the library; it is told when something is answered.
    held_back: bool,
    mail: Mail,
}

/// Whether the server delivers what there is for the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mail {
    /// The device has not logged in.
    #[default]
    None,
    /// Not yet: a device that has just logged in is passive.
    Passive,
    /// The backlog, or what comes after it.
    Delivered,
}

/// What a stanza is about that has to be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// The server wants fewer logins.
    TooManyRequests,
    /// The first answer after a login that waited to be believed.
    Believed,
}

/// Reads along.
#[derive(Default)]
pub struct Stanzas {
    seen: Mutex<Seen>,
    /// Something was refused while nothing is delivered.
    refused: Notify,
}

impl Stanzas {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Reads a stanza that arrived.
    pub fn read(&self, stanza: &NodeRef<'_>) -> Option<Remark> {
        let mut seen = self.seen();
        match stanza.tag.as_ref() {
            "success" => (seen.answered, seen.held_back, seen.mail) = (false, false, Mail::Passive),
            // The first says what the backlog holds, the second that it is over.
            "ib" if ["offline_preview", "offline"].iter().any(|name| stanza.get_optional_child(name).is_some()) => {
                seen.mail = Mail::Delivered;
            }
            "stream:error" if attribute(stanza, "code").as_deref() == Some(TOO_MANY_REQUESTS) => {
                return Some(Remark::TooManyRequests);
            }
            "iq" if matches!(attribute(stanza, "type").as_deref(), Some("result" | "error")) => {
                seen.answered = true;
                if seen.mail == Mail::Passive && attribute(stanza, "type").as_deref() == Some("error") {
                    self.refused.notify_one();
                }
                return std::mem::take(&mut seen.held_back).then_some(Remark::Believed);
            }
            "iq" => {
                if let Some(offered) = stanza.get_optional_child("pair-device") {
                    let count =
                        offered.children().unwrap_or_default().iter().filter(|child| child.tag.as_ref() == "ref");
                    seen.references = u32::try_from(count.count()).ok();
                } else if let Some(link) = stanza.get_optional_child("pair-success") {
                    seen.coexistence = is_coexistence(link).unwrap_or(false);
                }
            }
            _ => {}
        }
        None
    }

    /// How many codes the server's references make, once there are some.
    pub fn references(&self) -> Option<u32> {
        self.seen().references
    }

    /// Whether the last link was that of an account in coexistence.
    pub fn is_coexistence(&self) -> bool {
        self.seen().coexistence
    }

    /// Waits until something is refused while nothing is delivered.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }

    /// Whether the server delivers what there is for the device.
    pub fn delivers(&self) -> bool {
        self.seen().mail == Mail::Delivered
    }

    /// Whether the server has answered something since the login. If not, [`Remark::Believed`] follows when it does.
    pub fn believes(&self) -> bool {
        let mut seen = self.seen();
        seen.held_back = !seen.answered;
        seen.answered
    }
}

fn attribute(stanza: &NodeRef<'_>, name: &str) -> Option<String> {
    stanza.attrs().optional_string(name).map(Cow::into_owned)
}

/// Whether a `<pair-success>` links a device whose type differs from its account's. `None` when it cannot be read.
fn is_coexistence(link: &NodeRef<'_>) -> Option<bool> {
    let container = link.get_optional_child("device-identity")?.content_bytes()?;
    let container = adv_signed_device_identity_hmac_decode(container).ok()?;
    let signed = adv_signed_device_identity_decode(container.details.as_deref()?).ok()?;
    let details = adv_device_identity_decode(signed.details.as_deref()?).ok()?;
    let or_default = |kind: Option<ADVEncryptionType>| kind.unwrap_or(ADVEncryptionType::E2EE);
    Some(or_default(container.account_type) != or_default(details.device_type))
}

#[cfg(test)]
mod tests {
    use waproto::whatsapp::{ADVDeviceIdentity, ADVSignedDeviceIdentity, ADVSignedDeviceIdentityHMAC};
    use whatsapp_rust::{
        NodeBuilder,
        buffa::Message as _,
        wacore_binary::{
            Node,
            marshal::{marshal_auto, unmarshal_ref},
        },
    };

    use super::*;

    fn read(stanzas: &Stanzas, node: &Node) -> Option<Remark> {
        let bytes = marshal_auto(node).unwrap();
        // The first byte says whether the rest is compressed.
        let node = unmarshal_ref(&bytes[1..]).unwrap();
        stanzas.read(&node)
    }

    fn link(outer: ADVEncryptionType, inner: ADVEncryptionType) -> Node {
        let details = ADVDeviceIdentity { device_type: Some(inner), ..Default::default() }.encode_to_vec();
        let signed = ADVSignedDeviceIdentity { details: Some(details), ..Default::default() }.encode_to_vec();
        let container =
            ADVSignedDeviceIdentityHMAC { details: Some(signed), account_type: Some(outer), ..Default::default() };
        let identity = NodeBuilder::new("device-identity").bytes(container.encode_to_vec()).build();
        let success = NodeBuilder::new("pair-success").children([identity]).build();
        NodeBuilder::new("iq").attr("type", "set").children([success]).build()
    }

    #[test]
    fn an_account_whose_types_differ_is_in_coexistence() {
        use ADVEncryptionType::{E2EE, HOSTED};
        let stanzas = Stanzas::default();
        for (outer, inner, expected) in
            [(E2EE, E2EE, false), (HOSTED, E2EE, true), (HOSTED, HOSTED, false), (E2EE, HOSTED, true)]
        {
            read(&stanzas, &link(outer, inner));
            assert_eq!(stanzas.is_coexistence(), expected, "{outer:?} {inner:?}");
        }
    }

    #[test]
    fn references_are_counted() {
        let stanzas = Stanzas::default();
        assert_eq!(stanzas.references(), None);
        let one = || NodeBuilder::new("ref").bytes(*b"2@x").build();
        let offer = NodeBuilder::new("pair-device").children([one(), one()]).build();
        read(&stanzas, &NodeBuilder::new("iq").attr("type", "set").children([offer]).build());
        assert_eq!(stanzas.references(), Some(2));
    }

    #[test]
    fn a_login_is_believed_when_something_is_answered_after_it() {
        let stanzas = Stanzas::default();
        let answer = || NodeBuilder::new("iq").attr("type", "result").build();
        assert_eq!(read(&stanzas, &answer()), None);
        read(&stanzas, &NodeBuilder::new("success").build());
        assert!(!stanzas.believes(), "what came before the login is no answer to it");
        assert_eq!(read(&stanzas, &answer()), Some(Remark::Believed));
        assert_eq!(read(&stanzas, &answer()), None, "once");
        assert!(stanzas.believes());
    }

    #[test]
    fn only_429_asks_for_fewer_logins() {
        let stanzas = Stanzas::default();
        let error = |code: &str| NodeBuilder::new("stream:error").attr("code", code).build();
        assert_eq!(read(&stanzas, &error("503")), None);
        assert_eq!(read(&stanzas, &error("429")), Some(Remark::TooManyRequests));
    }
}
