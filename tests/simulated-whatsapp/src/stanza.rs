//! Small builders and readers for WhatsApp's XML-like stanzas.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};

/// The server's own address. It goes over the wire as a JID without a user, never as text: clients compare it as one.
#[must_use]
pub fn server() -> Jid {
    Jid::default()
}

/// Whom a stanza of a client is addressed to: an answer to it comes from there.
fn addressee(stanza: &NodeRef<'_>) -> Jid {
    stanza.attrs().optional_jid("to").unwrap_or_else(server)
}

/// An attribute as text.
#[must_use]
pub fn attr(node: &NodeRef<'_>, name: &str) -> Option<String> {
    node.get_attr(name).map(|value| value.as_str().into_owned())
}

/// The byte content of a direct child.
#[must_use]
pub fn child_bytes<'n>(node: &'n NodeRef<'_>, tag: &str) -> Option<&'n [u8]> {
    node.get_optional_child(tag).and_then(NodeRef::content_bytes)
}

/// The ids of the messages a receipt is about: clients put several into one.
#[must_use]
pub fn receipt_ids(receipt: &NodeRef<'_>) -> Vec<String> {
    let listed = receipt.get_optional_child("list").and_then(NodeRef::children).unwrap_or_default();
    let listed = listed.iter().filter(|item| item.tag == "item").filter_map(|item| attr(item, "id"));
    let mut ids: Vec<String> = attr(receipt, "id").into_iter().chain(listed).collect();
    ids.dedup();
    ids
}

/// Tells a client where to have itself routed to the next time.
#[must_use]
pub fn route(to: &[u8]) -> Node {
    let info = NodeBuilder::new("routing_info").bytes(to.to_vec()).build();
    let routing = NodeBuilder::new("edge_routing").children([info]).build();
    NodeBuilder::new("ib").attr("from", server()).children([routing]).build()
}

/// The `type=result` answer to an IQ, with `children`.
#[must_use]
pub fn result(request: &NodeRef<'_>, children: impl IntoIterator<Item = Node>) -> Node {
    let children: Vec<Node> = children.into_iter().collect();
    let answer = answer(request, "result");
    if children.is_empty() { answer.build() } else { answer.children(children).build() }
}

/// The `type=error` answer to an IQ.
#[must_use]
pub fn error(request: &NodeRef<'_>, code: u16, text: &'static str) -> Node {
    refusal(request, NodeBuilder::new("error").attr("code", code).attr("text", text).build())
}

/// An IQ answered with this `<error>`.
#[must_use]
pub fn refusal(request: &NodeRef<'_>, error: Node) -> Node {
    answer(request, "error").children([error]).build()
}

fn answer(request: &NodeRef<'_>, kind: &'static str) -> NodeBuilder {
    NodeBuilder::new("iq")
        .attr("from", addressee(request))
        .attr("id", attr(request, "id").unwrap_or_default())
        .attr("type", kind)
}

/// `<failure reason=..>`: the server refuses or ends a login.
#[must_use]
pub fn failure(reason: u16) -> NodeBuilder {
    // `location` names a data centre on the real server; clients only log it.
    NodeBuilder::new("failure").attr("reason", reason).attr("location", "sim")
}

/// `<stream:error code=..>`.
#[must_use]
pub fn stream_error(code: u16) -> Node {
    NodeBuilder::new("stream:error").attr("code", code).build()
}

/// `<stream:error><conflict type=..>`; `device_removed` carries code 401 as on the real server.
#[must_use]
pub fn conflict(kind: &'static str) -> Node {
    let mut error = NodeBuilder::new("stream:error");
    if kind == "device_removed" {
        error = error.attr("code", 401_u16);
    }
    error.children([NodeBuilder::new("conflict").attr("type", kind).build()]).build()
}

/// The server's ack of a client stanza of `class`, refused with `nack` when given.
#[must_use]
pub fn ack(stanza: &NodeRef<'_>, class: &'static str, now: u64, nack: Option<u16>) -> Node {
    let mut ack = NodeBuilder::new("ack")
        .attr("class", class)
        .attr("id", attr(stanza, "id").unwrap_or_default())
        .attr("from", addressee(stanza))
        .attr("t", now);
    if class != "message" {
        if let Some(participant) = stanza.attrs().optional_jid("participant") {
            ack = ack.attr("participant", participant);
        }
        if let Some(kind) = attr(stanza, "type") {
            ack = ack.attr("type", kind);
        }
    }
    if let Some(code) = nack {
        ack = ack.attr("error", code);
    }
    ack.build()
}
