//! The Signal state of the simulated phones: a lasting session with every device that a phone writes to or hears from.
//!
//! It lives as long as the process. A phone that has forgotten its sessions asks for a message once more, as real ones do,
//! and makes new ones when it writes.

use crate::keys::Key;
use crate::phone::Account;
use crate::prekeys::Bundle;
use crate::registry::{DeviceKey, SignedKey};
use crate::world::lock;
use anyhow::Context as _;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use wacore::types::jid::JidExt as _;
use wacore_libsignal::protocol::error::Result;
use wacore_libsignal::protocol::{
    CiphertextMessage, Direction, GenericSignedPreKey as _, IdentityChange, IdentityKey, IdentityKeyPair,
    IdentityKeyStore, PreKeyBundle, PreKeyId, PreKeyRecord, PreKeySignalMessage, PreKeyStore, ProtocolAddress,
    PublicKey, SessionRecord, SessionStore, SignalMessage, SignalProtocolError, SignedPreKeyId, SignedPreKeyRecord,
    SignedPreKeyStore, Timestamp, UsePQRatchet, message_decrypt, message_encrypt, process_prekey_bundle,
};

/// The sessions of all phones.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<u64, Arc<tokio::sync::Mutex<Phone>>>>);

impl Sessions {
    /// The sessions of one phone, to be locked for one message at a time.
    #[must_use]
    pub fn of(&self, account: &Account) -> Arc<tokio::sync::Mutex<Phone>> {
        let mut phones = lock(&self.0);
        let phone = phones.entry(account.phone);
        Arc::clone(phone.or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Phone::new(account)))))
    }
}

/// One phone's side of its sessions.
pub struct Phone {
    identity: Identity,
    signed: SignedKey,
    one_time: OneTimeKeys,
    sessions: Table,
}

impl Phone {
    fn new(account: &Account) -> Self {
        let key = &account.identity.0;
        let pair = IdentityKeyPair::new(IdentityKey::new(key.public_key), key.private_key.clone());
        Self {
            identity: Identity { pair, registration_id: account.registration_id },
            signed: account.signed.clone(),
            one_time: OneTimeKeys::default(),
            sessions: Table::default(),
        }
    }

    /// Encrypts `plaintext` for a companion; returns the `enc` type and the ciphertext. The first time, the session is
    /// made from the keys that `bundle` fetches.
    ///
    /// # Errors
    /// When there are no keys, one of them is none, or their signature is wrong.
    pub async fn seal(
        &mut self,
        to: DeviceKey,
        plaintext: &[u8],
        bundle: impl FnOnce() -> anyhow::Result<Option<Bundle>>,
    ) -> anyhow::Result<(&'static str, Vec<u8>)> {
        let address = to.jid().to_protocol_address();
        if !self.sessions.has_session(&address).await? {
            let bundle = bundle()?.context("the companion has not uploaded its keys yet")?;
            let theirs = prekey_bundle(to, &bundle)?;
            let mut rng: rand::rngs::StdRng = rand::make_rng();
            let Self { identity, sessions, .. } = self;
            process_prekey_bundle(&address, sessions, identity, &theirs, &mut rng, UsePQRatchet::No).await?;
        }
        match message_encrypt(plaintext, &address, &mut self.sessions, &mut self.identity).await? {
            CiphertextMessage::PreKeySignalMessage(message) => Ok(("pkmsg", message.serialized().to_vec())),
            CiphertextMessage::SignalMessage(message) => Ok(("msg", message.serialized().to_vec())),
            _ => anyhow::bail!("Signal returned a message of a kind that is not sent to one device"),
        }
    }

    /// Decrypts what a device wrote to this phone; `kind` is the `enc` type.
    ///
    /// # Errors
    /// When it cannot be: no session, a session of before a restart, or a message that came already.
    pub async fn open(&mut self, from: DeviceKey, kind: &str, ciphertext: &[u8]) -> anyhow::Result<Vec<u8>> {
        let message = match kind {
            "pkmsg" => CiphertextMessage::PreKeySignalMessage(PreKeySignalMessage::try_from(ciphertext)?),
            "msg" => CiphertextMessage::SignalMessage(SignalMessage::try_from(ciphertext)?),
            _ => anyhow::bail!("a message of a kind that is not sent to one device"),
        };
        let address = from.jid().to_protocol_address();
        let mut rng: rand::rngs::StdRng = rand::make_rng();
        let Self { identity, sessions, signed, one_time } = self;
        let signed = Signed(signed);
        let opened =
            message_decrypt(&message, &address, sessions, identity, one_time, &signed, &mut rng, UsePQRatchet::No);
        Ok(opened.await?.plaintext)
    }

    /// A new one-time key with its id, for a sender who is asked to make a new session.
    pub fn one_time_key(&mut self) -> (u32, Key) {
        let (id, key) = (u32::try_from(self.one_time.0.len()).unwrap_or(u32::MAX).saturating_add(1), Key::generate());
        self.one_time.0.insert(id, key.clone());
        (id, key)
    }
}

fn prekey_bundle(of: DeviceKey, bundle: &Bundle) -> anyhow::Result<PreKeyBundle> {
    let one_time = match bundle.one_time.front() {
        Some(key) => Some((key.id.into(), PublicKey::from_djb_public_key_bytes(&key.value)?)),
        None => None,
    };
    PreKeyBundle::new(
        bundle.registration_id,
        u32::from(of.device).into(),
        one_time,
        bundle.signed.id.into(),
        PublicKey::from_djb_public_key_bytes(&bundle.signed.value)?,
        bundle.signature.to_vec(),
        IdentityKey::new(PublicKey::from_djb_public_key_bytes(&bundle.identity)?),
    )
    .context("the companion's keys make no bundle")
}

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

/// Sessions by address.
#[derive(Default)]
struct Table(HashMap<String, SessionRecord>);

#[async_trait]
impl SessionStore for Table {
    async fn load_session(&self, address: &ProtocolAddress) -> Result<Option<SessionRecord>> {
        Ok(self.0.get(address.as_str()).cloned())
    }
    async fn has_session(&self, address: &ProtocolAddress) -> Result<bool> {
        Ok(self.0.contains_key(address.as_str()))
    }
    async fn store_session(&mut self, address: &ProtocolAddress, record: SessionRecord) -> Result<()> {
        self.0.insert(address.as_str().to_owned(), record);
        Ok(())
    }
}

/// The server hands out none of a phone's one-time keys, see [`crate::prekeys`]; the phone itself does. They are not
/// removed when they are used, which is once anyway.
#[derive(Default)]
struct OneTimeKeys(HashMap<u32, Key>);

#[async_trait]
impl PreKeyStore for OneTimeKeys {
    async fn get_pre_key(&self, id: PreKeyId) -> Result<PreKeyRecord> {
        let key = self.0.get(&u32::from(id)).ok_or(SignalProtocolError::InvalidPreKeyId)?;
        Ok(PreKeyRecord::new(id, &key.0))
    }
    async fn save_pre_key(&mut self, _: PreKeyId, _: &PreKeyRecord) -> Result<()> {
        Ok(())
    }
    async fn remove_pre_key(&mut self, _: PreKeyId) -> Result<()> {
        Ok(())
    }
}

struct Signed<'a>(&'a SignedKey);

#[async_trait]
impl SignedPreKeyStore for Signed<'_> {
    async fn get_signed_pre_key(&self, id: SignedPreKeyId) -> Result<SignedPreKeyRecord> {
        if u32::from(id) != self.0.id {
            return Err(SignalProtocolError::InvalidSignedPreKeyId);
        }
        Ok(SignedPreKeyRecord::new(id, Timestamp::from_epoch_millis(0), &self.0.key.0, &self.0.signature.0))
    }
    async fn save_signed_pre_key(&mut self, _: SignedPreKeyId, _: &SignedPreKeyRecord) -> Result<()> {
        Ok(())
    }
}
