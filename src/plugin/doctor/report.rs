//! The two things that are shown: what is wrong, for the terminal, and everything that was seen, as one Markdown file.

use serde_json::Value;

use super::{
    checks::{Finding, Weight},
    redact::Redactor,
    seen::{Answer, Seen},
};
use crate::plugin::output::printable;

/// What is wrong, in words.
pub fn words(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = if finding.weight == Weight::Wrong { "wrong" } else { "note" };
        text.push_str(&format!("{mark}: {}\n", printable(&finding.what)));
        if !finding.advice.is_empty() {
            text.push_str(&format!("       {}\n", printable(&finding.advice)));
        }
    }
    text
}

/// The last line.
pub fn verdict(findings: &[Finding]) -> String {
    match findings.iter().filter(|finding| finding.weight == Weight::Wrong).count() {
        0 => "Nothing is wrong.".to_owned(),
        1 => "1 thing is wrong.".to_owned(),
        count => format!("{count} things are wrong."),
    }
}

/// Everything that was seen, without what is secret.
pub fn markdown(seen: &Seen, findings: &[Finding]) -> String {
    let listed = |answer: &Answer<Vec<Value>>| answer.clone().unwrap_or_default();
    let redactor = Redactor::of(&listed(&seen.instances), &listed(&seen.owners));
    let server = seen.server.as_deref().unwrap_or("unknown");
    let mut text = format!(
        "# WhatsApp operator: what was seen at {}\n\nPlugin {}, API server {server}. Written by `kubectl whatsapp doctor`; codes, tokens, phone numbers and names of people were taken out.\n\n## What is wrong\n\n",
        seen.at, seen.plugin
    );
    text.push_str(&fenced(&redactor.text(&(words(findings) + &verdict(findings)))));
    for (heading, objects) in [
        ("Deployments and StatefulSets", &seen.workloads),
        ("Pods", &seen.pods),
        ("WhatsAppBridges", &seen.bridges),
        ("WhatsAppOwners", &seen.owners),
        ("WhatsAppInstances", &seen.instances),
        ("Webhook configurations", &seen.webhooks),
        ("Events", &seen.events),
    ] {
        text.push_str(&format!("\n## {heading}\n\n"));
        match objects {
            Ok(objects) => {
                let lines: Vec<String> = objects.iter().map(|object| redactor.object(object).to_string()).collect();
                text.push_str(&fenced(&lines.join("\n")));
            }
            Err(why) => text.push_str(&format!("Not looked at: {why}\n")),
        }
    }
    text.push_str("\n## Rights on Secrets\n\n");
    for access in &seen.access {
        text.push_str(&format!("* {} reads {}: {:?}\n", access.account, access.secret, access.allowed));
    }
    for (heading, pages) in [("Health and metrics", &seen.pages), ("Logs", &seen.logs)] {
        text.push_str(&format!("\n## {heading}\n"));
        for (name, page) in pages {
            text.push_str(&format!("\n### {name}\n\n"));
            match page {
                Ok(page) => text.push_str(&fenced(&redactor.text(page))),
                Err(why) => text.push_str(&format!("Not looked at: {why}\n")),
            }
        }
    }
    text
}

/// A block that nothing in it can end.
fn fenced(text: &str) -> String {
    format!("~~~~text\n{}\n~~~~\n", text.trim_end().replace("~~~~", "~ ~ ~ ~"))
}
