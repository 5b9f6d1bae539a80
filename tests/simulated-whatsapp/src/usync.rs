//! `usync`: who has an account, under which addresses, with which devices.

use crate::faults::LookUp;
use crate::phone::Account;
use crate::stanza;
use crate::world::{World, digits};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};

/// Answers a usync query with exactly the protocols it asked for.
///
/// # Errors
/// When a key index list cannot be signed.
pub fn answer(world: &World, iq: &NodeRef<'_>, now: u64) -> anyhow::Result<Node> {
    let Some(query) = iq.get_optional_child("usync") else { return Ok(stanza::result(iq, [])) };
    let protocols: Vec<String> = query
        .get_optional_child("query")
        .and_then(NodeRef::children)
        .unwrap_or_default()
        .iter()
        .map(|child| child.tag.to_string())
        .collect();
    let mut users = Vec::new();
    for user in query.get_optional_child("list").and_then(NodeRef::children).unwrap_or_default() {
        users.extend(answer_user(world, user, &protocols, now)?);
    }
    let mut usync = NodeBuilder::new("usync");
    for name in ["sid", "mode", "context", "index", "last"] {
        if let Some(value) = stanza::attr(query, name) {
            usync = usync.attr(name, value);
        }
    }
    let outcome = protocols.iter().map(|tag| NodeBuilder::new_dynamic(tag.clone()).build());
    let parts =
        [NodeBuilder::new("result").children(outcome).build(), NodeBuilder::new("list").children(users).build()];
    Ok(stanza::result(iq, [usync.children(parts).build()]))
}

fn answer_user(world: &World, user: &NodeRef<'_>, protocols: &[String], now: u64) -> anyhow::Result<Option<Node>> {
    let contact = user.get_optional_child("contact").and_then(wacore_binary::NodeRef::content_as_string);
    // A number, or the number's address as clients of the first years wrote it: <number>@c.us.
    let number = contact.as_ref().and_then(|text| digits(text.split('@').next().unwrap_or_default()));
    // Whichever way a number is written, the answer names the one that the server uses.
    let resolved = number.map(|number| Jid::pn(world.resolve(number).unwrap_or(number).to_string()));
    let asked = user.attrs().optional_jid("jid").or(resolved);
    let account = asked.as_ref().map(|jid| world.person(jid)).transpose()?.flatten();
    let look_up = account.as_ref().and_then(|account| world.faults.rules(account.phone).look_up);
    if look_up == Some(LookUp::Silent) {
        return Ok(None);
    }
    let mut answer = NodeBuilder::new("user");
    if let Some(jid) = asked {
        answer = answer.attr("jid", jid.with_device(0));
    }
    if let Some(account) = &account {
        answer = answer.attr("pn_jid", Jid::pn(account.phone.to_string()));
    }
    let mut parts = Vec::new();
    for protocol in protocols {
        match (protocol.as_str(), &account) {
            ("contact", _) if let Some(LookUp::Error(code)) = look_up => {
                let error = NodeBuilder::new("error").attr("code", code).attr("text", "refused").build();
                parts.push(NodeBuilder::new("contact").children([error]).build());
            }
            ("contact", found) => {
                let mut node = NodeBuilder::new("contact").attr("type", if found.is_some() { "in" } else { "out" });
                if let Some(text) = &contact {
                    node = node.string_content(text.clone());
                }
                parts.push(node.build());
            }
            ("devices", Some(account)) => parts.push(devices(world, account, now)?),
            ("lid", Some(account)) => parts.push(NodeBuilder::new("lid").attr("val", account.lid_jid(0)).build()),
            ("business", Some(_)) => parts.push(NodeBuilder::new("business").build()),
            _ => {}
        }
    }
    Ok(Some(answer.children(parts).build()))
}

fn devices(world: &World, account: &Account, now: u64) -> anyhow::Result<Node> {
    let companions = world.registry.devices(Some(account.phone));
    let mut list = Vec::new();
    if !world.faults.rules(account.phone).phone_unlisted {
        list.push(NodeBuilder::new("device").attr("id", 0_u16).build());
    }
    for companion in &companions {
        list.push(
            NodeBuilder::new("device").attr("id", companion.key.device).attr("key-index", companion.key_index).build(),
        );
    }
    let mut parts = vec![NodeBuilder::new("device-list").children(list).build()];
    if !companions.is_empty() && !world.faults.rules(account.phone).unsigned_devices {
        let indexes = companions.iter().map(|companion| companion.key_index).collect();
        let signed = account.key_index_list(indexes, now)?;
        parts.push(NodeBuilder::new("key-index-list").attr("ts", now).bytes(signed).build());
    }
    Ok(NodeBuilder::new("devices").children(parts).build())
}
