//! Linking a companion by QR code: the references the server hands out, their expiry, and the scan.

use crate::connection::{Command, Outbox};
use crate::faults::{LinkFault, References};
use crate::keys::{Bytes, random, to_hex};
use crate::pair_code::LinkCode;
use crate::phone::LinkOffer;
use crate::qr::QrContent;
use crate::registry::{Device, DeviceKey};
use crate::stanza;
use crate::world::{Refusal, World, lock, now};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};

/// WhatsApp hands out six references at once.
const REFERENCES: usize = 6;
/// As hex, 100 kB.
const HUGE: usize = 50_000;
/// A companion shows the first for 60 s and each further one for 20 s (WhatsApp Web `HandlePairDevice`).
const FIRST_LIFETIME: Duration = Duration::from_secs(60);
const NEXT_LIFETIME: Duration = Duration::from_secs(20);
/// How long the phone waits for the companion's signature.
const SIGNATURE_DEADLINE: Duration = Duration::from_secs(60);

/// How long after the references were handed out the one at `index` expires.
#[must_use]
pub fn expiry(index: usize) -> Duration {
    FIRST_LIFETIME + NEXT_LIFETIME * u32::try_from(index).unwrap_or(u32::MAX)
}

/// A companion that waits to be linked, one per unregistered connection.
pub struct Pairing {
    references: Vec<String>,
    /// What is handed out instead, when the rules want that.
    unusable: Option<Vec<Vec<u8>>>,
    opened: Instant,
    pub(crate) noise: [u8; 32],
    pub(crate) outbox: Outbox,
    pub(crate) code: Mutex<Option<LinkCode>>,
    offer: Mutex<Option<Offer>>,
}

struct Offer {
    key: DeviceKey,
    identity: [u8; 32],
    link: LinkOffer,
    /// The connection breaks before the answer comes.
    unheard: bool,
    answer: oneshot::Sender<Result<Jid, Refusal>>,
}

impl Pairing {
    /// Opens a pairing at `opened` for the companion with this Noise key.
    #[must_use]
    pub fn new(opened: Instant, noise: [u8; 32], outbox: Outbox, fault: Option<References>) -> Self {
        let (count, length) = match fault {
            Some(References::None) => (0, 48),
            Some(References::One) => (1, 48),
            Some(References::Huge) => (REFERENCES, HUGE),
            _ => (REFERENCES, 48),
        };
        let one = |_| format!("2@{}", to_hex(&(0..length).map(|_| rand::random()).collect::<Vec<u8>>()));
        let references: Vec<String> = (0..count).map(one).collect();
        let spoilt = |with: &[u8]| references.iter().map(|text| [text.as_bytes(), with].concat()).collect();
        let unusable = match fault {
            Some(References::NotUtf8) => Some(spoilt(b"\xff\xfe")),
            Some(References::ControlCharacters) => Some(spoilt("\u{1b}]0;x\u{7}\n\u{202e}".as_bytes())),
            _ => None,
        };
        Self { references, unusable, opened, noise, outbox, code: Mutex::new(None), offer: Mutex::new(None) }
    }

    /// The references, in the order they are shown.
    #[must_use]
    pub fn references(&self) -> &[String] {
        &self.references
    }

    /// Whether `reference` can still be scanned at `at`.
    #[must_use]
    pub fn is_valid(&self, reference: &str, at: Instant) -> bool {
        let index = self.references.iter().position(|known| known == reference);
        index.is_some_and(|index| at.saturating_duration_since(self.opened) < expiry(index))
    }

    /// `<pair-device>` with all references.
    #[must_use]
    pub fn announcement(&self) -> Node {
        let good = || self.references.iter().map(|text| text.as_bytes().to_vec()).collect();
        let references = self.unusable.clone().unwrap_or_else(good);
        let references = references.into_iter().map(|text| NodeBuilder::new("ref").bytes(text).build());
        server_iq("pair-device").children([NodeBuilder::new("pair-device").children(references).build()]).build()
    }

    /// Tells the client to make itself a new secret, which makes the code that it shows stale.
    #[must_use]
    pub fn refresh(&self) -> bool {
        let refresh = NodeBuilder::new("notification")
            .attr("from", stanza::server())
            .attr("type", "companion_reg_refresh")
            .attr("id", to_hex(&random::<6>()))
            .attr("t", now())
            .children([NodeBuilder::new("companion_reg_refresh").build()])
            .build();
        self.outbox.send(Command::Send(refresh)).is_ok()
    }

    /// Gives up an offer that will not be answered any more.
    pub fn abandon(&self) {
        lock(&self.offer).take();
        lock(&self.code).take();
    }

    /// Handles what a companion answered to `pair-success`, and tells whether it is linked now.
    pub fn answered(&self, world: &World, iq: &NodeRef<'_>) -> bool {
        let kind = stanza::attr(iq, "type").unwrap_or_default();
        let signature =
            iq.get_optional_child("pair-device-sign").and_then(|sign| stanza::child_bytes(sign, "device-identity"));
        if kind != "error" && signature.is_none() {
            return false; // the acknowledgement of pair-device
        }
        let Some(offer) = lock(&self.offer).take() else { return false };
        let outcome = match signature {
            Some(_) if offer.unheard => {
                let _ = self.outbox.send(Command::Close);
                Err(Refusal::Rejected("the connection broke before the companion's answer came".to_owned()))
            }
            Some(signature) => self.complete(world, &offer, signature),
            None => {
                let code =
                    iq.get_optional_child("error").and_then(|error| stanza::attr(error, "code")).unwrap_or_default();
                Err(Refusal::Rejected(format!("the companion refused the link with error {code}")))
            }
        };
        let linked = outcome.is_ok();
        let _ = offer.answer.send(outcome);
        linked
    }

    fn complete(&self, world: &World, offer: &Offer, signature: &[u8]) -> Result<Jid, Refusal> {
        let signed = offer.link.countersigned(signature, &offer.identity);
        let signed = signed.ok_or_else(|| Refusal::Rejected("the companion's device signature is wrong".to_owned()))?;
        world.registry.put_device(Device {
            key: offer.key,
            noise: Bytes(self.noise.to_vec()),
            identity: Bytes(offer.identity.to_vec()),
            signed_identity: Bytes(signed),
            key_index: u32::from(offer.key.device),
            registered_at: now(),
            has_app_state_key: false,
        })?;
        Ok(offer.key.jid())
    }
}

/// Whose phone links, and how it goes about it.
pub struct Owner {
    /// The number's digits.
    pub phone: u64,
    /// The account's name; empty, there is none.
    pub push_name: String,
    /// What is wrong with the link.
    pub fault: Option<LinkFault>,
}

/// The phone scans a code and waits until the companion has countersigned.
///
/// # Errors
/// [`Refusal::Unknown`] when no open pairing has the reference, [`Refusal::Conflict`] when it expired or is being
/// scanned already, [`Refusal::Rejected`] when the companion refuses.
pub async fn scan(world: &World, code: &QrContent, owner: &Owner) -> Result<Jid, Refusal> {
    let pairing = world.pairing(&code.reference).ok_or_else(|| {
        Refusal::Unknown(
            "no open pairing has this QR code: it is from another server or its client has gone".to_owned(),
        )
    })?;
    if !pairing.is_valid(&code.reference, Instant::now()) {
        return Err(Refusal::Conflict("this QR code has expired: scan the one the client shows now".to_owned()));
    }
    if pairing.noise != code.noise {
        return Err(Refusal::Conflict("the key in this QR code is not the one the client connected with".to_owned()));
    }
    link(world, &pairing, &code.identity, &code.adv_secret, owner).await
}

/// Offers the link to a waiting companion, whichever way the phone learned its identity and the shared secret.
///
/// # Errors
/// See [`scan`].
pub async fn link(
    world: &World,
    pairing: &Arc<Pairing>,
    identity: &[u8; 32],
    secret: &[u8; 32],
    owner: &Owner,
) -> Result<Jid, Refusal> {
    let Owner { phone, push_name, fault } = owner;
    let (mut device, mut renamed) = (0, Ok(false));
    let account = world.registry.change_account(*phone, |account| {
        device = account.next_device;
        account.next_device += 1;
        renamed = account.rename(push_name, now());
    })?;
    renamed?;
    let offer = account.link(device, identity, secret, now(), *fault)?;
    let (answer, answered) = oneshot::channel();
    let key = DeviceKey { phone: *phone, device };
    let identity_node = || NodeBuilder::new("device-identity").bytes(offer.container.clone()).build();
    let name_node = || NodeBuilder::new("biz").attr("name", push_name.as_str()).build();
    let mut parts = vec![
        NodeBuilder::new("platform").attr("name", "android").build(),
        NodeBuilder::new("device").attr("jid", key.jid()).attr("lid", account.lid_jid(device)).build(),
    ];
    let named = !push_name.is_empty() && !world.faults.rules(*phone).ordinary;
    parts.extend(named.then(name_node));
    parts.extend((*fault != Some(LinkFault::NoIdentity)).then(identity_node));
    let success = NodeBuilder::new("pair-success").children(parts).build();
    {
        let mut slot = lock(&pairing.offer);
        if slot.is_some() {
            return Err(Refusal::Conflict("this QR code is being scanned already".to_owned()));
        }
        *slot =
            Some(Offer { key, identity: *identity, link: offer, unheard: *fault == Some(LinkFault::Unheard), answer });
    }
    let iq = server_iq("pair-success").attr("t", now()).children([success]).build();
    if pairing.outbox.send(Command::Send(iq)).is_err() {
        return Err(Refusal::Unknown("the client that showed this QR code has gone".to_owned()));
    }
    match tokio::time::timeout(SIGNATURE_DEADLINE, answered).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Refusal::Rejected("the client closed its connection before it was linked".to_owned())),
        Err(_) => {
            lock(&pairing.offer).take();
            Err(Refusal::Timeout(format!("the client did not answer within {} s", SIGNATURE_DEADLINE.as_secs())))
        }
    }
}

fn server_iq(kind: &str) -> NodeBuilder {
    NodeBuilder::new("iq")
        .attr("from", stanza::server())
        .attr("type", "set")
        .attr("xmlns", "md")
        .attr("id", format!("{kind}-{}", to_hex(&random::<4>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expire_one_after_the_other() {
        let (outbox, _inbox) = tokio::sync::mpsc::unbounded_channel();
        let opened = Instant::now();
        let pairing = Pairing::new(opened, [0; 32], outbox, None);
        let seconds: Vec<u64> = (0..6).map(|index| expiry(index).as_secs()).collect();
        assert_eq!(seconds, [60, 80, 100, 120, 140, 160]);
        for (index, reference) in pairing.references().iter().enumerate() {
            assert!(pairing.is_valid(reference, opened + expiry(index).checked_sub(Duration::from_millis(1)).unwrap()));
            assert!(!pairing.is_valid(reference, opened + expiry(index)));
        }
        assert!(!pairing.is_valid("2@other", opened));
    }

    #[test]
    fn references_differ_and_hold_no_comma() {
        let (outbox, _inbox) = tokio::sync::mpsc::unbounded_channel();
        let pairing = Pairing::new(Instant::now(), [0; 32], outbox, None);
        let distinct: std::collections::HashSet<_> = pairing.references().iter().collect();
        assert_eq!(distinct.len(), 6);
        assert!(pairing.references().iter().all(|reference| !reference.contains(',')));
    }

    #[test]
    fn references_come_as_the_rules_have_them() {
        let refs = |fault| {
            let (outbox, _inbox) = tokio::sync::mpsc::unbounded_channel();
            let node = Pairing::new(Instant::now(), [0; 32], outbox, fault).announcement();
            let node = node.as_node_ref();
            let child = node.get_optional_child("pair-device").unwrap();
            let all = child.children().unwrap_or_default().iter();
            all.map(|one| one.content_bytes().unwrap_or_default().to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(refs(None).len(), 6);
        assert!(refs(Some(References::None)).is_empty());
        assert_eq!(refs(Some(References::One)).len(), 1);
        assert!(refs(Some(References::Huge)).iter().all(|text| text.len() > 100_000));
        assert!(refs(Some(References::NotUtf8)).iter().all(|text| str::from_utf8(text).is_err()));
        let odd = refs(Some(References::ControlCharacters));
        assert!(odd.iter().all(|text| str::from_utf8(text).unwrap().contains('\u{1b}')));
    }
}
