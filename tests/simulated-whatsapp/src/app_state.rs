//! The account's settings as its devices share them ("app state", "syncd"): encrypted patches by the phone that the server
//! keeps without reading them. Only the collection with the account's name is simulated; the others are empty.

use crate::keys::{Bytes, random};
use crate::stanza;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use wacore::appstate::hash::{HashState, generate_patch_mac};
use wacore::appstate::{encode_record, expand_app_state_keys};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Node, NodeRef};
use waproto::whatsapp::{self as wa, syncd_mutation::SyncdOperation};

/// The collection that holds the name (WhatsApp Web `WAWebPushNameSync`).
const COLLECTION: &str = "critical_block";
const NAME_INDEX: &[u8] = br#"["setting_pushName"]"#;
/// The version of the action's schema, as WhatsApp Web writes it.
const NAME_SCHEMA: i32 = 1;

/// The collection with the name: every patch since the account began.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    patches: Vec<Bytes>,
    /// The rolling hash over the values in force, 128 bytes; none before the first patch.
    hash: Option<Bytes>,
    /// The MAC of the name in force.
    value_mac: Option<Bytes>,
}

impl Settings {
    /// The version of the collection: how many patches it has.
    #[must_use]
    pub fn version(&self) -> usize {
        self.patches.len()
    }

    /// The phone writes down a new name, at `now` in unix seconds. `key` is the account's app-state key with its id.
    ///
    /// # Errors
    /// When what was written down before cannot be used.
    pub fn rename(&mut self, key: &(Bytes, Bytes), name: &str, now: u64) -> anyhow::Result<()> {
        let (id, keys) = (&key.0.0, expand_app_state_keys(&key.1.0));
        let value = wa::SyncActionValue {
            timestamp: i64::try_from(now).ok().map(|seconds| seconds * 1000),
            push_name_setting: buffa::MessageField::some(wa::sync_action_value::PushNameSetting {
                name: Some(name.to_owned()),
            }),
            ..Default::default()
        };
        let (mutation, value_mac) =
            encode_record(SyncdOperation::SET, NAME_INDEX, &value, &keys, id, &random(), NAME_SCHEMA);
        let mut state = HashState { version: self.patches.len().try_into()?, ..HashState::default() };
        if let Some(hash) = &self.hash {
            state.hash = hash.0.as_slice().try_into().context("the account's settings are damaged")?;
        }
        let mutations = vec![mutation];
        let before = self.value_mac.as_ref().map(|mac| mac.0.clone());
        state.update_hash(&mutations, |_, _| Ok(before.clone())).1?;
        state.version += 1;
        let mut patch = wa::SyncdPatch {
            version: buffa::MessageField::some(wa::SyncdVersion { version: Some(state.version) }),
            snapshot_mac: Some(state.generate_snapshot_mac(COLLECTION, &keys.snapshot_mac)),
            key_id: buffa::MessageField::some(wa::KeyId { id: Some(id.clone()) }),
            mutations,
            ..Default::default()
        };
        patch.patch_mac = Some(generate_patch_mac(&patch, COLLECTION, &keys.patch_mac, state.version));
        self.patches.push(Bytes(waproto::codec::syncd_patch_to_vec(&patch)));
        self.hash = Some(Bytes(state.hash.to_vec()));
        self.value_mac = Some(Bytes(value_mac.to_vec()));
        Ok(())
    }

    /// Tells a device that there is a new version.
    #[must_use]
    pub fn notification(&self, id: &str, now: u64) -> Node {
        let collection = NodeBuilder::new("collection").attr("name", COLLECTION).attr("version", self.version());
        NodeBuilder::new("notification")
            .attr("from", stanza::server())
            .attr("type", "server_sync")
            .attr("id", id)
            .attr("t", now)
            .children([collection.build()])
            .build()
    }

    /// Answers a device that asks what is new since the versions it has.
    #[must_use]
    pub fn answer(&self, iq: &NodeRef<'_>) -> Node {
        let asked = iq.get_optional_child("sync").and_then(NodeRef::children).unwrap_or_default();
        let answered = asked.iter().filter(|child| child.tag == "collection").map(|collection| {
            let name = stanza::attr(collection, "name").unwrap_or_default();
            let version = stanza::attr(collection, "version").unwrap_or_else(|| "0".to_owned());
            let answer = NodeBuilder::new("collection").attr("name", name.as_str()).attr("has_more_patches", "false");
            let new = if name == COLLECTION { self.since(&version) } else { &[] };
            if new.is_empty() {
                return answer.attr("version", version).build();
            }
            let patches = new.iter().map(|patch| NodeBuilder::new("patch").bytes(patch.0.clone()).build());
            answer
                .attr("version", self.version())
                .children([NodeBuilder::new("patches").children(patches).build()])
                .build()
        });
        stanza::result(iq, [NodeBuilder::new("sync").children(answered).build()])
    }

    fn since(&self, version: &str) -> &[Bytes] {
        let known = version.parse().unwrap_or(0);
        self.patches.get(known..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wacore::appstate::patch_decode::parse_patch_lists;
    use wacore::appstate::process_patch;

    #[test]
    fn a_device_reads_every_name_and_proves_it_to_be_the_phones() {
        let key = (Bytes(vec![1, 2, 3, 4, 5, 6]), Bytes(vec![7; 32]));
        let mut settings = Settings::default();
        for (name, now) in [("Alice", 1), ("Alicia", 2), ("", 3)] {
            settings.rename(&key, name, now).unwrap();
        }
        let collection = NodeBuilder::new("collection").attr("name", COLLECTION).attr("version", "0").build();
        let sync = NodeBuilder::new("sync").children([collection]).build();
        let iq = NodeBuilder::new("iq").attr("id", "1").children([sync]).build();
        let lists = parse_patch_lists(&settings.answer(&iq.as_node_ref())).unwrap();
        let keys = Arc::new(expand_app_state_keys(&key.1.0));
        let (mut state, mut before, mut names) = (HashState::default(), None::<Vec<u8>>, Vec::new());
        for patch in &lists[0].patches {
            let done =
                process_patch(patch, &mut state, |_| Ok(Arc::clone(&keys)), |_| Ok(before.clone()), true, COLLECTION)
                    .unwrap();
            before = done.added_macs.first().map(|mac| mac.value_mac.clone());
            let value = done.mutations[0].action_value.clone().unwrap();
            names.push(value.push_name_setting.name.clone().unwrap());
        }
        assert_eq!(names, ["Alice", "Alicia", ""]);
        assert_eq!(settings.version(), 3);
        assert!(settings.since("3").is_empty() && settings.since("9").is_empty());
        assert_eq!(settings.since("2").len(), 1);
    }
}
