//! A message as the gateway tells it, in words: pure.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    error::PluginError,
    message_args::MessageOutput,
    output::{self, age, printable, table},
};

/// Characters of a text in a table.
const SHOWN: usize = 60;

fn word<'a>(message: &'a Value, field: &str) -> &'a str {
    message[field].as_str().unwrap_or_default()
}

/// `message/ID`, what `cancel` takes.
pub fn name(message: &Value) -> String {
    printable(&format!("message/{}", word(message, "id")))
}

/// What is said of a message that a linked device of the recipient has, and their phone does not have yet.
const ON_A_COMPANION: &str = "linked device";

/// Whether only a linked device of the recipient has it.
pub fn is_on_a_companion(message: &Value) -> bool {
    word(message, "status") == "sent" && message["companion_delivered_at"].is_string()
}

/// Where it stands: its status, and what it waits for or why it ended.
pub fn standing(message: &Value) -> String {
    let status = word(message, "status");
    let why = match (message["waits_for"].as_str(), message["cause"].as_str(), message["code"].as_i64()) {
        (Some(waits), _, _) => format!(", waits for {}", waits.to_lowercase()),
        (_, Some(cause), Some(code)) => format!(" ({cause}, WhatsApp's code {code})"),
        (_, Some(cause), None) => format!(" ({cause})"),
        _ if is_on_a_companion(message) => format!(" (delivered to a {ON_A_COMPANION} only)"),
        _ => String::new(),
    };
    printable(&format!("{status}{why}"))
}

/// Whether it waits no longer to be sent, and whether that is as it was wished.
///
/// # Errors
/// When it will not be sent.
pub fn is_sent(message: &Value) -> Result<bool, PluginError> {
    match word(message, "status") {
        "queued" => Ok(false),
        "failed" | "expired" | "cancelled" => {
            Err(PluginError::Ended(format!("{} will not be sent: {}", name(message), standing(message))))
        }
        _ => Ok(true),
    }
}

/// The message in the form that was asked for; none for a line.
///
/// # Errors
/// When it has no such form.
pub fn formatted(message: &Value, output: Option<MessageOutput>) -> Result<Option<String>, PluginError> {
    Ok(match output {
        None => None,
        Some(MessageOutput::Json) => Some(output::json(message)?),
        Some(MessageOutput::Yaml) => Some(output::yaml(message)?),
        Some(MessageOutput::Name) => Some(name(message) + "\n"),
    })
}

/// Messages as a table. What comes later, in `rows` alone, stands below it in the same columns.
pub fn rows(messages: &[Value], wide: bool, heading: bool, now: Timestamp) -> String {
    let mut headings = vec!["ID", "TO              ", "STATUS   ", "REASON         ", "AGE"];
    if wide {
        headings.push("TEXT");
    }
    let row = |message: &Value| {
        let since = message["accepted_at"].as_str().and_then(|at| at.parse().ok());
        let companion = is_on_a_companion(message).then_some(ON_A_COMPANION);
        let reason = message["waits_for"].as_str().or(message["cause"].as_str()).or(companion).unwrap_or_default();
        let mut cells = vec![
            word(message, "id").to_owned(),
            word(message, "recipient").to_owned(),
            word(message, "status").to_owned(),
            reason.to_owned(),
            since.map(|since| age(since, now)).unwrap_or_default(),
        ];
        if wide {
            let text = word(message, "message").replace('\n', " ");
            let more = if text.chars().count() > SHOWN { "…" } else { "" };
            cells.push(text.chars().take(SHOWN).collect::<String>() + more);
        }
        cells
    };
    let text = table(&headings, &messages.iter().map(row).collect::<Vec<_>>());
    if heading { text } else { text.split_once('\n').map_or(String::new(), |(_, rows)| rows.to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_a_message_stands_is_one_phrase() {
        for (message, phrase) in [
            (json!({"status": "queued", "waits_for": "Connection"}), "queued, waits for connection"),
            (json!({"status": "failed", "cause": "NotOnWhatsApp"}), "failed (NotOnWhatsApp)"),
            (
                json!({"status": "failed", "cause": "RefusedByServer", "code": 479}),
                "failed (RefusedByServer, WhatsApp's code 479)",
            ),
            (json!({"status": "sent", "waits_for": null}), "sent"),
            (
                json!({"status": "sent", "companion_delivered_at": "2026-01-01T00:00:00Z"}),
                "sent (delivered to a linked device only)",
            ),
            (json!({"status": "delivered", "companion_delivered_at": "2026-01-01T00:00:00Z"}), "delivered"),
        ] {
            assert_eq!(standing(&message), phrase);
        }
    }

    #[test]
    fn what_is_over_without_being_sent_is_an_error_with_its_cause() {
        assert!(!is_sent(&json!({"status": "queued"})).unwrap());
        for status in ["sent", "delivered", "read", "something new"] {
            assert!(is_sent(&json!({ "status": status })).unwrap(), "{status}");
        }
        let failed = json!({"id": "a.b", "status": "failed", "cause": "NotOnWhatsApp"});
        let error = is_sent(&failed).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.to_string(), "message/a.b will not be sent: failed (NotOnWhatsApp)");
    }

    #[test]
    fn rows_line_up_with_those_that_come_later() {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let message = |status: &str, text: &str| json!({"id": "s.1", "recipient": "+15550001", "status": status, "accepted_at": "2026-01-01T00:00:00Z", "message": text});
        let first = rows(&[message("queued", "x\u{1b}[2J\ny")], true, true, now);
        let later = rows(&[message("delivered", &"y".repeat(100))], true, false, now);
        let at = |line: &str| line.find("60m");
        assert_eq!(at(first.lines().nth(1).unwrap()), at(later.lines().next().unwrap()));
        assert!(first.starts_with("ID") && first.contains("x?[2J y") && later.contains('…'), "{first}{later}");
        assert!(!rows(&[message("queued", "secret")], false, true, now).contains("secret"));
    }
}
