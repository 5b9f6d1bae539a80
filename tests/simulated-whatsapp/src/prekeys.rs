//! The Signal keys a companion uploads, and the answers of the `encrypt` namespace made from them.

use crate::phone::Account;
use crate::registry::{Device, DeviceKey};
use crate::stanza;
use crate::world::World;
use anyhow::Context as _;
use std::collections::VecDeque;
use std::path::Path;
use wacore::prekeys::compute_key_bundle_digest;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Node, NodeRef};

/// Signal's type byte for Curve25519 keys.
pub(crate) const CURVE25519: u8 = 5;

/// A public prekey with its id (24 bits on the wire).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicPreKey {
    /// The id the owner looks it up by.
    pub id: u32,
    /// The 32 public bytes.
    pub value: [u8; 32],
}

/// What a device uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Signal registration id.
    pub registration_id: u32,
    /// Signal identity key.
    pub identity: [u8; 32],
    /// The signed prekey.
    pub signed: PublicPreKey,
    /// The identity key's signature over the signed prekey.
    pub signature: [u8; 64],
    /// One-time prekeys, handed out from the front.
    pub one_time: VecDeque<PublicPreKey>,
}

impl Bundle {
    /// Reads an upload; `None` when a field is missing or has the wrong length.
    #[must_use]
    pub fn from_upload(iq: &NodeRef<'_>) -> Option<Self> {
        let (signed, signature) = signed_prekey(iq.get_optional_child("skey")?)?;
        let keys = iq.get_optional_child("list")?.children().unwrap_or_default();
        Some(Self {
            registration_id: u32::from_be_bytes(stanza::child_bytes(iq, "registration")?.try_into().ok()?),
            identity: stanza::child_bytes(iq, "identity")?.try_into().ok()?,
            signed,
            signature,
            one_time: keys.iter().map(prekey).collect::<Option<_>>()?,
        })
    }

    /// Fixed-width records: header, then one per one-time key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(136 + self.one_time.len() * 36);
        bytes.extend_from_slice(&self.registration_id.to_be_bytes());
        bytes.extend_from_slice(&self.identity);
        bytes.extend_from_slice(&self.signature);
        for key in std::iter::once(&self.signed).chain(&self.one_time) {
            bytes.extend_from_slice(&key.id.to_be_bytes());
            bytes.extend_from_slice(&key.value);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (registration_id, rest) = bytes.split_first_chunk::<4>()?;
        let (identity, rest) = rest.split_first_chunk::<32>()?;
        let (signature, rest) = rest.split_first_chunk::<64>()?;
        let mut keys = VecDeque::with_capacity(rest.len() / 36);
        for record in rest.chunks(36) {
            let (id, value) = record.split_first_chunk::<4>()?;
            keys.push_back(PublicPreKey { id: u32::from_be_bytes(*id), value: value.try_into().ok()? });
        }
        let signed = keys.pop_front()?;
        Some(Self {
            registration_id: u32::from_be_bytes(*registration_id),
            identity: *identity,
            signed,
            signature: *signature,
            one_time: keys,
        })
    }

    /// Reads a bundle file; `None` when there is none.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(bytes) => Self::decode(&bytes)
                .with_context(|| {
                    format!("cannot understand {}: remove the state directory to start afresh", path.display())
                })
                .map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

fn prekey(node: &NodeRef<'_>) -> Option<PublicPreKey> {
    let id = stanza::child_bytes(node, "id")?;
    let value = stanza::child_bytes(node, "value")?.try_into().ok()?;
    Some(PublicPreKey { id: id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte)), value })
}

fn signed_prekey(node: &NodeRef<'_>) -> Option<(PublicPreKey, [u8; 64])> {
    Some((prekey(node)?, stanza::child_bytes(node, "signature")?.try_into().ok()?))
}

/// Answers an IQ of the `encrypt` namespace from `device`. The flag tells whether keys were uploaded.
///
/// # Errors
/// When the keys cannot be written down.
pub fn answer(world: &World, key: DeviceKey, iq: &NodeRef<'_>) -> anyhow::Result<(Node, bool)> {
    let registry = &world.registry;
    if iq.get_optional_child("list").is_some() {
        let Some(upload) = Bundle::from_upload(iq) else {
            return Ok((stanza::error(iq, 406, "not-acceptable"), false));
        };
        let known =
            registry.with_bundle(key, |bundle| (bundle.identity == upload.identity).then(|| bundle.one_time.clone()));
        let bundle = match known.flatten() {
            // A later upload tops the supply up; it does not withdraw what peers may already hold.
            Some(mut supply) => {
                supply.retain(|held| !upload.one_time.iter().any(|new| new.id == held.id));
                supply.extend(upload.one_time.iter().cloned());
                Bundle { one_time: supply, ..upload }
            }
            None => upload,
        };
        registry.put_bundle(key, bundle)?;
        return Ok((stanza::result(iq, []), true));
    }
    if let Some(rotate) = iq.get_optional_child("rotate") {
        let Some((signed, signature)) = rotate.get_optional_child("skey").and_then(signed_prekey) else {
            return Ok((stanza::error(iq, 406, "not-acceptable"), false));
        };
        registry.change_bundle(key, |bundle| (bundle.signed, bundle.signature) = (signed, signature))?;
        return Ok((stanza::result(iq, []), false));
    }
    if iq.get_optional_child("count").is_some() {
        let count = registry.with_bundle(key, |bundle| bundle.one_time.len()).unwrap_or(0);
        return Ok((
            stanza::result(iq, [NodeBuilder::new("count").attr("value", u64::try_from(count)?).build()]),
            false,
        ));
    }
    if iq.get_optional_child("digest").is_some() {
        let digest = registry.with_bundle(key, digest);
        return Ok((
            digest.map_or_else(|| stanza::error(iq, 404, "item-not-found"), |digest| stanza::result(iq, [digest])),
            false,
        ));
    }
    if let Some(wanted) = iq.get_optional_child("key") {
        let mut users = Vec::new();
        for user in wanted.get_children_by_tag("user") {
            users.push(bundle_of(world, user)?);
        }
        return Ok((stanza::result(iq, [NodeBuilder::new("list").children(users).build()]), false));
    }
    Ok((stanza::result(iq, []), false))
}

fn bundle_of(world: &World, user: &NodeRef<'_>) -> anyhow::Result<Node> {
    let jid = user.attrs().optional_jid("jid");
    let named = NodeBuilder::new("user").attr("jid", jid.clone().unwrap_or_else(stanza::server));
    let account = jid.as_ref().map(|jid| world.person(jid)).transpose()?.flatten();
    let found = account.zip(jid.map(|jid| jid.device));
    let children = match found {
        Some((account, 0)) if world.faults.rules(account.phone).keep_keys => None,
        Some((account, 0)) => Some(phone_bundle(&account)),
        Some((account, number)) => companion_bundle(world, DeviceKey { phone: account.phone, device: number })?,
        None => None,
    };
    // 406 is how the server names a device that is not registered.
    let refused = || vec![NodeBuilder::new("error").attr("code", 406_u16).attr("text", "not-acceptable").build()];
    Ok(named.children(children.unwrap_or_else(refused)).build())
}

/// The phone hands out no one-time keys: a bundle without one is what the server gives when they are used up.
fn phone_bundle(account: &Account) -> Vec<Node> {
    let signed = PublicPreKey { id: account.signed.id, value: account.signed.key.public() };
    vec![
        bytes("registration", account.registration_id.to_be_bytes()),
        bytes("type", [CURVE25519]),
        bytes("identity", account.identity.public()),
        signed_node(&signed, &account.signed.signature.0),
    ]
}

fn companion_bundle(world: &World, key: DeviceKey) -> anyhow::Result<Option<Vec<Node>>> {
    let Some(Device { signed_identity, .. }) = world.registry.device(key) else { return Ok(None) };
    let Some((bundle, one_time)) = world.registry.change_bundle(key, |bundle| {
        let one_time = bundle.one_time.pop_front();
        (Bundle { one_time: VecDeque::new(), ..bundle.clone() }, one_time)
    })?
    else {
        return Ok(None);
    };
    let mut nodes = vec![
        bytes("registration", bundle.registration_id.to_be_bytes()),
        bytes("type", [CURVE25519]),
        bytes("identity", bundle.identity),
        signed_node(&bundle.signed, &bundle.signature),
        bytes("device-identity", signed_identity.0),
    ];
    if let Some(one_time) = one_time {
        nodes.push(NodeBuilder::new("key").children(prekey_fields(&one_time)).build());
    }
    Ok(Some(nodes))
}

fn digest(bundle: &Bundle) -> Node {
    let keys: Vec<&[u8]> = bundle.one_time.iter().map(|key| &key.value[..]).collect();
    let hash = compute_key_bundle_digest(&bundle.identity, &bundle.signed.value, &bundle.signature, &keys);
    let ids = bundle.one_time.iter().map(|key| bytes("id", &key.id.to_be_bytes()[1..]));
    NodeBuilder::new("digest")
        .children([
            bytes("registration", bundle.registration_id.to_be_bytes()),
            bytes("type", [CURVE25519]),
            bytes("identity", bundle.identity),
            signed_node(&bundle.signed, &bundle.signature),
            NodeBuilder::new("list").children(ids).build(),
            bytes("hash", hash),
        ])
        .build()
}

pub(crate) fn signed_node(key: &PublicPreKey, signature: &[u8]) -> Node {
    let mut fields = prekey_fields(key);
    fields.push(bytes("signature", signature));
    NodeBuilder::new("skey").children(fields).build()
}

pub(crate) fn prekey_fields(key: &PublicPreKey) -> Vec<Node> {
    vec![bytes("id", &key.id.to_be_bytes()[1..]), bytes("value", key.value)]
}

pub(crate) fn bytes(tag: &'static str, content: impl Into<Vec<u8>>) -> Node {
    NodeBuilder::new(tag).bytes(content).build()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use wacore::prekeys::PreKeyUtils;

    pub(crate) fn bundle(one_time: u32) -> Bundle {
        Bundle {
            registration_id: 7,
            identity: [1; 32],
            signed: PublicPreKey { id: 0x01_02_03, value: [2; 32] },
            signature: [3; 64],
            one_time: (1..=one_time).map(|id| PublicPreKey { id, value: [4; 32] }).collect(),
        }
    }

    #[test]
    fn reads_a_real_upload_and_keeps_it_in_a_file() {
        let keys = [(1_u32, &[4_u8; 32][..]), (2, &[4; 32]), (3, &[4; 32])];
        let nodes = PreKeyUtils::build_upload_prekeys_request(7, &[1; 32], 0x01_02_03, &[2; 32], &[3; 64], keys);
        let iq = NodeBuilder::new("iq").children(nodes).build();
        let read = Bundle::from_upload(&iq.as_node_ref()).unwrap();
        assert_eq!(read, bundle(3));
        assert_eq!(Bundle::decode(&read.encode()).unwrap(), read);
        assert_eq!(Bundle::decode(&read.encode()[..150]), None);
    }
}
