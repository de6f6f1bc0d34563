//! Files that are made from others are what these say now. `make manifests` writes them.

use std::{fs, path::Path};

use cmk_operator::api::{crds, policies};
use serde_json::Value;

use crate::{
    helm::{Helm, NAMESPACE, objects},
    support::{ControlPlane, world::succeed},
    values::table,
};

/// A file of this checkout is this; or is made so, where that is asked for.
fn ships(path: &str, content: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("CMK_CHART_WRITE").is_some() {
        fs::write(file, content).unwrap();
        return;
    }
    let is = fs::read_to_string(file).unwrap_or_default();
    assert!(is == content, "{path} is stale: run `make manifests`, and look at what it changes");
}

/// What `cmk-operator policies` prints.
pub fn policies_for(options: &policies::PolicyOptions) -> String {
    let policies = policies::policies(options);
    let manifests: Vec<_> = policies.iter().flat_map(policies::Policy::manifests).collect();
    crds::to_yaml("policies", &manifests).unwrap()
}

/// Some templates with the default values, for those who use no Helm.
fn without_helm(templates: &[&str], heading: &str) -> String {
    let arguments = templates.iter().flat_map(|name| ["--show-only".to_owned(), format!("templates/{name}.yaml")]);
    let arguments: Vec<_> = arguments.collect();
    let rendered = Helm::Four.template(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let of_helm = ["# Source: ", "app.kubernetes.io/managed-by: Helm", "helm.sh/chart: "];
    let kept = |line: &&str| !line.is_empty() && !of_helm.iter().any(|start| line.trim_start().starts_with(start));
    let body: Vec<_> = rendered.lines().filter(kept).collect();
    format!("# Made from charts/cmk-operator by `make manifests`. Do not edit.\n#\n{heading}{}\n", body.join("\n"))
}

#[test]
fn the_chart_has_the_kinds_and_the_policies_of_the_code() {
    ships("charts/cmk-operator/files/crds.yaml", &crds::to_yaml("crds", &crds::crds()).unwrap());
    let options =
        policies::PolicyOptions { user: "OPERATOR_USER".to_owned(), namespace: "OPERATOR_NAMESPACE".to_owned() };
    ships("charts/cmk-operator/files/policies.yaml", &policies_for(&options));
}

#[test]
fn the_kustomize_base_is_what_the_chart_renders() {
    let rbac = "# What the operator may do, and roles for its users.\n";
    ships("deploy/rbac.yaml", &without_helm(&["serviceaccount", "rbac", "roles"], rbac));
    let workload = "# The operator itself: two replicas, their Services, and how many may be missing.\n";
    ships("deploy/workload.yaml", &without_helm(&["deployment", "service", "pdb"], workload));
    ships("deploy/policies.yaml", &policies_for(&policies::PolicyOptions::default()));
}

/// In one command, where nothing of ours is there yet.
#[tokio::test]
async fn the_kustomize_base_is_taken_by_the_api_server() {
    let control_plane = ControlPlane::start().await;
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    succeed(&mut control_plane.kubectl(["apply", "--server-side", "-k", base]));
    succeed(&mut control_plane.kubectl(["get", "deployment", "cmk-operator", "--namespace", NAMESPACE]));
    succeed(&mut control_plane.kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]));
    succeed(&mut control_plane.kubectl(["get", "customermasterkeys", "--all-namespaces"]));
}

#[test]
fn the_readme_has_every_value() {
    let readme = fs::read_to_string(Path::new(crate::helm::CHART).join("README.md")).unwrap();
    let (before, rest) = readme.split_once("<!-- values -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /values -->\n").unwrap();
    let expected = format!("{before}<!-- values -->\n{}<!-- /values -->\n{after}", table());
    ships("charts/cmk-operator/README.md", &expected);
}

/// What Helm is given is what the code says: nothing is lost on the way through the templates.
#[test]
fn kinds_and_policies_are_rendered_whole() {
    let mut expected: Vec<Value> = objects(&crds::to_yaml("crds", &crds::crds()).unwrap());
    let options =
        policies::PolicyOptions { user: "system:serviceaccount:keys:kms".to_owned(), namespace: "keys".to_owned() };
    expected.extend(objects(&policies_for(&options)));
    let set = ["--namespace", "keys", "--set", "serviceAccount.name=kms"];
    let rendered = objects(&Helm::Four.template(&set));
    for object in expected {
        let same =
            |other: &&Value| other["kind"] == object["kind"] && other["metadata"]["name"] == object["metadata"]["name"];
        let found = rendered.iter().find(same).unwrap_or_else(|| panic!("not rendered: {}", object["metadata"]));
        assert_eq!(found["spec"], object["spec"], "{}", object["metadata"]["name"]);
        assert_eq!(found["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        assert_eq!(found["metadata"]["labels"]["app.kubernetes.io/name"], "cmk-operator");
    }
}

#[test]
fn the_chart_is_of_the_version_of_the_operator() {
    let chart = fs::read_to_string(Path::new(crate::helm::CHART).join("Chart.yaml")).unwrap();
    let chart: Value = serde_yaml_ng::from_str(&chart).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}
