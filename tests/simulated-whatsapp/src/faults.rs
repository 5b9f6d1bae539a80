//! What the server does wrong on purpose, and for whom. Lives as long as the process; nothing here is written down.
//!
//! Two kinds: [`Rules`] hold for every connection of a phone's devices (or for clients whose phone is not known yet)
//! until they are replaced; a [`Live`] act happens once, on connections that are open now.

pub mod messages;

use self::messages::{AckRule, ReceiptRule, RetryRule};
use crate::stanza;
use crate::world::lock;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Node, NodeRef};

/// `<failure>` instead of `<success>` (or instead of pairing references).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refuse {
    /// 401, 402, 403, 405, 406, 409, 429, 500, 503 and so on.
    pub reason: u16,
    /// WhatsApp's sub-reason.
    pub code: Option<u16>,
    /// Seconds.
    pub expire: Option<u64>,
    /// How often; left out, until the rules are replaced.
    pub times: Option<u32>,
}

impl Refuse {
    /// The stanza.
    #[must_use]
    pub fn node(&self) -> Node {
        let mut failure = stanza::failure(self.reason);
        if let Some(code) = self.code {
            failure = failure.attr("code", code);
        }
        if let Some(expire) = self.expire {
            failure = failure.attr("expire", expire);
        }
        failure.build()
    }
}

/// How a connection ends: with a `<failure>`, with a `<stream:error>`, or, when nothing is given, without a word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ending {
    /// `<failure reason=..>`.
    pub failure: Option<u16>,
    /// `<stream:error code=..>`.
    pub code: Option<u16>,
    /// `<conflict type=..>` inside the stream error: `replaced`, `device_removed`.
    pub conflict: Option<String>,
}

impl Ending {
    /// The last stanza; `None` when there is none.
    #[must_use]
    pub fn node(&self) -> Option<Node> {
        if let Some(reason) = self.failure {
            return Some(stanza::failure(reason).build());
        }
        if self.code.is_none() && self.conflict.is_none() {
            return None;
        }
        let mut error = NodeBuilder::new("stream:error");
        if let Some(code) = self.code {
            error = error.attr("code", code);
        }
        if let Some(kind) = &self.conflict {
            error = error.children([NodeBuilder::new("conflict").attr("type", kind.as_str()).build()]);
        }
        Some(error.build())
    }
}

/// Ends connections some time after the login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndLogin {
    /// Milliseconds after `<success>`.
    pub after_ms: u64,
    /// How.
    #[serde(default)]
    pub with: Ending,
    /// How often; left out, until the rules are replaced.
    pub times: Option<u32>,
}

/// A kind of IQ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IqKind {
    /// Its namespace, e.g. `encrypt`.
    pub xmlns: String,
    /// `get` or `set`; left out, both.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// A child it must have, e.g. `list` for an upload of keys.
    pub child: Option<String>,
}

impl IqKind {
    fn is(&self, iq: &NodeRef<'_>) -> bool {
        stanza::attr(iq, "xmlns").is_some_and(|xmlns| xmlns == self.xmlns)
            && self.kind.as_ref().is_none_or(|kind| stanza::attr(iq, "type").as_ref() == Some(kind))
            && self.child.as_ref().is_none_or(|child| iq.get_optional_child(child).is_some())
    }
}

/// A kind of IQ that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefusedIq {
    /// Which.
    pub iq: IqKind,
    /// With this code.
    pub code: u16,
    /// How often; left out, always.
    pub times: Option<u32>,
}

/// What the server says instead of whether somebody has an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum LookUp {
    /// An error with this code, for this person alone.
    Error(u16),
    /// Nothing about this person.
    Silent,
}

/// What happens to every connection of a phone's devices.
#[allow(clippy::struct_excessive_bools)] // each is a fault of its own, and they come in any combination
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rules {
    /// Logins are refused.
    pub refuse: Option<Refuse>,
    /// Logins succeed and end soon after.
    pub end_login: Option<EndLogin>,
    /// IQs that are never answered.
    #[serde(default)]
    pub unanswered: Vec<IqKind>,
    /// IQs that are answered with an error.
    #[serde(default)]
    pub refused: Vec<RefusedIq>,
    /// The phone does not share its app-state key, asked or not.
    #[serde(default)]
    pub keep_app_state_key: bool,
    /// The account is an ordinary one: its name is among its settings, and does not come with the link as that of a business does.
    #[serde(default)]
    pub ordinary: bool,
    /// The server says which devices the phone has without the list that the phone has signed.
    #[serde(default)]
    pub unsigned_devices: bool,
    /// The server names the companions of the phone and not the phone itself to whoever asks for the devices.
    #[serde(default)]
    pub phone_unlisted: bool,
    /// What the server does with messages that the phone's devices send.
    pub acks: Option<AckRule>,
    /// What the phone sends back for messages that arrive.
    #[serde(default)]
    pub receipts: ReceiptRule,
    /// The phone says of messages that arrive that it cannot read them, and asks for them again.
    pub retry: Option<RetryRule>,
    /// The server does not hand out the phone's keys, as of one that was set up anew just now; those of its companions it
    /// does.
    #[serde(default)]
    pub keep_keys: bool,
    /// Nobody has this number, whoever it is.
    #[serde(default)]
    pub not_on_whatsapp: bool,
    /// Who asks whether this person has an account does not get to know it.
    pub look_up: Option<LookUp>,
}

/// What a server hello can suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HelloFault {
    /// The message in the frame ends early; the connection stays open.
    Truncated,
    /// The frame ends early: less comes than its length says; the connection stays open.
    HalfFrame,
    /// A good hello, then the connection closes.
    ThenHangUp,
    /// Who begins with the short handshake of those who have been here before (IK) is hung up on, as long as the rules say so.
    IkRefused,
    /// The same, and nothing is said.
    IkIgnored,
    /// A server that has never heard of the short handshake, and answers it as it does the long one (XX).
    OnlyXx,
    /// Who says where they were routed to the last time is hung up on.
    RoutedRefused,
}

/// The references a client is given to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum References {
    /// None at all.
    None,
    /// One instead of six.
    One,
    /// Six that are not UTF-8.
    NotUtf8,
    /// Six with control characters and a right-to-left override.
    ControlCharacters,
    /// Six of 100 kB each.
    Huge,
}

/// Pairing by code is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefuseCode {
    /// 400, 403, 429, 452, 500 and so on.
    pub code: u16,
    /// `companion_hello`, the question for a code, or `companion_finish`, which follows its use.
    pub stage: String,
    /// Seconds for which the client is to wait.
    pub backoff: Option<u32>,
    /// How often; left out, until the rules are replaced.
    pub times: Option<u32>,
}

impl RefuseCode {
    /// The answer to `iq`, when this is about it.
    fn answer(&self, iq: &NodeRef<'_>) -> Option<Node> {
        let registration = iq.get_optional_child("link_code_companion_reg")?;
        if stanza::attr(registration, "stage").as_ref() != Some(&self.stage) {
            return None;
        }
        let mut error = NodeBuilder::new("error").attr("code", self.code);
        if let Some(backoff) = self.backoff {
            error = error.attr("backoff", backoff);
        }
        Some(stanza::refusal(iq, error.build()))
    }
}

/// What happens to connections whose phone is not known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewcomerRules {
    /// Handshakes of all clients, linked ones too.
    pub hello: Option<HelloFault>,
    /// How many handshakes; left out, until the rules are replaced.
    pub hello_times: Option<u32>,
    /// Clients that want to be linked are refused.
    pub refuse: Option<Refuse>,
    /// What clients that want to be linked are given.
    pub references: Option<References>,
    /// Clients that want to be linked by code are refused.
    pub refuse_code: Option<RefuseCode>,
}

/// What is wrong with the phone's answer to a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
#[clap(rename_all = "camelCase")]
pub enum LinkFault {
    /// The HMAC was made with another secret.
    WrongHmac,
    /// The account signature is about something else.
    WrongSignature,
    /// There is no `device-identity`.
    NoIdentity,
    /// `device-identity` is no protobuf.
    GarbledIdentity,
    /// No fault of the phone's: the connection breaks before the server has the client's answer.
    Unheard,
    /// No fault of the phone's: the account is a business in coexistence, hosted outside while this device is not.
    Hosted,
}

/// How quiet a connection becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Silence {
    /// Nothing is sent any more.
    Everything,
    /// What the client sends is not heard, so that nothing is answered; notifications and messages still come.
    Answers,
}

/// Something that happens once, on the open connections of a phone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "act", deny_unknown_fields)]
pub enum Live {
    /// The connection ends, as [`Ending`] says.
    End(Ending),
    /// A stream error, and the connection stays open.
    StreamError(Ending),
    /// The client is told where to have itself routed to the next time.
    Route,
    /// A frame whose content was damaged on its way.
    DamagedFrame,
    /// A frame that announces more than comes.
    HalfFrame,
    /// TCP reset.
    Reset,
    /// The connection stays open and becomes quiet until the client gives it up.
    Silent {
        /// How quiet.
        #[serde(default = "everything")]
        about: Silence,
    },
}

fn everything() -> Silence {
    Silence::Everything
}

#[derive(Default)]
struct Tables {
    phones: HashMap<u64, Rules>,
    newcomers: NewcomerRules,
}

/// All rules in force.
#[derive(Default)]
pub struct Faults(Mutex<Tables>);

impl Faults {
    /// The rules of a phone.
    #[must_use]
    pub fn rules(&self, phone: u64) -> Rules {
        lock(&self.0).phones.get(&phone).cloned().unwrap_or_default()
    }

    /// Replaces the rules of a phone.
    pub fn set_rules(&self, phone: u64, rules: Rules) {
        lock(&self.0).phones.insert(phone, rules);
    }

    /// The rules of those whose phone is not known.
    #[must_use]
    pub fn newcomers(&self) -> NewcomerRules {
        lock(&self.0).newcomers.clone()
    }

    /// Replaces them.
    pub fn set_newcomers(&self, rules: NewcomerRules) {
        lock(&self.0).newcomers = rules;
    }

    /// The refusal of this login; counts it.
    pub fn take_refusal(&self, phone: u64) -> Option<Node> {
        take(&mut lock(&self.0).phones.get_mut(&phone)?.refuse, |refuse| &mut refuse.times).map(|refuse| refuse.node())
    }

    /// The refusal of this registration; counts it.
    pub fn take_newcomer_refusal(&self) -> Option<Node> {
        take(&mut lock(&self.0).newcomers.refuse, |refuse| &mut refuse.times).map(|refuse| refuse.node())
    }

    /// The refusal of this step of a pairing by code; counts it.
    pub fn take_code_refusal(&self, iq: &NodeRef<'_>) -> Option<Node> {
        let rule = &mut lock(&self.0).newcomers.refuse_code;
        let answer = rule.as_ref()?.answer(iq)?;
        take(rule, |rule| &mut rule.times).map(|_| answer)
    }

    /// When and how this login ends; counts it.
    pub fn take_end(&self, phone: u64) -> Option<(Duration, Option<Node>)> {
        let end = take(&mut lock(&self.0).phones.get_mut(&phone)?.end_login, |end| &mut end.times)?;
        Some((Duration::from_millis(end.after_ms), end.with.node()))
    }

    /// What becomes of a message of this phone's devices; counts it.
    pub fn take_ack_rule(&self, phone: u64) -> Option<AckRule> {
        take(&mut lock(&self.0).phones.get_mut(&phone)?.acks, |rule| &mut rule.times)
    }

    /// Whether the phone asks for this message again; counts it.
    pub fn take_retry(&self, phone: u64) -> bool {
        let mut tables = lock(&self.0);
        let rule = tables.phones.get_mut(&phone).map(|rules| &mut rules.retry);
        rule.is_some_and(|rule| take(rule, |rule| &mut rule.times).is_some())
    }

    /// What happens to this handshake; counts it.
    pub fn take_hello_fault(&self) -> Option<HelloFault> {
        let rules = &mut lock(&self.0).newcomers;
        let fault = rules.hello?;
        spend(&mut rules.hello_times)?;
        Some(fault)
    }

    /// Whether this IQ is never answered.
    #[must_use]
    pub fn ignores(&self, phone: u64, iq: &NodeRef<'_>) -> bool {
        lock(&self.0).phones.get(&phone).is_some_and(|rules| rules.unanswered.iter().any(|kind| kind.is(iq)))
    }

    /// The code with which this IQ is refused.
    #[must_use]
    pub fn refuses(&self, phone: u64, iq: &NodeRef<'_>) -> Option<u16> {
        let mut kept = lock(&self.0);
        let rules = &mut kept.phones.get_mut(&phone)?.refused;
        rules.iter_mut().find_map(|rule| {
            if !rule.iq.is(iq) {
                return None;
            }
            spend(&mut rule.times)?;
            Some(rule.code)
        })
    }
}

/// The rule, while its times are not used up.
fn take<T: Clone>(rule: &mut Option<T>, times: impl Fn(&mut T) -> &mut Option<u32>) -> Option<T> {
    let rule = rule.as_mut()?;
    spend(times(rule))?;
    Some(rule.clone())
}

/// Counts one time; nothing, when there is none left.
fn spend(times: &mut Option<u32>) -> Option<()> {
    if let Some(times) = times {
        *times = times.checked_sub(1)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_with_times_is_used_up_and_one_without_is_not() {
        let faults = Faults::default();
        assert!(faults.take_refusal(1).is_none());
        let refuse = Refuse { reason: 503, code: None, expire: None, times: Some(2) };
        faults.set_rules(1, Rules { refuse: Some(refuse.clone()), ..Default::default() });
        let refused: Vec<bool> = (0..4).map(|_| faults.take_refusal(1).is_some()).collect();
        assert_eq!(refused, [true, true, false, false]);
        faults.set_rules(1, Rules { refuse: Some(Refuse { times: None, ..refuse }), ..Default::default() });
        assert!((0..4).all(|_| faults.take_refusal(1).is_some()));
    }

    #[test]
    fn endings_are_written_as_the_server_does() {
        let ending = |text: &str| serde_json::from_str::<Ending>(text).unwrap().node().map(|node| format!("{node:?}"));
        assert_eq!(ending("{}"), None);
        assert!(ending(r#"{"failure":401}"#).unwrap().contains("failure"));
        let conflict = ending(r#"{"code":401,"conflict":"device_removed"}"#).unwrap();
        assert!(conflict.contains("401") && conflict.contains("device_removed"), "{conflict}");
    }

    #[test]
    fn acts_are_read_from_json_and_unknown_fields_are_refused() {
        let act = |text: &str| serde_json::from_str::<Live>(text);
        assert_eq!(act(r#"{"act":"reset"}"#).unwrap(), Live::Reset);
        let quiet = act(r#"{"act":"silent","about":"answers"}"#).unwrap();
        assert_eq!(quiet, Live::Silent { about: Silence::Answers });
        let ending = Ending { code: Some(503), ..Default::default() };
        assert_eq!(act(r#"{"act":"end","code":503}"#).unwrap(), Live::End(ending));
        assert!(act(r#"{"act":"end","cod":503}"#).is_err());
    }
}
