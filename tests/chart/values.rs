//! The values of the chart: each is documented, and a mistake in one is refused in a sentence that names it.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    helm::{CHART, Helm, NAMESPACE},
    support::world::succeed,
};

/// A certificate of an authority that everybody knows.
const PUBLIC: &str =
    "endpoint.tls.mode=CertManager,endpoint.tls.issuerRef.name=letsencrypt,endpoint.tls.privateCA=false";

#[test]
fn mistakes_are_refused_by_name() {
    // What is set, and what the refusal has to say.
    let table = [
        ("replicas=3", "replicas"),
        ("replicaCount=0", "replicaCount"),
        ("replicaCount=two", "replicaCount"),
        ("image.digest=abc", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.tags=1", "tags"),
        ("watchNamespaces=shop", "watchNamespaces"),
        ("watchNamespaces={Shop}", "watchNamespaces"),
        ("watchNamespaces={cmk-system}", "watchNamespaces has the operator's own namespace in it"),
        ("defaultKeyStore.accountId=123456", "accountId"),
        ("defaultKeyStore.region=Frankfurt", "region"),
        ("defaultKeyStore.onNamespaceRecreated=Ask", "onNamespaceRecreated"),
        ("defaultKeyStore.allowedNamespaces.from=Selector", "selector"),
        ("rootKey.files={../key}", "rootKey"),
        ("rootKey.files={}", "rootKey"),
        ("rootKey.existingSecret=a,rootKey.volume.emptyDir.medium=Memory", "rootKey.existingSecret and rootKey.volume"),
        ("clockSkewTolerance=5 minutes", "clockSkewTolerance"),
        ("concurrency=1000", "concurrency"),
        ("log.format=xml", "format"),
        ("tracing.endpoint=https://collector:4318", "endpoint"),
        ("endpoint.url=http://kms.example.com", "url"),
        ("endpoint.maxStaleness=300", "maxStaleness"),
        ("endpoint.maxStaleness=5s", "endpoint.maxStaleness has to be at least 10s"),
        ("endpoint.maxStaleness=0m9.5s200ms", "endpoint.maxStaleness has to be at least 10s"),
        ("endpoint.service.port=https", "port"),
        ("endpoint.tls.mode=selfmade", "mode"),
        ("endpoint.tls.mode=Secret", "endpoint.tls.secretName is needed"),
        ("endpoint.tls.mode=CertManager", "endpoint.tls.issuerRef.name is needed"),
        ("endpoint.tls.secretName=tls", "endpoint.tls.secretName is for endpoint.tls.mode: Secret"),
        ("endpoint.tls.issuerRef.name=ca", "endpoint.tls.issuerRef is for endpoint.tls.mode: CertManager"),
        ("endpoint.tls.dnsNames={https://kms}", "dnsNames"),
        ("endpoint.tls.mode=Secret,endpoint.tls.secretName=cmk-kms-tls", "cmk-kms-tls is the Secret"),
        (
            "endpoint.tls.mode=CertManager,endpoint.tls.issuerRef.name=ca,fullnameOverride=cmk",
            "cmk-kms-tls is the Secret",
        ),
        (PUBLIC, "endpoint.url is needed"),
        (&format!("{PUBLIC},endpoint.tls.dnsNames={{kms.example.com}}"), "endpoint.url is needed"),
        ("fullnameOverride=kms.example", "fullnameOverride"),
        ("fullnameOverride=1kms", "fullnameOverride"),
        ("nameOverride=kms.example", "nameOverride"),
        ("listenAddress=127.0.0.1", "listenAddress"),
        ("metrics.serviceMonitor.enabled=yes please", "enabled"),
        ("podDisruptionBudget.maxUnavailable=half", "maxUnavailable"),
        ("shutdownDelaySeconds=21", "terminationGracePeriodSeconds has to be at least 46"),
        ("terminationGracePeriodSeconds=29", "terminationGracePeriodSeconds has to be at least 30"),
        (r"podLabels.app\.kubernetes\.io/name=kms", "podLabels has app.kubernetes.io/name"),
        (
            r"podAnnotations.kubectl\.kubernetes\.io/default-container=a",
            "podAnnotations has kubectl.kubernetes.io/default",
        ),
        (r"metrics.serviceMonitor.labels.helm\.sh/chart=a", "metrics.serviceMonitor.labels has helm.sh/chart"),
        (r"metrics.prometheusRule.labels.helm\.sh/chart=a", "metrics.prometheusRule.labels has helm.sh/chart"),
        (r"metrics.dashboard.labels.helm\.sh/chart=a", "metrics.dashboard.labels has helm.sh/chart"),
        ("serviceAccount.create=false", "serviceAccount.name is needed"),
        ("extraArgs={run}", "extraArgs"),
        ("extraVolumeMounts[0].name=a", "mountPath"),
    ];
    for (set, expected) in table {
        for helm in Helm::ALL {
            let said = helm.refuses(&["--set", set]);
            assert!(said.contains(expected), "{helm:?}, {set}: {said}");
        }
    }
    let said = Helm::Four.refuses(&["--namespace", "default"]);
    assert!(said.contains("the operator needs a namespace of its own"), "{said}");
}

/// What is just inside.
#[test]
fn bounds_are_included() {
    for set in [
        "endpoint.maxStaleness=10s",
        "endpoint.maxStaleness=0.5m",
        "endpoint.maxStaleness=10000ms",
        "endpoint.maxStaleness=1h1s",
        "shutdownDelaySeconds=20",
        "shutdownDelaySeconds=0,terminationGracePeriodSeconds=25",
        "podLabels=null,podAnnotations=null,metrics.serviceMonitor=null,endpoint.tls.dnsNames=null",
    ] {
        for helm in Helm::ALL {
            helm.template(&["--set", set]);
        }
    }
}

/// The names of objects follow from that of the release, which may have what the name of a Service may not.
#[test]
fn a_release_that_no_service_can_be_named_after_is_refused() {
    for release in ["1kms", "kms.example"] {
        let template = || {
            let mut helm = Helm::Four.command();
            helm.args(["template", release, CHART, "--namespace", NAMESPACE]);
            helm
        };
        let output = template().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("fullnameOverride"), "{said}");
        succeed(template().args(["--set", "fullnameOverride=kms"]));
    }
}

/// A value, what is said about it, and what it is by itself.
struct Documented {
    path: String,
    about: String,
    default: String,
}

/// What `values.yaml` says: `# -- …` above a field, over several lines if need be, as helm-docs reads it.
fn documented() -> Vec<Documented> {
    let text = fs::read_to_string(Path::new(CHART).join("values.yaml")).unwrap();
    let values: Value = serde_yaml_ng::from_str(&text).unwrap();
    let (mut found, mut path, mut about) = (Vec::new(), Vec::<&str>::new(), None::<String>);
    for line in text.lines() {
        let indented = line.trim_start();
        if let Some(first) = indented.strip_prefix("# -- ") {
            about = Some(first.to_owned());
        } else if let Some(more) = indented.strip_prefix("# ") {
            about = about.map(|about| format!("{about} {more}"));
        } else if let Some((field, _)) = indented.split_once(':') {
            path.truncate((line.len() - indented.len()) / 2);
            path.push(field);
            if let Some(about) = about.take() {
                let default = values.pointer(&format!("/{}", path.join("/"))).unwrap();
                found.push(Documented { path: path.join("."), about, default: default.to_string() });
            }
        }
    }
    found
}

/// The table for the README.
pub fn table() -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let rows = documented()
        .into_iter()
        .map(|Documented { path, about, default }| format!("| `{path}` | `{}` | {} |\n", cell(&default), cell(&about)));
    ["| value | default | what it is |\n|---|---|---|\n".to_owned()].into_iter().chain(rows).collect()
}

#[test]
fn every_value_is_documented() {
    let text = fs::read_to_string(Path::new(CHART).join("values.yaml")).unwrap();
    let values: Value = serde_yaml_ng::from_str(&text).unwrap();
    let documented = documented();
    let mut open = vec![(String::new(), &values)];
    let mut seen = 0;
    while let Some((path, value)) = open.pop() {
        if documented.iter().any(|value| value.path == path) {
            seen += 1;
            continue;
        }
        let fields = value.as_object().filter(|fields| !fields.is_empty());
        let fields = fields.unwrap_or_else(|| panic!("values.yaml does not say what {path} is"));
        let path = if path.is_empty() { path } else { path + "." };
        open.extend(fields.iter().map(|(name, value)| (format!("{path}{name}"), value)));
    }
    assert!(seen == documented.len() && seen > 50, "{seen} of {}", documented.len());
}

/// The schema knows every value, and no other.
#[test]
fn the_schema_has_the_same_values() {
    fn compare(path: &str, values: &Value, schema: &Value) {
        let Some(properties) = schema["properties"].as_object().filter(|_| schema["additionalProperties"] == false)
        else {
            return;
        };
        let names = |object: &serde_json::Map<String, Value>| {
            let mut names: Vec<_> = object.keys().filter(|name| *name != "global").cloned().collect();
            names.sort();
            names
        };
        let Some(fields) = values.as_object().filter(|fields| !fields.is_empty()) else { return };
        if path.ends_with("allowedNamespaces") || path.ends_with("resources") {
            return;
        }
        assert_eq!(names(fields), names(properties), "{path}");
        fields.iter().for_each(|(name, value)| compare(&format!("{path}.{name}"), value, &properties[name]));
    }
    let read = |name: &str| fs::read_to_string(Path::new(CHART).join(name)).unwrap();
    let values: Value = serde_yaml_ng::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    compare("", &values, &schema);
}
