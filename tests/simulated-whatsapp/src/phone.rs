//! The simulated phone: an account with its Signal identity, and what it signs and sends when a companion is linked.

use crate::app_state::Settings;
use crate::faults::LinkFault;
use crate::keys::{Bytes, Key, random};
use crate::registry::{DeviceKey, SignedKey};
use anyhow::Context as _;
use buffa::Message as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use wacore_binary::Jid;
use waproto::whatsapp::{self as wa, ADVEncryptionType};

/// Domain prefixes of the ADV signatures (WhatsApp Web `WAWebAdvSignatureApi`).
const ACCOUNT_SIGNATURE: [u8; 2] = [6, 0];
const HOSTED_ACCOUNT: [u8; 2] = [6, 5];
const DEVICE_SIGNATURE: [u8; 2] = [6, 1];
const KEY_INDEX_SIGNATURE: [u8; 2] = [6, 2];

/// A temporary ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// WhatsApp's sub-reason, e.g. 101 "sent too many messages".
    pub code: u16,
    /// When it ends, in unix seconds.
    pub until: u64,
}

/// An account as its phone and the server know it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The phone number's digits.
    pub phone: u64,
    /// The account's LID user part: an address that does not show the phone number.
    pub lid: u64,
    /// The name the owner chose.
    pub push_name: String,
    /// The Signal identity, which is also the account signature key.
    pub identity: Key,
    /// Signal registration id of the phone.
    pub registration_id: u32,
    /// The phone's signed prekey.
    pub signed: SignedKey,
    /// Identifies this installation of the account in ADV structures.
    pub raw_id: u32,
    /// The number the next companion gets; numbers are not used twice.
    pub next_device: u16,
    /// The app-state key the phone shares with its companions: six bytes of id, 32 of key.
    pub app_state_key: (Bytes, Bytes),
    /// What the devices of the account share, as the server keeps it.
    #[serde(default)]
    pub settings: Settings,
    /// A temporary ban, which may be over.
    pub ban: Option<Ban>,
    /// Until when the account must not write to new people, in unix seconds.
    pub restricted_until: Option<u64>,
}

impl Account {
    /// A new account with fresh keys. The LID is derived from the number, so that it is the same in every run.
    ///
    /// # Errors
    /// When signing fails.
    pub fn new(phone: u64) -> anyhow::Result<Self> {
        let (identity, key) = (Key::generate(), Key::generate());
        let signature = identity.sign(&key.0.public_key.serialize())?;
        let hash = Sha256::digest(format!("lid {phone}"));
        let mut seed = [0; 8];
        seed.copy_from_slice(&hash[..8]);
        Ok(Self {
            phone,
            lid: 100_000_000_000_000 + u64::from_be_bytes(seed) % 900_000_000_000_000,
            push_name: String::new(),
            registration_id: u32::from_be_bytes(random()) & 0x3fff,
            signed: SignedKey { id: 1, key, signature: Bytes(signature.to_vec()) },
            raw_id: u32::from_be_bytes(random()),
            next_device: 1,
            app_state_key: (Bytes(random::<6>().to_vec()), Bytes(random::<32>().to_vec())),
            settings: Settings::default(),
            identity,
            ban: None,
            restricted_until: None,
        })
    }

    /// The owner changes the name, which the phone writes down for the companions; nothing, when it is the same.
    ///
    /// # Errors
    /// When the account's settings are damaged.
    pub fn rename(&mut self, name: &str, now: u64) -> anyhow::Result<bool> {
        let changed = self.push_name != name;
        if changed {
            self.settings.rename(&self.app_state_key, name, now)?;
            name.clone_into(&mut self.push_name);
        }
        Ok(changed)
    }

    /// The ban in force at `now`.
    #[must_use]
    pub fn banned(&self, now: u64) -> Option<Ban> {
        self.ban.filter(|ban| ban.until > now)
    }

    /// When the restriction in force at `now` ends.
    #[must_use]
    pub fn restricted(&self, now: u64) -> Option<u64> {
        self.restricted_until.filter(|until| *until > now)
    }

    /// `<lid>:<device>@lid`.
    #[must_use]
    pub fn lid_jid(&self, device: u16) -> Jid {
        Jid::lid_device(self.lid.to_string(), device)
    }

    /// Signs a companion in: the details both sides sign, and the HMAC container for `pair-success`.
    ///
    /// # Errors
    /// When signing fails.
    pub fn link(
        &self,
        device: u16,
        companion_identity: &[u8; 32],
        adv_secret: &[u8; 32],
        now: u64,
        fault: Option<LinkFault>,
    ) -> anyhow::Result<LinkOffer> {
        let details = buffa::Message::encode_to_vec(&wa::ADVDeviceIdentity {
            raw_id: Some(self.raw_id),
            timestamp: Some(now),
            key_index: Some(u32::from(device)),
            account_type: Some(ADVEncryptionType::E2EE),
            device_type: Some(ADVEncryptionType::E2EE),
        });
        let about = if fault == Some(LinkFault::WrongSignature) { &[0; 32] } else { companion_identity };
        let signature = self.identity.sign(&[&ACCOUNT_SIGNATURE[..], &details, about].concat())?;
        let signed = wa::ADVSignedDeviceIdentity {
            details: Some(details),
            account_signature_key: Some(self.identity.public().to_vec()),
            account_signature: Some(signature.to_vec()),
            device_signature: None,
        };
        let inner = waproto::codec::adv_signed_device_identity_to_vec(&signed);
        let secret = if fault == Some(LinkFault::WrongHmac) { random() } else { *adv_secret };
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).context("the pairing secret cannot key an HMAC")?;
        // A coexistence account is hosted outside, which the HMAC covers, while this device and its signatures are not.
        let hosted = fault == Some(LinkFault::Hosted);
        if hosted {
            mac.update(&HOSTED_ACCOUNT);
        }
        mac.update(&inner);
        let container = buffa::Message::encode_to_vec(&wa::ADVSignedDeviceIdentityHMAC {
            hmac: Some(mac.finalize().into_bytes().to_vec()),
            details: Some(inner),
            account_type: Some(if hosted { ADVEncryptionType::HOSTED } else { ADVEncryptionType::E2EE }),
        });
        let container = if fault == Some(LinkFault::GarbledIdentity) { vec![0xff; 40] } else { container };
        Ok(LinkOffer { signed, container })
    }

    /// The signed list of companions that count, for `key-index-list`.
    ///
    /// # Errors
    /// When signing fails.
    pub fn key_index_list(&self, indexes: Vec<u32>, now: u64) -> anyhow::Result<Vec<u8>> {
        let details = waproto::codec::adv_key_index_list_to_vec(&wa::ADVKeyIndexList {
            raw_id: Some(self.raw_id),
            timestamp: Some(now),
            current_index: Some(u32::from(self.next_device) - 1),
            valid_indexes: indexes,
            account_type: Some(ADVEncryptionType::E2EE),
        });
        let signature = self.identity.sign(&[&KEY_INDEX_SIGNATURE[..], &details].concat())?;
        Ok(waproto::codec::adv_signed_key_index_list_to_vec(&wa::ADVSignedKeyIndexList {
            details: Some(details),
            account_signature: Some(signature.to_vec()),
            account_signature_key: Some(self.identity.public().to_vec()),
        }))
    }
}

/// What the phone signed for a companion.
pub struct LinkOffer {
    signed: wa::ADVSignedDeviceIdentity,
    /// Content of `device-identity` in `pair-success`.
    pub container: Vec<u8>,
}

impl LinkOffer {
    /// Checks the companion's answer and returns the identity with both signatures, or `None` when it is not signed
    /// by the companion's identity key or not about this offer.
    #[must_use]
    pub fn countersigned(&self, answer: &[u8], companion_identity: &[u8; 32]) -> Option<Vec<u8>> {
        let answer = waproto::codec::adv_signed_device_identity_decode(answer).ok()?;
        if answer.details != self.signed.details {
            return None;
        }
        let message = [
            &DEVICE_SIGNATURE[..],
            self.signed.details.as_deref()?,
            companion_identity,
            self.signed.account_signature_key.as_deref()?,
        ]
        .concat();
        let signature = answer.device_signature?;
        let companion = wacore_libsignal::protocol::PublicKey::from_djb_public_key_bytes(companion_identity).ok()?;
        companion.verify_signature(&message, &signature).then(|| {
            let complete = wa::ADVSignedDeviceIdentity { device_signature: Some(signature), ..self.signed.clone() };
            waproto::codec::adv_signed_device_identity_to_vec(&complete)
        })
    }
}

/// The message by which the phone shares its app-state key with a companion. Clients wait up to ten seconds for it before
/// they call themselves connected.
#[must_use]
pub fn app_state_key_share(account: &Account, to: DeviceKey, now: u64) -> wa::Message {
    let fingerprint = wa::message::AppStateSyncKeyFingerprint {
        raw_id: Some(account.raw_id),
        current_index: Some(u32::from(to.device)),
        device_indexes: vec![0, u32::from(to.device)],
    };
    let key = wa::message::AppStateSyncKey {
        key_id: buffa::MessageField::some(wa::message::AppStateSyncKeyId {
            key_id: Some(account.app_state_key.0.0.clone()),
        }),
        key_data: buffa::MessageField::some(wa::message::AppStateSyncKeyData {
            key_data: Some(account.app_state_key.1.0.clone()),
            fingerprint: buffa::MessageField::some(fingerprint),
            timestamp: i64::try_from(now).ok().map(|seconds| seconds * 1000),
        }),
    };
    wa::Message {
        protocol_message: buffa::MessageField::some(wa::message::ProtocolMessage {
            r#type: Some(wa::message::protocol_message::Type::APP_STATE_SYNC_KEY_SHARE),
            app_state_sync_key_share: buffa::MessageField::some(wa::message::AppStateSyncKeyShare { keys: vec![key] }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The message by which the phone hands a companion the chats it has when the companion is linked: none. It is small enough to go along inline.
/// Until it comes, Baileys waits 20 seconds for it: it holds back what it hears, and does not ask for the account's settings.
///
/// # Errors
/// When it cannot be compressed.
pub fn first_history() -> std::io::Result<wa::Message> {
    let history = wa::HistorySync {
        sync_type: wa::history_sync::HistorySyncType::INITIAL_BOOTSTRAP,
        progress: Some(100),
        ..Default::default()
    };
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&history.encode_to_vec())?;
    let packed = packed.finish()?;
    let notification = wa::message::HistorySyncNotification {
        sync_type: Some(wa::message::HistorySyncType::INITIAL_BOOTSTRAP),
        file_length: u64::try_from(packed.len()).ok(),
        progress: Some(100),
        initial_hist_bootstrap_inline_payload: Some(packed),
        ..Default::default()
    };
    Ok(wa::Message {
        protocol_message: buffa::MessageField::some(wa::message::ProtocolMessage {
            r#type: Some(wa::message::protocol_message::Type::HISTORY_SYNC_NOTIFICATION),
            history_sync_notification: buffa::MessageField::some(notification),
            ..Default::default()
        }),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore::adv::{AdvValidation, validate_adv_with_identity_key};
    use wacore::pair::{DeviceState, PairUtils};

    #[test]
    fn a_link_is_accepted_by_a_real_companion_and_its_answer_by_us() {
        let account = Account::new(15_550_001).unwrap();
        let device =
            DeviceState { identity_key: Key::generate().0, noise_key: Key::generate().0, adv_secret_key: random() };
        let identity: [u8; 32] = device.identity_key.public_key.public_key_bytes().try_into().unwrap();
        let offer = account.link(3, &identity, &device.adv_secret_key, 1_800_000_000, None).unwrap();
        let (answer, key_index) = PairUtils::do_pair_crypto(&device, &offer.container).unwrap();
        assert_eq!(key_index, 3);
        let complete = offer.countersigned(&answer, &identity).unwrap();
        assert!(matches!(validate_adv_with_identity_key(&complete, &identity, None), AdvValidation::Valid));
        assert!(offer.countersigned(&answer, &Key::generate().public()).is_none());
        let other = account.link(4, &identity, &device.adv_secret_key, 1_800_000_000, None).unwrap();
        assert!(other.countersigned(&answer, &identity).is_none());
    }

    #[test]
    fn a_wrong_secret_is_noticed_by_the_companion() {
        let account = Account::new(15_550_001).unwrap();
        let device =
            DeviceState { identity_key: Key::generate().0, noise_key: Key::generate().0, adv_secret_key: random() };
        let identity: [u8; 32] = device.identity_key.public_key.public_key_bytes().try_into().unwrap();
        let offer = account.link(1, &identity, &random(), 1, None).unwrap();
        assert_eq!(PairUtils::do_pair_crypto(&device, &offer.container).unwrap_err().code, 401);
    }

    #[test]
    fn bans_and_restrictions_end_by_themselves() {
        let mut account = Account::new(1).unwrap();
        account.ban = Some(Ban { code: 101, until: 100 });
        account.restricted_until = Some(100);
        assert!(account.banned(99).is_some() && account.restricted(99).is_some());
        assert!(account.banned(100).is_none() && account.restricted(100).is_none());
    }
}
