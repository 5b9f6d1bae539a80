//! One-shot Signal encryption by the phone: a session is made from the companion's bundle, used once and dropped.
//! A lasting message exchange will keep its sessions; the place for that is here.

use crate::phone::Account;
use crate::prekeys::Bundle;
use crate::registry::DeviceKey;
use anyhow::Context as _;
use async_trait::async_trait;
use wacore::types::jid::JidExt as _;
use wacore_libsignal::protocol::error::Result;
use wacore_libsignal::protocol::{
    CiphertextMessage, Direction, IdentityChange, IdentityKey, IdentityKeyPair, IdentityKeyStore, PreKeyBundle,
    ProtocolAddress, PublicKey, SessionRecord, SessionStore, UsePQRatchet, message_encrypt, process_prekey_bundle,
};

struct Identity {
    pair: IdentityKeyPair,
    registration_id: u32,
}

#[async_trait]
impl IdentityKeyStore for Identity {
    async fn get_identity_key_pair(&self) -> Result<IdentityKeyPair> {
        Ok(self.pair.clone())
    }
    async fn get_local_registration_id(&self) -> Result<u32> {
        Ok(self.registration_id)
    }
    async fn save_identity(&mut self, _: &ProtocolAddress, _: &IdentityKey) -> Result<IdentityChange> {
        Ok(IdentityChange::NewOrUnchanged)
    }
    async fn is_trusted_identity(&self, _: &ProtocolAddress, _: &IdentityKey, _: Direction) -> Result<bool> {
        Ok(true)
    }
    async fn get_identity(&self, _: &ProtocolAddress) -> Result<Option<IdentityKey>> {
        Ok(None)
    }
}

#[derive(Default)]
struct OneSession(Option<SessionRecord>);

#[async_trait]
impl SessionStore for OneSession {
    async fn load_session(&self, _: &ProtocolAddress) -> Result<Option<SessionRecord>> {
        Ok(self.0.clone())
    }
    async fn has_session(&self, _: &ProtocolAddress) -> Result<bool> {
        Ok(self.0.is_some())
    }
    async fn store_session(&mut self, _: &ProtocolAddress, record: SessionRecord) -> Result<()> {
        self.0 = Some(record);
        Ok(())
    }
}

/// Encrypts `plaintext` from the account's phone for a companion; returns the `enc` type and the ciphertext.
///
/// # Errors
/// When a key of the bundle is no key or its signature is wrong.
pub async fn seal(
    account: &Account,
    to: DeviceKey,
    bundle: &Bundle,
    plaintext: &[u8],
) -> anyhow::Result<(&'static str, Vec<u8>)> {
    let one_time = match bundle.one_time.front() {
        Some(key) => Some((key.id.into(), PublicKey::from_djb_public_key_bytes(&key.value)?)),
        None => None,
    };
    let theirs = PreKeyBundle::new(
        bundle.registration_id,
        u32::from(to.device).into(),
        one_time,
        bundle.signed.id.into(),
        PublicKey::from_djb_public_key_bytes(&bundle.signed.value)?,
        bundle.signature.to_vec(),
        IdentityKey::new(PublicKey::from_djb_public_key_bytes(&bundle.identity)?),
    )
    .context("the companion's keys make no bundle")?;
    let pair =
        IdentityKeyPair::new(IdentityKey::new(account.identity.0.public_key), account.identity.0.private_key.clone());
    let mut identity = Identity { pair, registration_id: account.registration_id };
    let mut sessions = OneSession::default();
    let address = to.jid().to_protocol_address();
    let mut rng: rand::rngs::StdRng = rand::make_rng();
    process_prekey_bundle(&address, &mut sessions, &mut identity, &theirs, &mut rng, UsePQRatchet::No).await?;
    match message_encrypt(plaintext, &address, &mut sessions, &mut identity).await? {
        CiphertextMessage::PreKeySignalMessage(message) => Ok(("pkmsg", message.serialized().to_vec())),
        CiphertextMessage::SignalMessage(message) => Ok(("msg", message.serialized().to_vec())),
        _ => anyhow::bail!("Signal returned a message of a kind that is not sent to one device"),
    }
}
