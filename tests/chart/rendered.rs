//! What the chart renders, with every file of values in `ci/`.

use std::process::Stdio;

use clap::Parser;
use cmk_operator::runtime::arguments::{Arguments, Command};
use serde_json::{Value, json};

use crate::{
    helm::{CHART, Helm, NAMESPACE, objects, only, operator_arguments, tried_values, values_file},
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
        assert_eq!(run.kms.kms_tls_cert.is_some(), ["given-tls", "cert-manager"].contains(&&*name), "{name}");
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

/// The Service, what access keys say, and the names in the certificate belong together.
#[test]
fn the_endpoint_has_the_names_that_clients_are_told() {
    let names = |arguments: &[&str]| {
        let rendered = objects(&Helm::Four.template(arguments));
        let arguments = operator_arguments(only(&rendered, "Deployment"));
        let value = |flag: &str| {
            let found = arguments.iter().find_map(|argument| argument.strip_prefix(&format!("{flag}=")));
            found.unwrap_or_default().to_owned()
        };
        let services = rendered.iter().filter(|object| object["kind"] == "Service");
        let services = services.map(|service| service["metadata"]["name"].as_str().unwrap().to_owned());
        (value("--kms-url"), value("--kms-tls-host"), services.collect::<Vec<_>>())
    };
    let (url, hosts, services) = names(&[]);
    assert_eq!(url, "https://cmk-operator-kms.cmk-system.svc");
    let expected = "cmk-operator-kms,cmk-operator-kms.cmk-system,cmk-operator-kms.cmk-system.svc,\
                    cmk-operator-kms.cmk-system.svc.cluster.local";
    assert_eq!(hosts, expected);
    assert_eq!(services, ["cmk-operator-kms", "cmk-operator-metrics"]);

    let (url, hosts, services) = names(&["--set", "fullnameOverride=keys,endpoint.service.port=8443"]);
    assert_eq!(url, "https://keys-kms.cmk-system.svc:8443");
    assert!(hosts.contains("keys-kms.cmk-system.svc.cluster.local"), "{hosts}");
    assert_eq!(services, ["keys-kms", "keys-metrics"]);

    let rendered = objects(&Helm::Four.template(&["--values", &values_file("cert-manager")]));
    let certificate = &only(&rendered, "Certificate")["spec"];
    let listed: Vec<_> = expected.split(',').chain(["kms.example.com"]).collect();
    assert_eq!(certificate["dnsNames"], json!(listed));
    let volumes = &only(&rendered, "Deployment")["spec"]["template"]["spec"]["volumes"];
    assert_eq!(volumes[0]["secret"]["secretName"], certificate["secretName"]);
}

/// With given namespaces no right over their Secrets is the cluster's, and the same rules are in each of them.
#[test]
fn given_namespaces_have_roles_in_place_of_the_cluster_role() {
    let default = objects(&Helm::Four.template(&[]));
    let limited = objects(&Helm::Four.template(&["--values", &values_file("watch-namespaces")]));
    let rules = |objects: &[Value], kind: &str, name: &str, namespace: Option<&str>| {
        let namespace = namespace.map_or(Value::Null, Value::from);
        let mut found = objects.iter().filter(|object| {
            object["kind"] == kind && object["metadata"]["name"] == name && object["metadata"]["namespace"] == namespace
        });
        found.next().unwrap_or_else(|| panic!("no {kind} {name}"))["rules"].as_array().unwrap().clone()
    };
    let of_the_cluster = rules(&limited, "ClusterRole", "cmk-operator", None);
    let resources: Vec<_> = of_the_cluster.iter().map(|rule| rule["resources"][0].as_str().unwrap()).collect();
    let expected =
        ["clusterkeystores", "clusterkeystores/status", "namespaces", "subjectaccessreviews", "tokenreviews"];
    assert_eq!(resources, expected);
    let shop = rules(&limited, "Role", "cmk-operator-watched", Some("shop"));
    assert_eq!(shop, rules(&limited, "Role", "cmk-operator-watched", Some("bank")));
    let all = rules(&default, "ClusterRole", "cmk-operator", None);
    assert_eq!(all, [of_the_cluster, shop].concat());
    let events = rules(&limited, "Role", "cmk-operator-events", Some("default"));
    assert_eq!(
        events,
        [json!({"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]})]
    );
}

#[test]
fn a_single_replica_has_no_budget() {
    let budgets = |arguments: &[&str]| {
        let rendered = objects(&Helm::Four.template(arguments));
        rendered.iter().filter(|object| object["kind"] == "PodDisruptionBudget").count()
    };
    assert_eq!((budgets(&[]), budgets(&["--set", "replicaCount=1"])), (1, 0));
}
