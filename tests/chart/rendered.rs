//! What the chart renders, with every file of values in `ci/`.

use std::process::Stdio;

use clap::Parser;
use cmk_operator::{
    api::policies::PolicyOptions,
    runtime::arguments::{Arguments, Command},
};
use serde_json::{Value, json};

use crate::{
    helm::{CHART, Helm, NAMESPACE, objects, only, operator_arguments, tried_values},
    shipped::policies_for,
    support::{ControlPlane, scripts::script, world::install_crds, world::succeed},
};

/// A namespace in which Pod Security allows what is restricted only.
const RESTRICTED: &str = "restricted";

/// A control plane with the kinds of cert-manager and of the Prometheus operator, and the namespaces that the values name.
async fn control_plane() -> ControlPlane {
    let control_plane = ControlPlane::start_prepared(install_crds).await;
    for file in script("tests/chart/foreign-crds", &[]) {
        succeed(&mut control_plane.kubectl(["create", "-f", &file]));
    }
    for namespace in [NAMESPACE, RESTRICTED, "shop", "bank"] {
        succeed(&mut control_plane.kubectl(["create", "namespace", namespace]));
    }
    let label = "pod-security.kubernetes.io/enforce=restricted";
    succeed(&mut control_plane.kubectl(["label", "namespace", RESTRICTED, label]));
    for account in [crate::helm::RELEASE, "kms"] {
        succeed(&mut control_plane.kubectl(["create", "serviceaccount", account, "--namespace", RESTRICTED]));
    }
    control_plane
}

/// Has the API server check objects, without making them.
fn dry_run(control_plane: &ControlPlane, yaml: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let mut command = control_plane.kubectl(["apply", "--server-side", "--dry-run=server", "-f"]);
    let output = command.arg(file.path()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("Warning"), "{said}");
}

#[tokio::test]
async fn every_combination_is_taken_by_the_api_server() {
    let control_plane = control_plane().await;
    for (name, file) in tried_values() {
        for helm in Helm::ALL {
            succeed(helm.command().args(["lint", "--strict", CHART, "--namespace", NAMESPACE, "--values", &file]));
            let rendered = helm.template(&["--values", &file]);
            dry_run(&control_plane, &rendered);
            // As a Pod is refused where a Deployment is only warned about.
            let mut pod = only(&objects(&rendered), "Deployment")["spec"]["template"].clone();
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"]["name"] = json!(name);
            pod["metadata"]["namespace"] = json!(RESTRICTED);
            dry_run(&control_plane, &pod.to_string());
        }
    }
}

#[test]
fn both_helms_render_the_same() {
    for (name, file) in tried_values() {
        let [four, three] = Helm::ALL.map(|helm| {
            let mut objects = objects(&helm.template(&["--values", &file]));
            objects.sort_by_key(|object| format!("{} {}", object["kind"], object["metadata"]));
            objects
        });
        assert_eq!(four, three, "{name}");
    }
}

#[test]
fn the_operator_takes_the_arguments() {
    for (name, file) in tried_values() {
        let rendered = objects(&Helm::Four.template(&["--values", &file]));
        let arguments = operator_arguments(only(&rendered, "Deployment"));
        let parsed = Arguments::try_parse_from(["cmk-operator".to_owned()].iter().chain(&arguments));
        let Command::Run(run) = parsed.unwrap_or_else(|error| panic!("{name}: {error}")).command else {
            panic!("{name}: {arguments:?}");
        };
        assert_eq!(run.kms.kms_listen.is_some(), name != "no-endpoint", "{name}");
        assert_eq!(
            run.kms.kms_tls_cert.is_some(),
            ["given-tls", "cert-manager", "cert-manager-public"].contains(&&*name),
            "{name}"
        );
        assert_eq!(run.no_new_keys, name == "root-key-volume", "{name}");
        assert_eq!(run.watch_namespaces.is_empty(), !["watch-namespaces", "everything"].contains(&&*name), "{name}");
        // One replica as well: an upgrade starts the new pod before the old one ends.
        assert!(run.leader_election.leader_elect, "{name}");
        let delay = match name.as_str() {
            "single-replica" => 0,
            "everything" => 10,
            _ => 5,
        };
        assert_eq!(run.shutdown_delay.as_secs(), delay, "{name}");
    }
}

#[test]
fn a_single_replica_has_no_budget() {
    let budgets = |arguments: &[&str]| {
        let rendered = objects(&Helm::Four.template(arguments));
        rendered.iter().filter(|object| object["kind"] == "PodDisruptionBudget").count()
    };
    assert_eq!((budgets(&[]), budgets(&["--set", "replicaCount=1"])), (1, 0));
}

/// Where the policies are left to somebody, the command that is shown makes those that the chart would have: one without the
/// operator's name and namespace would have every status of it refused.
#[test]
fn the_notes_name_the_operator_that_the_policies_are_for() {
    let values = ["--namespace", "keys", "--set", "fullnameOverride=kms"];
    let mut helm = Helm::Four.command();
    helm.args(["install", "any", CHART, "--dry-run=client", "--set", "policies.install=false"]).args(values);
    let notes = succeed(&mut helm);
    let (_, command) = notes.split_once(" cmk-operator policies ").unwrap();
    let (command, _) = command.split_once(" \\\n       | kubectl apply --server-side -f -\n").unwrap();
    let line = format!("cmk-operator policies {command}");
    let Command::Policies(arguments) = Arguments::parse_from(line.split_whitespace()).command else { panic!("{line}") };

    let options = PolicyOptions { user: arguments.user.unwrap(), namespace: arguments.namespace.namespace };
    let rendered = objects(&Helm::Four.template(&values));
    for expected in objects(&policies_for(&options)) {
        let same = |other: &&Value| {
            other["kind"] == expected["kind"] && other["metadata"]["name"] == expected["metadata"]["name"]
        };
        assert_eq!(rendered.iter().find(same).unwrap()["spec"], expected["spec"], "{}", expected["metadata"]["name"]);
    }
}
