//! Answers to a logged-in device's stanzas.

use crate::connection::{Command, Outbox};
use crate::keys::{random, to_hex};
use crate::phone::{self, Account};
use crate::reading::{self, Reading};
use crate::registry::DeviceKey;
use crate::world::{World, now};
use crate::{letters, mail, prekeys, stanza, usync};
use std::sync::Arc;
use std::time::Duration;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Node, NodeRef};
use waproto::whatsapp as wa;

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
    connection: u64,
    /// Mail is delivered.
    reads_mail: bool,
    /// Where what it writes is read, once it has written something.
    reading: Option<Reading>,
    /// The id of the key share sent over this connection, until it is confirmed.
    key_share: Option<String>,
    /// The history was sent over this connection.
    sent_history: bool,
    /// The last thing that the phone says to this companion.
    told: Option<tokio::task::JoinHandle<()>>,
    removed: bool,
}

impl Session {
    /// A session that has just been welcomed.
    #[must_use]
    pub fn new(key: DeviceKey, connection: u64, outbox: Outbox) -> Self {
        Self {
            key,
            outbox,
            connection,
            reads_mail: false,
            reading: None,
            key_share: None,
            sent_history: false,
            told: None,
            removed: false,
        }
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
                if let Some(author) = world.mail.receipt(self.key, node).filter(|author| author.device != 0) {
                    reading::forward_receipt(world, self.key, author, node);
                }
                self.confirmed(world, node)
            }
            "ack" => {
                world.mail.acknowledged(self.key, node);
                self.confirmed(world, node)
            }
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
        if let Some(code) = world.faults.refuses(self.key.phone, iq) {
            self.send(stanza::error(iq, code, "refused"));
            return Ok(());
        }
        match stanza::attr(iq, "xmlns").unwrap_or_default().as_str() {
            "encrypt" => {
                let (answer, uploaded) = prekeys::answer(world, self.key, iq)?;
                self.send(answer);
                if uploaded {
                    self.welcome(world)?;
                }
            }
            "passive" => {
                self.send(stanza::result(iq, []));
                if iq.get_optional_child("active").is_some() {
                    if !std::mem::replace(&mut self.reads_mail, true) {
                        mail::deliver(world, self.key, self.connection, self.outbox.clone());
                    }
                    self.welcome(world)?;
                }
            }
            "w:sync:app:state" => {
                let settings = world.registry.account(self.key.phone).map(|account| account.settings);
                self.send(settings.unwrap_or_default().answer(iq));
            }
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

    fn message(&mut self, world: &Arc<World>, message: &NodeRef<'_>) {
        let account = world.registry.account(self.key.phone);
        let own = self.key.phone;
        let to = message.attrs().optional_jid("to").and_then(|jid| world.account_of(&jid)).map(|to| to.phone);
        let restricted = account.is_some_and(|account| account.restricted(now()).is_some())
            && to.is_none_or(|to| to != own && !world.inbox.knows(to, own));
        // What the devices of one account say to each other is not what the rules are about.
        let is_peer = stanza::attr(message, "category").as_deref() == Some("peer");
        let rule = if is_peer { None } else { world.faults.take_ack_rule(self.key.phone) }.unwrap_or_default();
        if rule.swallowed {
            return;
        }
        let refused = rule.error.or(restricted.then_some(MISSING_TC_TOKEN));
        if refused.is_none() {
            let start = || Reading::start(Arc::clone(world), self.key, self.outbox.clone());
            self.reading.get_or_insert_with(start).take(world, self.key, message);
        }
        if rule.lost {
            return;
        }
        let ack = stanza::ack(message, "message", now().saturating_sub(rule.behind_secs), refused);
        let taken = stanza::attr(message, "id").filter(|_| refused.is_none());
        let delay = world.ack_delay() + Duration::from_millis(rule.delay_ms);
        let (world, outbox, key) = (Arc::clone(world), self.outbox.clone(), self.key);
        let acknowledge = move || {
            if let Some(id) = taken {
                world.inbox.acknowledged(key, id);
            }
            let _ = outbox.send(Command::Send(ack));
        };
        if delay.is_zero() {
            return acknowledge();
        }
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            acknowledge();
        });
    }

    /// The phone's first messages to a companion, which wait for its keys and are repeated on each login until the first is confirmed: the
    /// account's app-state key and, once the companion reads its mail, the history.
    fn welcome(&mut self, world: &Arc<World>) -> anyhow::Result<()> {
        self.share_app_state_key(world);
        if self.reads_mail && self.key_share.is_some() && !std::mem::replace(&mut self.sent_history, true) {
            let history = phone::first_history()?;
            self.tell_companion(world, letters::message_id(), move |_| history);
        }
        Ok(())
    }

    fn share_app_state_key(&mut self, world: &Arc<World>) {
        let device = world.registry.device(self.key);
        if world.faults.rules(self.key.phone).keep_app_state_key
            || self.key_share.is_some()
            || device.is_none_or(|device| device.has_app_state_key)
            || !world.registry.has_bundle(self.key)
        {
            return;
        }
        let id = letters::message_id();
        self.key_share = Some(id.clone());
        let key = self.key;
        self.tell_companion(world, id, move |account| phone::app_state_key_share(account, key, now()));
    }

    /// The phone says something to this companion, after what it said before.
    fn tell_companion(
        &mut self,
        world: &Arc<World>,
        id: String,
        content: impl FnOnce(&Account) -> wa::Message + Send + 'static,
    ) {
        let (world, outbox, key, before) = (Arc::clone(world), self.outbox.clone(), self.key, self.told.take());
        self.told = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let Some(account) = world.registry.account(key.phone) else { return };
            match letters::to_companion(&world, &account, key, &id, &content(&account)).await {
                Ok(node) => {
                    let _ = outbox.send(Command::Send(node));
                }
                Err(error) => tracing::warn!("the phone could not write to its companion: {error:#}"),
            }
        }));
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
