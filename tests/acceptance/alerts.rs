//! The chart's alerts, evaluated by Prometheus' own promtool: each fires with what it is for, and not with what is well.

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};

use super::chart::{ROOT, of, with};

/// Made by `tests/chart/promtool`.
fn promtool() -> PathBuf {
    let found = Command::new(format!("{ROOT}/tests/chart/promtool")).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8_lossy(&found.stdout).trim())
}

/// Whether `alert` fires after 100 minutes of these series, as promtool's test: it fails when that is not so.
fn case(alert: &str, series: &Value, fires: bool) -> Value {
    let samples: Vec<Value> = series.as_array().unwrap().iter().map(sample).collect();
    let expected = if fires { json!([{"labels": "{}", "value": 1}]) } else { json!([]) };
    json!({
        "interval": "1m",
        "input_series": samples,
        "promql_expr_test": [{
            "expr": format!("count(ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}) > bool 0"),
            "eval_time": "100m",
            "exp_samples": expected,
        }],
    })
}

/// `name{labels} values` as promtool wants it.
fn sample(line: &Value) -> Value {
    let line = line.as_str().unwrap();
    let (series, values) = line.split_once("} ").unwrap_or_else(|| panic!("no series: {line}"));
    json!({"series": format!("{series}}}"), "values": values})
}

#[test]
fn each_alert_fires_with_what_it_is_for_and_not_with_what_is_well() {
    let objects = with(&["metrics.prometheusRule.enabled=true"]).unwrap();
    let rules = &of(&objects, "PrometheusRule", "whatsapp-operator")["spec"];
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect()
    };
    let text = std::fs::read_to_string(format!("{ROOT}/tests/chart/alerts.yaml")).unwrap();
    let cases: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(
        names(&cases),
        names(&rules["groups"][0]["rules"]),
        "tests/chart/alerts.yaml has each alert once, in order"
    );

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yaml"), rules.to_string()).unwrap();
    let tests: Vec<Value> = cases.as_array().unwrap().iter().flat_map(cases_of).collect();
    let file = dir.path().join("tests.yaml");
    let suite = |tests: &[Value]| json!({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests});
    std::fs::write(&file, suite(&tests).to_string()).unwrap();
    let run = || Command::new(promtool()).args(["test", "rules"]).arg(&file).output().unwrap();
    let output = run();
    let said = |output: &std::process::Output| {
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert!(output.status.success(), "{}", said(&output));

    // The same with what is well where it should fire: promtool does tell the difference.
    let first = &cases[0];
    let wrong = case(first["alert"].as_str().unwrap(), &first["quiet"], true);
    std::fs::write(&file, suite(&[wrong]).to_string()).unwrap();
    assert!(!run().status.success(), "{}", said(&output));
}

/// It fires, and it is quiet; there may be further cases in which it fires.
fn cases_of(one: &Value) -> Vec<Value> {
    let alert = one["alert"].as_str().unwrap();
    let further = one["fires_also"].as_array().into_iter().flatten();
    let fires = std::iter::once(&one["fires"]).chain(further);
    fires.map(|series| case(alert, series, true)).chain([case(alert, &one["quiet"], false)]).collect()
}
