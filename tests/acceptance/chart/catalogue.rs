//! What is said of the chart elsewhere.

use super::*;

/// What a catalogue of charts shows: the definitions that there are, and examples that are let in.
#[test]
fn what_a_catalogue_shows_is_true() {
    let read = |path: &str| -> Value {
        serde_saphyr::from_str(&std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap()).unwrap()
    };
    let annotations = read("charts/whatsapp-operator/Chart.yaml")["annotations"].clone();
    let list = |name: &str| -> Vec<Value> {
        let text = annotations[format!("artifacthub.io/{name}")].as_str().unwrap_or_else(|| panic!("no {name}"));
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let shown: BTreeSet<String> =
        list("crds").iter().map(|one| format!("{} {} {}", one["name"], one["kind"], one["version"])).collect();
    let files = std::fs::read_dir(format!("{ROOT}/crds")).unwrap().map(|file| file.unwrap().file_name());
    let there: BTreeSet<String> = files
        .map(|file| {
            let spec = read(&format!("crds/{}", file.to_string_lossy()));
            let (name, spec) = (&spec["metadata"]["name"], &spec["spec"]);
            format!("{name} {} {}", spec["names"]["kind"], spec["versions"][0]["name"])
        })
        .collect();
    assert_eq!(shown, there);
    for example in list("crdsExamples") {
        match example["kind"].as_str().unwrap() {
            "WhatsAppInstance" => {
                let _: whatsapp_operator::api::WhatsAppInstance = serde_json::from_value(example).unwrap();
            }
            "WhatsAppOwner" => {
                let owner: whatsapp_operator::api::WhatsAppOwner = serde_json::from_value(example).unwrap();
                let name = whatsapp_operator::rules::owner::object_name(&owner.spec.owner);
                assert_eq!(owner.metadata.name, Some(name));
            }
            other => panic!("an example of {other}"),
        }
    }
    for change in list("changes") {
        let kinds = ["added", "changed", "deprecated", "removed", "fixed", "security"];
        assert!(kinds.contains(&change["kind"].as_str().unwrap()) && change["description"].is_string(), "{change}");
    }
    for (name, allowed) in [
        ("category", &["integration-delivery", "networking", "monitoring-logging", "security", "skip-prediction"][..]),
        (
            "operatorCapabilities",
            &["Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"],
        ),
        ("license", &["Apache-2.0"]),
        ("operator", &["true"]),
    ] {
        let value = annotations[format!("artifacthub.io/{name}")].as_str().unwrap();
        assert!(allowed.contains(&value), "{name}: {value}");
    }
}

/// The docs say which versions the tests run with, and no more.
#[test]
fn the_versions_that_are_tried_are_those_in_the_docs() {
    let version = |path: &str, module: &str| -> String {
        let text = std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap();
        let line =
            text.lines().map(|line| line.trim().trim_start_matches("require ")).find(|line| line.starts_with(module));
        let version = line.unwrap_or_else(|| panic!("{path}: {module}")).rsplit(" v").next().unwrap();
        version.rsplit_once('.').unwrap().0.to_owned()
    };
    let docs = std::fs::read_to_string(format!("{ROOT}/docs/install.md")).unwrap();
    let chart = std::fs::read_to_string(chart() + "/Chart.yaml").unwrap();
    for tried in [
        format!("Kubernetes {}", version("tests/control-plane/go.mod", "k8s.io/kubernetes ")),
        format!("Helm {}", version("tests/chart/go.mod", "helm.sh/helm/v4 ")),
    ] {
        assert!(docs.contains(&tried) && chart.contains(&tried), "docs/install.md and Chart.yaml do not say {tried}");
    }
}
