//! The alerts and the dashboard: that alerts fire when they should (promtool), that everything they name is exported by the
//! operator, as Prometheus itself reads it, and that each alert has its page.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that fails says why")]

#[path = "../support/mod.rs"]
mod support;

mod exported;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use support::scripts::built;

const ALERTS: &str = "charts/cmk-operator/files/alerts.yaml";
const DASHBOARD: &str = "charts/cmk-operator/files/dashboard.json";

fn path(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// The directory with promtool and openmetrics, built if need be.
fn prometheus() -> PathBuf {
    built("tests/alerts/build")
}

fn promtool(arguments: &[&str]) {
    let output = Command::new(prometheus().join("promtool")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

/// The alerts as they are in the file.
fn alerts() -> Vec<Value> {
    let file: Value = serde_yaml_ng::from_str(&fs::read_to_string(path(ALERTS)).unwrap()).unwrap();
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn names(alerts: &[Value]) -> BTreeSet<String> {
    alerts.iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect()
}

/// Every query of the dashboard.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path(DASHBOARD)).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    let (alerts_file, tests) = (path(ALERTS), path("tests/alerts/alerts_test.yaml"));
    promtool(&["check", "rules", alerts_file.to_str().unwrap()]);
    promtool(&["test", "rules", tests.to_str().unwrap()]);

    let text = fs::read_to_string(tests).unwrap();
    let tests: Value = serde_yaml_ng::from_str(&text).unwrap();
    let checks = tests["tests"].as_array().unwrap().iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap());
    let fired = checks.filter(|check| check["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty()));
    let tested: BTreeSet<_> = fired.map(|check| check["alertname"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names(&alerts()), tested, "every alert is seen to fire in tests/alerts/alerts_test.yaml");
}

#[test]
fn every_alert_says_what_to_do_and_has_its_page() {
    let alerts = alerts();
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        let says = |what: &str| alert["annotations"][what].as_str().unwrap_or_default();
        let severity = alert["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("warning" | "critical")), "{name}: {severity:?}");
        assert!(!says("summary").is_empty() && says("description").len() > 80, "{name}");
        let page = format!("docs/runbooks/{name}.md");
        assert!(says("runbook_url").ends_with(&format!("/blob/main/{page}")), "{name}");
        let text = fs::read_to_string(path(&page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        for part in [&format!("# {name}"), "**Meaning.**", "**Impact.**", "## Diagnosis", "## Mitigation"] {
            assert!(text.contains(part), "{page} has no {part}");
        }
    }
    let pages = fs::read_dir(path("docs/runbooks")).unwrap().map(|entry| entry.unwrap().path());
    let pages: BTreeSet<_> = pages.map(|page| page.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    // Other runbooks are not named as alerts are.
    let pages: BTreeSet<_> = pages.into_iter().filter(|page| page.starts_with("Cmk")).collect();
    assert_eq!(pages, names(&alerts), "a page for each alert, and none beside them");
    let list = fs::read_to_string(path("docs/runbooks/README.md")).unwrap();
    let missing: Vec<_> = names(&alerts).into_iter().filter(|name| !list.contains(&format!("[{name}]"))).collect();
    assert!(missing.is_empty(), "docs/runbooks/README.md lacks {missing:?}");
}

#[test]
fn every_query_of_the_dashboard_is_one() {
    let queries = queries();
    assert!(queries.len() > 30, "{queries:?}");
    let rules: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(number, query)| {
            let query = query.replace("$__rate_interval", "5m");
            assert!(!query.contains('$'), "a variable that this test does not know: {query}");
            serde_json::json!({"record": format!("query:{number}"), "expr": query})
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yaml");
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(&file, serde_json::to_vec(&rules).unwrap()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}
