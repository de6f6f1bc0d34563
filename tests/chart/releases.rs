//! The life of a release: installed, upgraded, uninstalled, installed again, and removed with all that it left. Its keys are
//! there until the end. There is no node, so the operator runs in this process: as the ServiceAccount of the chart, with
//! the arguments of the chart.

use std::{fs, path::Path, process::Command, time::Duration};

use clap::Parser;
use cmk_operator::{
    api::{
        ClusterKeyStore,
        conditions::{IN_USE, find},
    },
    runtime::{
        arguments::{self, Arguments},
        operator::Settings,
    },
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use crate::{
    helm::{CHART, Helm, NAMESPACE, RELEASE, operator_arguments},
    support::{
        ControlPlane,
        admission::in_force,
        eventually,
        world::{Bed, Operator, SOON, World, entry, key_id, succeed},
    },
};

/// Kubernetes as it comes, with the chart installed.
pub struct Installed {
    pub world: World,
    helm: Helm,
}

impl Installed {
    /// Installs a chart in a new cluster that has these namespaces: the first one is the test's.
    pub async fn new(helm: Helm, chart: &str, namespaces: &[&str], values: &[&str]) -> Self {
        let control_plane = ControlPlane::start().await;
        for namespace in namespaces {
            succeed(&mut control_plane.kubectl(["create", "namespace", namespace]));
        }
        let operator_kubeconfig = control_plane.directory().join("operator-kubeconfig");
        let client = control_plane.admin_client().await;
        let world = World {
            bed: Box::leak(Box::new(Bed { control_plane, operator_kubeconfig })),
            client,
            namespace: namespaces[0].to_owned(),
            operator_namespace: NAMESPACE.to_owned(),
            clock: Default::default(),
        };
        let installed = Self { world, helm };
        installed.install(chart, values).await;
        installed
    }

    pub fn helm(&self, arguments: &[&str]) -> Command {
        let mut command = self.helm.on(&self.world.bed.control_plane);
        command.args(arguments);
        command
    }

    pub async fn install(&self, chart: &str, values: &[&str]) {
        succeed(self.helm(&["install", RELEASE, chart, "--create-namespace"]).args(values));
        in_force(self.world.client.clone(), NAMESPACE).await;
        let control_plane = &self.world.bed.control_plane;
        eventually("the operator's rights to be in force", SOON, async || {
            let account = format!("system:serviceaccount:{NAMESPACE}:{RELEASE}");
            let may = control_plane.may(&account, "create", "secrets", NAMESPACE);
            may.then_some(()).ok_or_else(|| format!("{account} may not create Secrets"))
        })
        .await;
        let bed = self.world.bed;
        let credentials = bed.control_plane.kubeconfig_for_service_account(NAMESPACE, RELEASE).await;
        fs::copy(credentials, &bed.operator_kubeconfig).unwrap();
    }

    /// What the operator is told by the Deployment.
    pub fn settings(&self) -> Settings {
        let deployment = self.json(&["get", "deployment", RELEASE, "--namespace", NAMESPACE]);
        let arguments = operator_arguments(&deployment);
        let parsed = Arguments::try_parse_from(["cmk-operator".to_owned()].iter().chain(&arguments)).unwrap();
        let arguments::Command::Run(run) = parsed.command else { panic!("{arguments:?}") };
        Settings::from(&*run)
    }

    pub async fn start(&self) -> Operator {
        self.world.start_with(self.settings()).await
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut kubectl = self.world.bed.control_plane.kubectl(arguments);
        serde_json::from_str(&succeed(kubectl.args(["--output", "json"]))).unwrap()
    }

    /// The names of all objects of a kind that are ours.
    fn ours(&self, kind: &str) -> Vec<String> {
        let list = self.json(&["get", kind, "--all-namespaces", "--selector", "app.kubernetes.io/name=cmk-operator"]);
        let names = list["items"].as_array().unwrap().iter();
        names.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The columns of `kubectl get cmk`.
    fn columns(&self) -> usize {
        let kind = self.json(&["get", "crd", "customermasterkeys.kms.cmk-operator.dev"]);
        kind["spec"]["versions"][0]["additionalPrinterColumns"].as_array().map_or(0, Vec::len)
    }
}

/// A chart of before: its CustomResourceDefinitions have no columns, which an upgrade brings.
fn older_chart(directory: &Path) -> String {
    let chart = directory.join("cmk-operator");
    let copied = Command::new("cp").args(["-r", CHART]).arg(&chart).status().unwrap();
    assert!(copied.success());
    let file = chart.join("files/crds.yaml");
    let mut kinds = crate::helm::objects(&fs::read_to_string(&file).unwrap());
    for kind in &mut kinds {
        kind["spec"]["versions"][0]["additionalPrinterColumns"] = json!([]);
    }
    let documents: Vec<_> = kinds.iter().map(|kind| serde_yaml_ng::to_string(kind).unwrap()).collect();
    fs::write(&file, documents.join("\n---\n")).unwrap();
    chart.to_str().unwrap().to_owned()
}

/// The commands below a heading of docs/install.md.
fn documented(heading: &str) -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/install.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, block) = section.split_once("\n```sh\n").unwrap();
    block.split_once("\n```\n").unwrap().0.to_owned()
}

async fn life_of_a_release(helm: Helm) {
    let before = tempfile::tempdir().unwrap();
    let older = older_chart(before.path());
    let values = ["--set", "replicaCount=1"];
    let installed = Installed::new(helm, &older, &["shop"], &values).await;
    let world = &installed.world;
    let stores: Api<ClusterKeyStore> = Api::all(world.client.clone());
    assert!(stores.get_opt("default").await.unwrap().is_some(), "the key store came with its kind");
    assert_eq!(installed.columns(), 0);

    root_keys(&installed);
    let operator = installed.start().await;
    world.apply_key("orders", json!({"deletionProtection": true})).await;
    let id = key_id(&world.key_ready("orders").await);
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("dek").await;
    let plaintext = entry(&world.secrets().get("dek").await.unwrap(), "plaintext");
    eventually("the key store to say that it is in use", SOON, async || {
        let store = stores.get("default").await.unwrap();
        let conditions = store.status.map(|status| status.conditions).unwrap_or_default();
        let said = find(&conditions, IN_USE).is_some_and(|condition| condition.status == "True");
        said.then_some(()).ok_or_else(|| format!("{conditions:?}"))
    })
    .await;

    // An upgrade brings the kinds along, and changes nothing about the keys.
    succeed(installed.helm(&["upgrade", RELEASE, CHART]).args(values));
    assert!(installed.columns() > 5);
    let store = stores.get("default").await.unwrap();
    assert!(store.status.is_some_and(|status| !status.conditions.is_empty()), "the same object");
    world.apply_key("orders", json!({"deletionProtection": true, "description": "upgraded"})).await;
    assert_eq!(key_id(&world.key_ready("orders").await), id);
    changes_of_the_store(&installed, &stores).await;
    succeed(&mut installed.helm(&["rollback", RELEASE, "1"]));
    assert!(stores.get_opt("default").await.unwrap().is_some(), "a rollback keeps it");
    succeed(installed.helm(&["upgrade", RELEASE, CHART]).args(values));
    operator.stop().await.unwrap();

    uninstalled_keeps_the_keys(&installed, &stores).await;
    installed.install(CHART, &values).await;
    world.secrets().delete("dek", &DeleteParams::default()).await.unwrap();
    let operator = installed.start().await;
    let delivered = eventually("the data key to be restored", SOON, async || {
        world.secrets().get("dek").await.map_err(|error| error.to_string())
    });
    assert_eq!(entry(&delivered.await, "plaintext"), plaintext);
    assert_eq!(key_id(&world.key_ready("orders").await), id);

    removed(&installed, operator).await;
}

/// Root keys of the administrator's, as the chart has them made; and as they are made by who has not read that, which the notes
/// say.
fn root_keys(installed: &Installed) {
    let notes = |name: &str| {
        let set = format!("replicaCount=1,rootKey.existingSecret={name}");
        succeed(&mut installed.helm(&["upgrade", RELEASE, CHART, "--dry-run=server", "--set", &set]))
    };
    let control_plane = &installed.world.bed.control_plane;
    let readme = fs::read_to_string(Path::new(CHART).join("README.md")).unwrap();
    let line = readme.lines().find(|line| line.starts_with("kubectl create secret generic root-keys ")).unwrap();
    let file = control_plane.directory().join("root-key");
    fs::write(&file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let arguments = line.replace("--from-file=root-key", &format!("--from-file={}", file.display()));
    for name in ["root-keys", "plain"] {
        let arguments = arguments.replace("generic root-keys", &format!("generic {name}"));
        let plain = name == "plain";
        let arguments = arguments.split_whitespace().skip(1).filter(|word| !(plain && word.starts_with("--type=")));
        succeed(&mut control_plane.kubectl(arguments));
        let notes = notes(name);
        assert!(notes.contains("Keep copies of the root keys"), "{notes}");
        assert_eq!(notes.contains("WARNING: the Secret plain is of the type Opaque"), plain, "{notes}");
    }
}

/// The key store follows its values. Helm 3 does not change a custom resource that it found, and the chart says so.
async fn changes_of_the_store(installed: &Installed, stores: &Api<ClusterKeyStore>) {
    let keep = |name: &'static str| format!("defaultKeyStore.onNamespaceRecreated={name}");
    let upgrade = |set: &str| installed.helm(&["upgrade", RELEASE, CHART, "--set", "replicaCount=1", "--set", set]);
    let output = upgrade(&keep("NewKey")).output().unwrap();
    let says = serde_json::to_value(stores.get("default").await.unwrap().spec).unwrap();
    if installed.helm == Helm::Four {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(says["embedded"]["onNamespaceRecreated"], "NewKey");
        succeed(&mut upgrade(&keep("Stall")));
    } else {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("kubectl patch clusterkeystore default"), "{said}");
        assert_eq!(says["embedded"]["onNamespaceRecreated"], "Stall");
    }
}

/// What an uninstallation leaves, is protected as before.
async fn uninstalled_keeps_the_keys(installed: &Installed, stores: &Api<ClusterKeyStore>) {
    succeed(&mut installed.helm(&["uninstall", RELEASE]));
    let world = &installed.world;
    assert!(installed.ours("deployments,services,serviceaccounts,clusterroles,roles").is_empty());
    assert_eq!(installed.ours("crd").len(), 4);
    assert!(!installed.ours("validatingadmissionpolicies").is_empty());
    assert!(stores.get_opt("default").await.unwrap().is_some());
    assert_eq!(world.records().await.len(), 1);
    for refused in [
        ["cmk", "orders"],
        ["namespace", "shop"],
        ["namespace", NAMESPACE],
        ["secret", "cmk-root-key"],
        ["secret", "root-keys"],
    ] {
        let mut command = world.bed.control_plane.kubectl(["delete", "--wait=false"]);
        let namespace = if refused[0] == "cmk" { "shop" } else { NAMESPACE };
        let output = command.args(refused).args(["--namespace", namespace]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("ValidatingAdmissionPolicy"), "{refused:?}: {said}");
    }
    // Under another name it would be a second operator.
    let mut other = installed.helm.on(&world.bed.control_plane);
    let output = other.args(["install", "other", CHART]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("this cluster has cmk-operator already"), "{said}");
}

/// Finalizers and namespaces are looked at every few seconds each, by controllers that come one after the other.
const REMOVED_WITHIN: Duration = Duration::from_secs(180);

/// The documented commands remove everything, and hang on nothing.
async fn removed(installed: &Installed, operator: Operator) {
    let world = &installed.world;
    let control_plane = &world.bed.control_plane;
    let commands = documented("Remove everything");
    assert!(commands.contains("helm uninstall") && commands.contains("delete crd"), "{commands}");
    let kubectl = control_plane.kubectl::<&str>([]);
    let helm = installed.helm.on(control_plane);
    let mut shell = Command::new("bash");
    let functions = "helm() { \"$HELM\" \"$@\"; }; kubectl() { \"$KUBECTL\" \"$@\"; }";
    shell.args(["-euo", "pipefail", "-c", &format!("{functions}\n{commands}")]);
    shell.env("KUBECONFIG", control_plane.admin_kubeconfig()).env("HOME", control_plane.directory().join("home"));
    shell.env("HELM", helm.get_program()).env("KUBECTL", kubectl.get_program());
    let mut running = tokio::task::spawn_blocking(move || succeed(&mut shell));
    tokio::time::timeout(REMOVED_WITHIN, &mut running).await.expect("the documented commands come to an end").unwrap();
    operator.crash().await;

    for kind in ["crd", "validatingadmissionpolicies", "validatingadmissionpolicybindings", "clusterroles"] {
        assert!(installed.ours(kind).is_empty(), "{kind}: {:?}", installed.ours(kind));
    }
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
    let names = namespaces.list(&ListParams::default()).await.unwrap();
    assert!(!names.iter().any(|namespace| namespace.metadata.name.as_deref() == Some(NAMESPACE)));
    succeed(&mut control_plane.kubectl(["delete", "namespace", "shop", "--timeout=60s"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_keeps_its_keys_until_everything_is_removed_with_helm_4() {
    life_of_a_release(Helm::Four).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_keeps_its_keys_until_everything_is_removed_with_helm_3() {
    life_of_a_release(Helm::Three).await;
}
