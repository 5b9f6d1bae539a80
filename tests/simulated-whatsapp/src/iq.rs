//! Answers to a logged-in device's stanzas.

use crate::connection::{Command, Outbox};
use crate::keys::{random, to_hex};
use crate::phone::{self, Account};
use crate::registry::DeviceKey;
use crate::world::{World, now};
use crate::{prekeys, stanza, usync};
use std::sync::Arc;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Node, NodeRef};

/// WhatsApp Web's persisted query for the reach-out time-lock (`WAWebMexFetchReachoutTimelockJobQuery`).
const REACHOUT_TIMELOCK_QUERY: &str = "23983697327930364";
/// The nack for a message to someone new without a trusted-contact token, which a time-locked account has none of.
const MISSING_TC_TOKEN: u16 = 463;
/// How WhatsApp names a lock that stops every linked device from starting conversations.
const ENFORCEMENT: &str = "RESTRICT_ALL_COMPANIONS";

/// A logged-in device on its connection.
pub struct Session {
    /// Which device.
    pub key: DeviceKey,
    /// Where its stanzas go.
    pub outbox: Outbox,
    /// The id of the key share sent over this connection, until it is confirmed.
    key_share: Option<String>,
    removed: bool,
}

impl Session {
    /// A session that has just been welcomed.
    #[must_use]
    pub fn new(key: DeviceKey, outbox: Outbox) -> Self {
        Self { key, outbox, key_share: None, removed: false }
    }

    /// Handles one stanza.
    ///
    /// # Errors
    /// When the state cannot be written down.
    pub fn handle(&mut self, world: &Arc<World>, node: &NodeRef<'_>) -> anyhow::Result<()> {
        if self.removed {
            return Ok(());
        }
        match &*node.tag {
            "iq" => self.iq(world, node),
            "message" => {
                self.message(world, node);
                Ok(())
            }
            "receipt" => {
                self.send(stanza::ack(node, "receipt", now(), None));
                self.confirmed(world, node)
            }
            "ack" => self.confirmed(world, node),
            "call" => {
                self.send(stanza::ack(node, "call", now(), None));
                Ok(())
            }
            "presence" => {
                let kind = stanza::attr(node, "type").unwrap_or_default();
                if matches!(kind.as_str(), "available" | "unavailable") {
                    world.presences.note(self.key, kind == "available");
                }
                Ok(())
            }
            _ => Ok(()), // chatstate, ib: nobody is told anything yet
        }
    }

    fn iq(&mut self, world: &Arc<World>, iq: &NodeRef<'_>) -> anyhow::Result<()> {
        let kind = stanza::attr(iq, "type").unwrap_or_default();
        if kind == "result" || kind == "error" || world.faults.ignores(self.key.phone, iq) {
            return Ok(());
        }
        match stanza::attr(iq, "xmlns").unwrap_or_default().as_str() {
            "encrypt" => {
                let (answer, uploaded) = prekeys::answer(world, self.key, iq)?;
                self.send(answer);
                if uploaded {
                    self.share_app_state_key(world);
                }
            }
            "passive" => {
                self.send(stanza::result(iq, []));
                if iq.get_optional_child("active").is_some() {
                    // Nothing is queued yet, but the end of the backlog must be said: clients wait a minute for it.
                    self.send(
                        NodeBuilder::new("ib")
                            .children([NodeBuilder::new("offline").attr("count", 0_u32).build()])
                            .build(),
                    );
                    self.share_app_state_key(world);
                }
            }
            "w:sync:app:state" => self.send(collections(iq)),
            "w:g2" => self.send(groups(iq)),
            "w:profile:picture" => self.send(picture(iq)),
            "usync" => self.send(usync::answer(world, iq, now())?),
            "w:mex" => self.send(mex(world, self.key, iq)),
            "md" if iq.get_optional_child("remove-companion-device").is_some() => {
                world.registry.remove_device(self.key)?;
                self.removed = true;
                self.send(stanza::result(iq, []));
                // As when it is removed on the phone: the server says so on the device's own connection and ends it.
                let _ = self.outbox.send(Command::SendThenClose(stanza::conflict("device_removed")));
            }
            namespace => self.send(stanza::result(iq, settings(namespace))),
        }
        Ok(())
    }

    fn message(&self, world: &Arc<World>, message: &NodeRef<'_>) {
        let account = world.registry.account(self.key.phone);
        let to_self = message
            .attrs()
            .optional_jid("to")
            .and_then(|jid| world.account_of(&jid))
            .is_some_and(|to| to.phone == self.key.phone);
        let restricted = account.is_some_and(|account| account.restricted(now()).is_some()) && !to_self;
        let ack = stanza::ack(message, "message", now(), restricted.then_some(MISSING_TC_TOKEN));
        let delay = world.ack_delay();
        if delay.is_zero() {
            self.send(ack);
            return;
        }
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = outbox.send(Command::Send(ack));
        });
    }

    /// The phone's first message. It waits for the companion's keys and is repeated on each login until confirmed.
    fn share_app_state_key(&mut self, world: &Arc<World>) {
        let device = world.registry.device(self.key);
        if world.faults.rules(self.key.phone).keep_app_state_key
            || self.key_share.is_some()
            || device.is_none_or(|device| device.has_app_state_key)
            || !world.registry.has_bundle(self.key)
        {
            return;
        }
        let id = format!("3EB0{}", to_hex(&random::<9>()).to_uppercase());
        self.key_share = Some(id.clone());
        let (world, outbox, key) = (Arc::clone(world), self.outbox.clone(), self.key);
        tokio::spawn(async move {
            if let Err(error) = send_key_share(&world, &outbox, key, &id).await {
                tracing::warn!("the phone could not share its app-state key: {error:#}");
            }
        });
    }

    fn confirmed(&mut self, world: &World, node: &NodeRef<'_>) -> anyhow::Result<()> {
        if self.key_share.is_none() || self.key_share != stanza::attr(node, "id") {
            return Ok(());
        }
        match world.registry.device(self.key) {
            Some(mut device) if !device.has_app_state_key => {
                device.has_app_state_key = true;
                world.registry.put_device(device)
            }
            _ => Ok(()),
        }
    }

    fn send(&self, node: Node) {
        let _ = self.outbox.send(Command::Send(node));
    }
}

async fn send_key_share(world: &World, outbox: &Outbox, key: DeviceKey, id: &str) -> anyhow::Result<()> {
    let Some(account) = world.registry.account(key.phone) else { return Ok(()) };
    // The one-time key is used up by this message, so it must not be handed to anybody else.
    let bundle = world.registry.change_bundle(key, |bundle| {
        let mut used = bundle.clone();
        used.one_time.truncate(1);
        bundle.one_time.pop_front();
        used
    })?;
    let Some(bundle) = bundle else { return Ok(()) };
    let _ = outbox.send(Command::Send(phone::app_state_key_share(&account, key, &bundle, id, now()).await?));
    Ok(())
}

/// The account's settings where nobody has changed any; nothing for a namespace that is not simulated.
fn settings(namespace: &str) -> Option<Node> {
    match namespace {
        "abt" | "w" => Some(
            NodeBuilder::new("props").attr("protocol", 1_u32).attr("hash", "sim").attr("refresh", 86_400_u32).build(),
        ),
        "privacy" => {
            let names = ["readreceipts", "profile", "status", "online", "last", "groupadd", "calladd"];
            let category = |name| NodeBuilder::new("category").attr("name", name).attr("value", "all").build();
            Some(NodeBuilder::new("privacy").children(names.map(category)).build())
        }
        "blocklist" => Some(NodeBuilder::new("list").build()),
        _ => None,
    }
}

/// Nobody is in a group yet, so a question about one names something that is not there.
fn groups(iq: &NodeRef<'_>) -> Node {
    if iq.get_optional_child("participating").is_some() {
        return stanza::result(iq, [NodeBuilder::new("groups").build()]);
    }
    stanza::error(iq, 404, "item-not-found")
}

/// Nobody has a picture; one that is set gets an id and is forgotten.
fn picture(iq: &NodeRef<'_>) -> Node {
    if stanza::attr(iq, "type").as_deref() == Some("set") {
        return stanza::result(iq, [NodeBuilder::new("picture").attr("id", now()).build()]);
    }
    stanza::error(iq, 404, "item-not-found")
}

/// Empty collections: the account has no settings, contacts or mutes to synchronise.
fn collections(iq: &NodeRef<'_>) -> Node {
    let asked = iq.get_optional_child("sync").and_then(NodeRef::children).unwrap_or_default();
    let answered = asked.iter().filter(|child| child.tag == "collection").map(|collection| {
        NodeBuilder::new("collection")
            .attr("name", stanza::attr(collection, "name").unwrap_or_default())
            .attr("version", stanza::attr(collection, "version").unwrap_or_else(|| "0".to_owned()))
            .attr("has_more_patches", "false")
            .build()
    });
    stanza::result(iq, [NodeBuilder::new("sync").children(answered).build()])
}

fn mex(world: &World, key: DeviceKey, iq: &NodeRef<'_>) -> Node {
    let query = iq.get_optional_child("query").and_then(|query| stanza::attr(query, "query_id"));
    let data = match (query.as_deref(), world.registry.account(key.phone)) {
        (Some(REACHOUT_TIMELOCK_QUERY), Some(account)) => {
            serde_json::json!({ "xwa2_fetch_account_reachout_timelock": timelock(&account, now()) })
        }
        _ => serde_json::json!({}),
    };
    let body = serde_json::json!({ "data": data }).to_string();
    stanza::result(iq, [NodeBuilder::new("result").bytes(body.into_bytes()).build()])
}

fn timelock(account: &Account, now: u64) -> serde_json::Value {
    match account.restricted(now) {
        Some(until) => serde_json::json!({
            "is_active": true, "time_enforcement_ends": until.to_string(), "enforcement_type": ENFORCEMENT,
        }),
        None => serde_json::json!({ "is_active": false, "enforcement_type": "DEFAULT" }),
    }
}

/// The push that tells a connected device that the account's reach-out time-lock began or ended.
#[must_use]
pub fn timelock_notification(account: &Account, now: u64) -> Node {
    let body = serde_json::json!({ "data": { "xwa2_notify_account_reachout_timelock": timelock(account, now) } });
    NodeBuilder::new("notification")
        .attr("from", stanza::server())
        .attr("type", "mex")
        .attr("id", to_hex(&random::<6>()))
        .attr("t", now)
        .children([NodeBuilder::new("update")
            .attr("op_name", "NotificationUserReachoutTimelockUpdate")
            .bytes(body.to_string().into_bytes())
            .build()])
        .build()
}
