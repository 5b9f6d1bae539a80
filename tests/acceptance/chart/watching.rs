//! Alerts and dashboard ask for what there is.

use super::*;

/// Alerts and dashboard ask only for metrics that the programs have.
#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/files/monitoring/{path}", chart())).unwrap();
    let mut source = String::new();
    for file in [
        "controller/metrics/mod.rs",
        "controller/metrics/owner_counts.rs",
        "controller/metrics/waits.rs",
        "admission/metrics.rs",
        "gateway/metrics.rs",
        "bridge/metrics.rs",
    ] {
        source += &std::fs::read_to_string(format!("{ROOT}/src/{file}")).unwrap();
    }
    let text = read("alerts.yaml") + &read("dashboard.json");
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    let asked: BTreeSet<&str> = text
        .split(|c| !word(c))
        .filter(|word| word.starts_with("whatsapp_") || word.starts_with("controller_runtime_"))
        .collect();
    assert!(asked.len() > 10, "{asked:?}");
    for metric in asked {
        let base = ["_total", "_bucket"].iter().fold(metric, |metric, end| metric.strip_suffix(end).unwrap_or(metric));
        let registered = |name: &str| source.contains(&format!("\"{name}\""));
        // Registries of rooms put their prefix before the name.
        let parts: Vec<usize> = base.match_indices('_').map(|(at, _)| at).collect();
        let known = registered(base) || parts.iter().any(|at| registered(&base[..*at]) && registered(&base[at + 1..]));
        assert!(known, "no program has the metric {metric}");
    }
    let runbook = std::fs::read_to_string(format!("{ROOT}/docs/operations.md")).unwrap();
    let alerts: Value = serde_saphyr::from_str(&read("alerts.yaml")).unwrap();
    for alert in alerts["rules"].as_array().unwrap() {
        let name = alert["alert"].as_str().unwrap();
        assert!(runbook.contains(&format!("### {name}\n")), "docs/operations.md has no section {name}");
    }
}

/// What an expression asks of labels of our metrics: metric, label, and each of the words.
fn asked_of_labels(text: &str) -> Vec<(String, String, String)> {
    let mut asked = Vec::new();
    for (at, _) in text.match_indices('{') {
        let name = |c: char| c.is_ascii_lowercase() || c == '_';
        let metric = text[..at].rsplit(|c| !name(c)).next().unwrap_or_default();
        let ours = ["whatsapp_", "controller_runtime_"].iter().any(|begin| metric.starts_with(begin));
        let Some(end) = text[at..].find('}').filter(|_| ours) else { continue };
        for matcher in text[at + 1..at + end].split(", ").filter(|matcher| !matcher.is_empty()) {
            let (label, words) = matcher.split_once('=').unwrap_or_else(|| panic!("{metric}: {matcher}"));
            for word in words.trim_start_matches('~').trim_matches('"').split('|') {
                asked.push((metric.to_owned(), label.trim_end_matches('!').to_owned(), word.to_owned()));
            }
        }
    }
    asked
}

/// A word that no program says makes an alert that is silent for ever.
#[test]
fn alerts_and_dashboard_ask_for_words_that_the_programs_say() {
    let read = |path: &str| std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap();
    let sources = |folder: &str| -> String {
        let files = std::fs::read_dir(format!("{ROOT}/{folder}")).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|file| file.extension().is_some_and(|end| end == "rs") && !file.ends_with("tests.rs"));
        // Without the tests at a file's end, which say other things too.
        let program = |text: String| text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
        files.map(|file| program(std::fs::read_to_string(file).unwrap())).collect()
    };
    let reviews = sources("src/admission") + &sources("src/rules") + &read("src/api/conditions.rs");
    let (controller, bridge) = (sources("src/controller/metrics"), read("src/bridge/metrics.rs"));
    let codes = read("docs/reference/errors.md");
    let quoted = |source: &str, word: &str| source.contains(&format!("\"{word}\""));
    let said = |metric: &str, label: &str, word: &str| match (metric, label) {
        ("whatsapp_instances", "phase") => serde_json::from_value::<whatsapp_operator::api::Phase>(json!(word)).is_ok(),
        ("whatsapp_bridge_sessions", "phase") => {
            serde_json::from_value::<whatsapp_operator::bridge_api::SessionPhase>(json!(word)).is_ok()
        }
        ("whatsapp_operator_admission_reviews_total", "answer") => quoted(&reviews, word),
        ("whatsapp_operator_gateway_requests_total", "answer") => {
            codes.contains(&format!("\n| `{word}` | ")) || word == "ok"
        }
        ("whatsapp_owners", "state") | ("whatsapp_instances_longest_wait_seconds", "waits_for") => {
            quoted(&controller, word)
        }
        ("whatsapp_bridge_messages_accepted_total", "repeated") => quoted(&bridge, word),
        (metric, "controller") if metric.starts_with("controller_runtime_") => quoted(&controller, word),
        _ => panic!("{metric}: which words does its label {label} have? Say it here"),
    };
    let files = "charts/whatsapp-operator/files/monitoring";
    let alerts: Value = serde_saphyr::from_str(&read(&format!("{files}/alerts.yaml"))).unwrap();
    let expressions = alerts["rules"].as_array().unwrap().iter().map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let dashboard = read(&format!("{files}/dashboard.json")).replace("\\\"", "\"");
    let asked: Vec<_> = expressions.chain([dashboard]).flat_map(|text| asked_of_labels(&text)).collect();
    assert!(asked.len() > 15, "{asked:?}");
    for (metric, label, word) in asked {
        assert!(said(&metric, &label, &word), "no program says {label}={word:?} of {metric}");
    }
    assert!(!said("whatsapp_operator_admission_reviews_total", "answer", "Timeout"), "no webhook answers that");
}

/// Metrics that other programs have too are asked for by what only this release's have.
#[test]
fn alerts_and_dashboard_select_this_release() {
    let values =
        |more: &[&'static str]| [&["fullnameOverride=wa", "metrics.prometheusRule.enabled=true"][..], more].concat();
    let objects = with(&values(&["bridge.shards=3", "metrics.dashboard.enabled=true"])).unwrap();
    let expression = |objects: &[Value], alert: &str| -> Option<String> {
        let rules = of(objects, "PrometheusRule", "wa")["spec"]["groups"][0]["rules"].as_array().unwrap();
        let rule = rules.iter().find(|rule| rule["alert"] == alert)?;
        Some(rule["expr"].as_str().unwrap().to_owned())
    };
    let leads = expression(&objects, "WhatsAppOperatorDown").unwrap();
    assert!(leads.contains("{name=\"wa\"}"), "{leads}");
    let shards = expression(&objects, "WhatsAppBridgeShardDown").unwrap();
    assert!(shards.contains(&format!("namespace=\"{NAMESPACE}\", pod=~\"wa-bridge-[0-9]+\"")), "{shards}");
    assert!(shards.ends_with("< 3"), "{shards}");
    let dashboard = of(&objects, "ConfigMap", "wa-dashboard")["data"]["whatsapp-operator.json"].as_str().unwrap();
    assert!(dashboard.contains("leader_election_master_status{name=\\\"wa\\\"}"), "the dashboard");
    for placeholder in ["@LEASE@", "@BRIDGE@", "@NAMESPACE@", "@SHARDS@"] {
        assert!(!objects.iter().any(|object| object.to_string().contains(placeholder)), "{placeholder} is left");
    }
    // Without the chart's bridge there is none to count.
    let without = with(&values(&["bridge.enabled=false"])).unwrap();
    assert_eq!(expression(&without, "WhatsAppBridgeShardDown"), None);
    assert!(expression(&without, "WhatsAppOperatorDown").is_some());
}
