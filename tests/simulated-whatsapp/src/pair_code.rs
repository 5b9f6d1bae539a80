//! Linking by code: the client shows eight characters for a phone number, the owner types them into the phone.
//!
//! The code encrypts both sides' ephemeral keys; over the shared secret the client sends the identity it wants
//! linked. A wrong code is noticed only then, by the phone, when that bundle does not open.

use crate::connection::Command;
use crate::keys::{Key, random, to_hex};
use crate::pairing::{self, Owner, Pairing};
use crate::stanza;
use crate::world::{Refusal, World, digits, lock, now};
use anyhow::Context as _;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use wacore::crypto::hkdf_sha256_into;
use wacore::pair_code::PairCodeUtils;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};
use wacore_libsignal::crypto::aes_256_gcm_decrypt;
use wacore_libsignal::protocol::PublicKey;

/// How long a code can be typed in after the client asked for it.
const LIFETIME: Duration = Duration::from_secs(180);
/// How long the phone waits for the client's key bundle.
const BUNDLE_DEADLINE: Duration = Duration::from_secs(60);
/// `salt (32) | iv (12) | identity, identity, random (96) | tag (16)`.
const BUNDLE_LENGTH: usize = 156;

/// A code a client waits on.
pub struct LinkCode {
    phone: u64,
    opened: Instant,
    reference: [u8; 32],
    /// The client's ephemeral public key under the code: `salt (32) | iv (16) | key (32)`.
    wrapped: [u8; 80],
    bundle: Option<oneshot::Sender<[u8; BUNDLE_LENGTH]>>,
}

/// Whose code this is, while it can be typed in.
pub(crate) fn waits_for(code: &LinkCode) -> (u64, Instant) {
    (code.phone, code.opened)
}

/// Answers a `link_code_companion_reg` IQ of a client that is not linked yet; `None` when the IQ is something else.
pub fn answer(pairing: &Pairing, iq: &NodeRef<'_>) -> Option<Node> {
    let registration = iq.get_optional_child("link_code_companion_reg")?;
    let stage = stanza::attr(registration, "stage").unwrap_or_default();
    let accepted = match stage.as_str() {
        "companion_hello" => hello(pairing, registration),
        "companion_finish" => finish(pairing, registration),
        _ => None,
    };
    Some(match accepted {
        Some(children) => stanza::result(iq, children),
        None => stanza::error(iq, 400, "bad-request"),
    })
}

fn hello(pairing: &Pairing, registration: &NodeRef<'_>) -> Option<Vec<Node>> {
    let phone = registration.attrs().optional_jid("jid")?;
    let wrapped = stanza::child_bytes(registration, "link_code_pairing_wrapped_companion_ephemeral_pub")?;
    if stanza::child_bytes(registration, "companion_server_auth_key_pub")? != pairing.noise {
        return None;
    }
    let code = LinkCode {
        phone: digits(&phone.user)?,
        opened: Instant::now(),
        reference: random(),
        wrapped: wrapped.try_into().ok()?,
        bundle: None,
    };
    let reference = NodeBuilder::new("link_code_pairing_ref").bytes(code.reference).build();
    *lock(&pairing.code) = Some(code);
    Some(vec![
        NodeBuilder::new("link_code_companion_reg").attr("stage", "companion_hello").children([reference]).build(),
    ])
}

fn finish(pairing: &Pairing, registration: &NodeRef<'_>) -> Option<Vec<Node>> {
    let bundle = stanza::child_bytes(registration, "link_code_pairing_wrapped_key_bundle")?.try_into().ok()?;
    let mut code = lock(&pairing.code);
    let code = code.as_mut()?;
    if stanza::child_bytes(registration, "link_code_pairing_ref")? != code.reference {
        return None;
    }
    code.bundle.take()?.send(bundle).ok()?;
    Some(Vec::new())
}

/// The owner types `text` into the phone and waits until the client is linked.
///
/// # Errors
/// [`Refusal::Unknown`] when no client waits for a code for this number, [`Refusal::Conflict`] when the code is
/// wrong or too old.
pub async fn enter(world: &World, text: &str, owner: &Owner) -> Result<Jid, Refusal> {
    let phone = owner.phone;
    let code: String = text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_uppercase();
    if !PairCodeUtils::validate_code(&code) {
        return Err(Refusal::Invalid("the code must be eight letters and digits, as the client shows it".to_owned()));
    }
    let pairing = world
        .pairing_by_code(phone)
        .ok_or_else(|| Refusal::Unknown("no client waits for a code for this phone number".to_owned()))?;
    let (answer, bundle) = oneshot::channel();
    let (reference, wrapped) = {
        let mut waiting = lock(&pairing.code);
        let waiting = waiting.as_mut().filter(|waiting| waiting.opened.elapsed() < LIFETIME);
        let waiting =
            waiting.ok_or_else(|| Refusal::Conflict("this code has expired: ask the client for another".to_owned()))?;
        waiting.bundle = Some(answer);
        (waiting.reference, waiting.wrapped)
    };
    let account = world.registry.change_account(phone, |_| {})?;
    let ephemeral = Key::generate();
    let ours = ephemeral.public();
    // A hundred thousand rounds of PBKDF2 for each direction: not on the runtime's threads.
    let (sealed, companion) = tokio::task::spawn_blocking(move || {
        (
            PairCodeUtils::encrypt_ephemeral_pub(&ours, &code),
            PairCodeUtils::decrypt_primary_ephemeral_pub(&wrapped, &code),
        )
    })
    .await
    .context("the code could not be applied")?;
    let companion = companion.context("the client's key could not be unwrapped")?;
    if pairing.outbox.send(Command::Send(primary_hello(&sealed, &account.identity, &reference))).is_err() {
        return Err(Refusal::Unknown("the client that showed this code has gone".to_owned()));
    }
    let bundle = match tokio::time::timeout(BUNDLE_DEADLINE, bundle).await {
        Ok(Ok(bundle)) => bundle,
        Ok(Err(_)) => return Err(Refusal::Rejected("the client gave the code up".to_owned())),
        Err(_) => {
            return Err(Refusal::Timeout(format!("the client did not answer within {} s", BUNDLE_DEADLINE.as_secs())));
        }
    };
    let (identity, secret) = open(&ephemeral, &account.identity, &companion, &bundle)
        .ok_or_else(|| Refusal::Conflict("this code is wrong".to_owned()))?;
    pairing::link(world, &pairing, &identity, &secret, owner).await
}

fn primary_hello(sealed: &[u8; 80], identity: &Key, reference: &[u8; 32]) -> Node {
    let fields = [
        NodeBuilder::new("link_code_pairing_wrapped_primary_ephemeral_pub").bytes(*sealed).build(),
        NodeBuilder::new("primary_identity_pub").bytes(identity.public()).build(),
        NodeBuilder::new("link_code_pairing_ref").bytes(*reference).build(),
    ];
    NodeBuilder::new("notification")
        .attr("from", stanza::server())
        .attr("type", "link_code_companion_reg")
        .attr("id", to_hex(&random::<6>()))
        .attr("t", now())
        .children([NodeBuilder::new("link_code_companion_reg").attr("stage", "primary_hello").children(fields).build()])
        .build()
}

/// The companion's identity and the secret both sides derive; `None` when the bundle does not open with our keys.
fn open(
    ephemeral: &Key,
    identity: &Key,
    companion: &[u8; 32],
    bundle: &[u8; BUNDLE_LENGTH],
) -> Option<([u8; 32], [u8; 32])> {
    let shared = agree(ephemeral, companion)?;
    let (salt, rest) = bundle.split_first_chunk::<32>()?;
    let (iv, sealed) = rest.split_first_chunk::<12>()?;
    let mut key = [0; 32];
    hkdf_sha256_into(&shared, Some(salt), b"link_code_pairing_key_bundle_encryption_key", &mut key).ok()?;
    let mut opened = Vec::with_capacity(BUNDLE_LENGTH);
    aes_256_gcm_decrypt(&key, iv, b"", sealed, &mut opened).ok()?;
    let (companion_identity, rest) = opened.split_first_chunk::<32>()?;
    let (echoed, random) = rest.split_first_chunk::<32>()?;
    if *echoed != identity.public() {
        return None;
    }
    let mut secret = [0; 32];
    let material = [&shared[..], &agree(identity, companion_identity)?, random].concat();
    hkdf_sha256_into(&material, None, b"adv_secret", &mut secret).ok()?;
    Some((*companion_identity, secret))
}

fn agree(ours: &Key, theirs: &[u8; 32]) -> Option<[u8; 32]> {
    ours.0.calculate_agreement(&PublicKey::from_djb_public_key_bytes(theirs).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_the_bundle_of_a_real_client_and_derives_its_secret() {
        let (client, client_identity) = (Key::generate(), Key::generate());
        let (ephemeral, identity) = (Key::generate(), Key::generate());
        let (bundle, secret) =
            PairCodeUtils::prepare_key_bundle(&client.0, &ephemeral.public(), &identity.public(), &client_identity.0)
                .unwrap();
        let bundle: [u8; BUNDLE_LENGTH] = bundle.try_into().unwrap();
        assert!(open(&ephemeral, &identity, &client.public(), &bundle) == Some((client_identity.public(), secret)));
        assert!(open(&Key::generate(), &identity, &client.public(), &bundle).is_none());
        assert!(open(&ephemeral, &Key::generate(), &client.public(), &bundle).is_none());
    }
}
