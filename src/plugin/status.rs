//! `status`: one instance, for reading.

use jiff::Timestamp;

use super::{
    args::{ObjectOutput, StatusArgs},
    client::{Cluster, read},
    error::PluginError,
    output::{self, age, printable, table},
    screen::command,
};
use crate::api::{DesiredState, Phase, WhatsAppInstance, WhatsAppInstanceStatus, conditions};

/// Prints one instance.
///
/// # Errors
/// See [`PluginError`].
pub async fn run(cluster: &Cluster, args: &StatusArgs) -> Result<(), PluginError> {
    let mut object = cluster.get(&args.name).await?;
    object.metadata.managed_fields = None;
    let text = match args.output {
        Some(ObjectOutput::Json) => output::json(&object)?,
        Some(ObjectOutput::Yaml) => output::yaml(&object)?,
        None => describe(&read(object)?, Timestamp::now()),
    };
    Ok(output::text(&text)?)
}

/// The summary. It shows no code: those belong on a screen only when somebody asked for them.
fn describe(instance: &WhatsAppInstance, now: Timestamp) -> String {
    let nothing = WhatsAppInstanceStatus::default();
    let status = instance.status.as_ref().unwrap_or(&nothing);
    let mut text = String::new();
    let mut fact = |label: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("{:<15}{}\n", format!("{label}:"), printable(&value)));
        }
    };
    fact("Instance", instance.metadata.name.clone());
    fact("Namespace", instance.metadata.namespace.clone());
    fact("Name", Some(instance.spec.name.clone()));
    fact("Owner", instance.spec.owner.clone());
    fact("Primary", Some(if status.primary { "yes" } else { "no" }.to_owned()));
    fact("Desired state", Some(format!("{:?}", instance.spec.desired_state)));
    fact("Phase", Some(status.phase.map_or_else(|| "(not looked at yet)".to_owned(), |phase| phase.to_string())));
    fact("Phone", status.phone_number.as_ref().map(|phone| phone.reveal().to_owned()));
    fact("Push name", status.push_name.as_ref().map(|name| name.reveal().to_owned()));
    fact("Connected", status.connected_at.as_ref().map(|at| format!("{} ago", age(at.0, now))));
    fact("Last active", status.last_active_at.as_ref().map(|at| format!("{} ago", age(at.0, now))));
    fact("Bridge", status.bridge.as_ref().map(|bridge| format!("{}, shard {}", bridge.name, bridge.shard)));
    fact("Session", status.session_id.clone());
    fact(
        "Restriction",
        status.restriction.as_ref().map(|restriction| {
            let until = restriction.expires_at.as_ref().map(|at| format!(", until {}", at.0));
            format!("{}{}", restriction.kind, until.unwrap_or_default())
        }),
    );
    fact(
        "Last ended",
        status.last_disconnect.as_ref().map(|last| format!("{}, {} ago", last.reason, age(last.at.0, now))),
    );
    if !status.conditions.is_empty() {
        text.push_str(&format!("\nConditions:\n{}", conditions_table(status, now)));
    }
    if let Some(hint) = hint(instance, status) {
        text.push_str(&format!("\n{hint}\n"));
    }
    text
}

fn conditions_table(status: &WhatsAppInstanceStatus, now: Timestamp) -> String {
    let place = |type_: &str| conditions::ALL.iter().position(|known| *known == type_).unwrap_or(conditions::ALL.len());
    let mut sorted: Vec<_> = status.conditions.iter().collect();
    sorted.sort_by_key(|condition| place(&condition.type_));
    let rows: Vec<Vec<String>> = sorted
        .into_iter()
        .map(|condition| {
            let since = age(condition.last_transition_time.0, now);
            vec![
                condition.type_.clone(),
                condition.status.clone(),
                condition.reason.clone(),
                since,
                condition.message.clone(),
            ]
        })
        .collect();
    table(&["TYPE", "STATUS", "REASON", "FOR", "MESSAGE"], &rows).lines().map(|line| format!("  {line}\n")).collect()
}

fn hint(instance: &WhatsAppInstance, status: &WhatsAppInstanceStatus) -> Option<String> {
    let next = match status.phase? {
        Phase::AwaitingPairing => format!("Show the code to scan: {}", command("qr", instance)),
        Phase::PairingExpired | Phase::LoggedOut => format!("Pair it: {} --refresh", command("qr", instance)),
        Phase::Disconnected if instance.spec.desired_state == DesiredState::Connected => {
            format!("Start it again: {}", command("connect", instance))
        }
        Phase::Unlinked => format!("Link a device: {}", command("connect", instance)),
        Phase::Disconnected => format!("Bring it online: {}", command("connect", instance)),
        _ => return None,
    };
    Some(next)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::describe;
    use crate::plugin::fixtures::instance;

    fn described(status: Value) -> String {
        describe(&instance(json!({"owner": "alice@example.com"}), status), "2026-01-01T01:00:00Z".parse().unwrap())
    }

    #[test]
    fn conditions_are_listed_in_the_order_they_are_established() {
        let condition = |type_: &str, reason: &str| json!({"type": type_, "status": "True", "reason": reason, "message": "Fine.", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let text = described(json!({
            "phase": "Connected", "phoneNumber": "+15550001", "connectedAt": "2026-01-01T00:00:00Z",
            "conditions": [condition("Ready", "Connected"), condition("Custom", "Else"), condition("Accepted", "Accepted")],
        }));
        let words: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(words.contains(&"Phone:         +15550001") && words.contains(&"Connected:     60m ago"), "{text}");
        let at = |type_: &str| words.iter().position(|line| line.starts_with(type_)).unwrap();
        assert!(at("Accepted") < at("Ready") && at("Ready") < at("Custom"), "{text}");
        assert!(!text.contains("kubectl"), "nothing is left to do: {text}");
    }

    #[test]
    fn it_says_what_to_do_next_and_shows_no_code() {
        let qr = json!({"code": "2@secret", "expiresAt": "2026-01-01T00:00:20Z", "attempt": 1, "attempts": 6});
        let text = described(json!({"phase": "AwaitingPairing", "qr": qr}));
        assert!(text.contains("kubectl whatsapp qr shop") && !text.contains("secret"), "{text}");
        assert!(described(json!({"phase": "PairingExpired"})).contains("qr shop -n team --refresh"));
        assert!(described(json!({"phase": "Disconnected"})).contains("connect shop"));
        assert!(described(Value::Null).contains("(not looked at yet)"));
    }
}
