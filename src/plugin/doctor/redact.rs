//! What is taken out before anything is written: codes, tokens, keys, phone numbers, names of people. Rather too much than too
//! little: whoever reads the file asks when something is missing.

use std::collections::BTreeMap;

use serde_json::Value;

const REMOVED: &str = "(removed)";
/// A run of letters and digits as long as this, with both in it, may be a key.
const OPAQUE: usize = 24;
/// So many digits may be a phone number: the shortest have seven, with a plus.
const DIGITS: usize = 10;
const DIGITS_AFTER_PLUS: usize = 7;

/// Takes out what is secret, and calls the same person the same thing everywhere.
#[derive(Debug, Default)]
pub struct Redactor {
    /// What people and their instances are called, and what stands for it; the longest first when they are replaced.
    aliases: BTreeMap<String, String>,
}

impl Redactor {
    /// Knows the names of the people in these instances and owners.
    pub fn of(instances: &[Value], owners: &[Value]) -> Self {
        let mut own = Self::default();
        for owner in owners.iter().chain(instances) {
            let person = own.alias("person", &owner["spec"]["owner"]);
            // The object's name is made from the person's.
            let is_owner = owner["kind"] == "WhatsAppOwner";
            if let (true, Some(person), Some(name)) = (is_owner, person, owner["metadata"]["name"].as_str()) {
                own.aliases.entry(name.to_owned()).or_insert(person);
            }
        }
        for instance in instances {
            // One that could be an object's name as well is a word like any other.
            let as_written = |name: &&Value| name.as_str().is_some_and(|name| !name.chars().all(is_of_a_name));
            for (kind, name) in
                [("display-name", &instance["spec"]["name"]), ("push-name", &instance["status"]["pushName"])]
            {
                if let Some(name) = Some(name).filter(as_written) {
                    own.alias(kind, name);
                }
            }
        }
        own
    }

    fn alias(&mut self, kind: &str, name: &Value) -> Option<String> {
        // What is shorter would be replaced in the middle of words.
        let name = name.as_str().filter(|name| name.chars().count() >= 4)?;
        let number = self.aliases.values().filter(|alias| alias.starts_with(kind)).count() + 1;
        Some(self.aliases.entry(name.to_owned()).or_insert_with(|| format!("{kind}-{number}")).clone())
    }

    /// A text without what is secret.
    pub fn text(&self, text: &str) -> String {
        let mut names: Vec<(&String, &String)> = self.aliases.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let known = names.into_iter().fold(text.to_owned(), |text, (name, alias)| text.replace(name.as_str(), alias));
        words(&known)
    }

    /// An object without what is secret, and without what only fills the page.
    pub fn object(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
        }
        self.strip(&mut object);
        if object["kind"] == "WhatsAppInstance" && object["spec"]["name"].is_string() {
            object["spec"]["name"] = REMOVED.into();
        }
        object
    }

    fn strip(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields.iter_mut() {
                    match key.as_str() {
                        // Whatever it is in; of a code only when it ends is told.
                        "code" | "phoneNumber" | "pushName" | "caBundle" | "displayName" | "renamingTo"
                            if value.is_string() =>
                        {
                            *value = REMOVED.into();
                        }
                        // Values may be anything; names say which there are.
                        "env" | "data" | "stringData" => *value = REMOVED.into(),
                        // Long, and nobody's.
                        "uid" | "image" | "imageID" | "containerID" => {}
                        _ => self.strip(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.strip(item)),
            Value::String(text) => *text = self.text(text),
            _ => {}
        }
    }
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.')
}

/// Replaces what looks like a key, an address of a person or a phone number.
fn words(text: &str) -> String {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '@' | '.' | '-');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(part_of_word) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !part_of_word(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        out.push_str(before);
        out.push_str(&one(word));
        rest = after;
    }
    out + rest
}

fn one(word: &str) -> String {
    let (name, host) = word.split_once('@').unwrap_or((word, ""));
    if host.contains('.') && !name.is_empty() {
        return REMOVED.to_owned();
    }
    // Names of objects have dashes and dots, addresses slashes: their parts are looked at one by one.
    let mut out = String::new();
    let mut part = String::new();
    for c in word.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() || matches!(c, '+' | '=' | '_') {
            part.push(c);
            continue;
        }
        out.push_str(if is_secret(&part) { REMOVED } else { &part });
        part.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

fn is_secret(part: &str) -> bool {
    let digits = part.trim_start_matches('+');
    if !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()) {
        return digits.len() >= if part.starts_with('+') { DIGITS_AFTER_PLUS } else { DIGITS };
    }
    let has = |which: fn(&char) -> bool| part.chars().any(|c| which(&c));
    part.len() >= OPAQUE && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_looks_secret_goes_and_what_is_needed_stays() {
        for gone in [
            "+15550001111",
            "15550001111@s.whatsapp.net",
            "alice@example.com",
            "2@AbCdEfGh1234567890AbCdEfGh,x9y8z7w6v5u4t3s2r1q0AbCdEf",
            "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMyJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0123.c2lnbmF0dXJlc2lnbmF0dXJl0",
            "token-0123456789abcdef0123456789abcdef",
        ] {
            let text = words(&format!("it said {gone}, then ended"));
            for piece in gone.split(['@', ',', '.', '-']).filter(|piece| piece.len() >= 10) {
                assert!(!text.contains(piece), "{gone}: {text}");
            }
            assert!(text.starts_with("it said ") && text.ends_with(", then ended"), "{text}");
        }
        for stays in [
            "2026-11-29T00:09:12.123456Z",
            "whatsapp-operator-gateway-7c9f8d6b5-x2x4z",
            "https://whatsapp-operator-bridge-0.whatsapp-operator-bridge.whatsapp-system.svc:8443/v1/sessions",
            "6f1c2c4e-0d6b-4b59-9a55-3c8d7b8f1a22",
            "whatsapp_operator_gateway_requests_total{answer=\"ok\"} 12345",
            "controller_runtime_reconcile_time_seconds_bucket",
        ] {
            assert_eq!(words(stays), stays);
        }
    }

    #[test]
    fn a_person_is_the_same_person_everywhere_and_codes_are_gone() {
        let instance = json!({
            "kind": "WhatsAppInstance", "metadata": {"name": "shop", "managedFields": [1]},
            "spec": {"owner": "alice", "name": "Flowers and more", "pairing": {"phoneNumber": "+15550001"}},
            "status": {"qr": {"code": "2@abc", "attempt": 1}, "pairingCode": {"code": "ABCD-EFGH"}, "phoneNumber": "+15550001", "pushName": "Al"},
        });
        let owner = json!({"kind": "WhatsAppOwner", "metadata": {"name": "alice"}, "spec": {"owner": "alice"}});
        let redactor = Redactor::of(std::slice::from_ref(&instance), std::slice::from_ref(&owner));
        let shown = redactor.object(&instance).to_string();
        for gone in ["alice", "Flowers", "5550001", "2@abc", "ABCD", "managedFields", "\"Al\""] {
            assert!(!shown.contains(gone), "{gone}: {shown}");
        }
        assert!(shown.contains("\"attempt\":1") && shown.contains("\"owner\":\"person-1\""), "{shown}");
        assert_eq!(redactor.text("owner \"alice\" has 10 of 10"), "owner \"person-1\" has 10 of 10");
        assert_eq!(redactor.object(&owner)["metadata"]["name"], "person-1");
    }
}
