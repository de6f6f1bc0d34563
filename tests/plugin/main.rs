//! `kubectl cmk` as its users run it: the real binary, against a real API server and an operator.
#![allow(clippy::unwrap_used, reason = "a test that fails says why by a panic")]

mod plan;
#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use cmk_operator::api::metadata;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use support::{
    eventually,
    world::{Operator, SOON, World, entry, key_id, key_state, private_bed},
};

/// What a run of the plugin came to.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// It ended with this status and said this, on either stream.
    #[track_caller]
    fn says(self, code: i32, text: &str) -> Self {
        assert!(
            self.code == Some(code) && (self.out.contains(text) || self.err.contains(text)),
            "not {text:?}: {self:#?}"
        );
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// The plugin, as some user.
struct Plugin {
    kubeconfig: PathBuf,
    namespace: String,
    operator_namespace: String,
}

impl Plugin {
    /// As the administrator.
    fn of(world: &World) -> Self {
        Self::with(world, world.bed.control_plane.admin_kubeconfig())
    }

    fn with(world: &World, kubeconfig: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            namespace: world.namespace.clone(),
            operator_namespace: world.operator_namespace.clone(),
        }
    }

    /// Runs a command in the test's namespace. The operator is in this process, and goes on meanwhile.
    async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = program();
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments).args(["--namespace", &self.namespace]);
        if matches!(arguments.first(), Some(&("plan" | "doctor"))) {
            command.args(["--operator-namespace", &self.operator_namespace]);
        }
        finish(command).await
    }

    /// Plans this manifest.
    async fn plan(&self, manifest: &Value) -> Ran {
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        fs::write(file.path(), manifest.to_string()).unwrap();
        self.run(&["plan", "-f", file.path().to_str().unwrap()]).await
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kubectl-cmk"))
}

async fn finish(mut command: Command) -> Ran {
    command.stdin(Stdio::null()).env_remove("NO_COLOR");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let Output { status, stdout, stderr } = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// An operator and a key that is Ready, made as a user without GitOps would: nothing owns its fields.
async fn with_key(name: &str, spec: Value) -> (World, Operator, Plugin) {
    let (world, operator) = World::with_operator(name).await;
    create_key(&world, "orders", spec).await;
    world.key_ready("orders").await;
    let plugin = Plugin::of(&world);
    (world, operator, plugin)
}

fn manifest(world: &World, kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": world.namespace}, "spec": spec,
    })
}

async fn create_key(world: &World, name: &str, spec: Value) {
    let key = serde_json::from_value(manifest(world, "CustomerMasterKey", name, &spec)).unwrap();
    world.keys().create(&PostParams::default(), &key).await.unwrap();
}

#[tokio::test]
async fn what_needs_no_cluster_works_without() {
    let run = async |arguments: &[&str]| {
        let mut command = program();
        command.env("KUBECONFIG", "/nonexistent/kubeconfig").env_remove("KUBERNETES_SERVICE_HOST").args(arguments);
        finish(command).await
    };
    run(&["version"]).await.says(0, env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["version", "-o", "json"]).await.json()["api"], "kms.cmk-operator.dev/v1alpha1");
    run(&["version", "-o", "yaml"]).await.says(0, "keyRecordFormat: 1");
    for (shell, text) in
        [("bash", "-o default kubectl-cmk"), ("zsh", "#compdef kubectl-cmk"), ("fish", "complete -c kubectl-cmk")]
    {
        run(&["completion", shell]).await.says(0, text).says(0, "schedule-deletion");
    }
    for command in ["describe", "enable", "schedule-deletion", "import", "tree", "doctor", "plan"] {
        run(&[command, "--help"]).await.says(0, "Examples:");
    }
    run(&["describe"]).await.says(1, "<NAME>");
    run(&["schedule-deletion", "orders", "--days", "6"]).await.says(1, "7..=366");
    run(&["describe", "orders"]).await.says(1, "no cluster");
    run(&["import", "orders", "--from-file", "/nonexistent"]).await.says(1, "no cluster");
}

#[tokio::test]
async fn a_key_is_disabled_enabled_scheduled_and_kept() {
    let (world, _operator, plugin) = with_key("plugin-life", json!({})).await;
    plugin.run(&["enable", "orders"]).await.says(0, "is declared enabled already");
    plugin.run(&["disable", "orders"]).await.says(0, "is disabled").says(0, "Disabled");
    assert_eq!(key_state(&world.key_ready("orders").await), "Disabled");
    let version = world.keys().get("orders").await.unwrap().resource_version();
    plugin.run(&["disable", "orders"]).await.says(0, "already");
    assert_eq!(world.keys().get("orders").await.unwrap().resource_version(), version, "nothing is written");
    plugin.run(&["enable", "orders"]).await.says(0, "is enabled");

    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("dek").await;
    let scheduled = plugin.run(&["schedule-deletion", "orders", "--days", "30"]).await;
    scheduled.says(0, "is scheduled for deletion").says(0, "1 DataKey refers").says(0, "is deleted at");
    let key = world.key_ready("orders").await;
    assert_eq!((key_state(&key).as_str(), key.spec.pending_deletion_days), ("PendingDeletion", Some(30)));
    plugin.run(&["enable", "orders"]).await.says(0, "already").says(0, "PendingDeletion");
    plugin.run(&["cancel-deletion", "orders", "--no-wait"]).await.says(0, "declared not scheduled");
    assert_eq!(key_state(&world.key_ready("orders").await), "Enabled");

    let managers: Vec<_> = world.keys().get("orders").await.unwrap().managed_fields().to_vec();
    assert!(managers.iter().any(|m| m.manager.as_deref() == Some("cmk-plugin")), "{managers:?}");
    plugin.run(&["disable", "nobody"]).await.says(1, "does not exist");
}

#[tokio::test]
async fn what_a_manifest_declares_is_left_to_it() {
    let (world, _operator) = World::with_operator("plugin-owned").await;
    world.apply_key("orders", json!({"enabled": true})).await;
    world.key_ready("orders").await;
    let plugin = Plugin::of(&world);
    plugin.run(&["enable", "orders"]).await.says(0, "already");
    plugin
        .run(&["disable", "orders"])
        .await
        .says(1, "spec.enabled of CustomerMasterKey")
        .says(1, "is declared by tester (server-side apply)")
        .says(1, "manifest");
    // Another field of the same object is nobody's.
    plugin.run(&["schedule-deletion", "orders"]).await.says(0, "is scheduled for deletion");
    plugin.run(&["cancel-deletion", "orders"]).await.says(0, "is not scheduled");
    plugin.run(&["disable", "orders", "--force"]).await.says(0, "is disabled").says(0, "warning: spec.enabled");
    // It is ours now.
    plugin.run(&["enable", "orders"]).await.says(0, "is enabled");

    // kubectl apply without --server-side, and managers that are named.
    let file = tempfile::NamedTempFile::new().unwrap();
    let applied = manifest(&world, "CustomerMasterKey", "applied", &json!({"enabled": true}));
    fs::write(file.path(), applied.to_string()).unwrap();
    support::world::succeed(&mut world.kubectl(&["apply", "-f", file.path().to_str().unwrap()]));
    world.key_ready("applied").await;
    plugin.run(&["disable", "applied"]).await.says(1, "is declared by kubectl-client-side-apply");
    plugin.run(&["disable", "applied", "--gitops-managers", "helm"]).await.says(0, "is disabled");
}

#[tokio::test]
async fn nobody_answers_and_nobody_is_allowed() {
    let world = World::new("plugin-alone").await;
    create_key(&world, "orders", json!({})).await;
    let plugin = Plugin::of(&world);
    plugin
        .run(&["disable", "orders", "--timeout", "1s"])
        .await
        .says(1, "its status does not say so within 1 s")
        .says(1, "doctor");
    assert_eq!(world.keys().get("orders").await.unwrap().spec.enabled, Some(false), "it is written");

    let jane = world.bed.control_plane.kubeconfig_for_user("jane", &[]);
    let jane = Plugin::with(&world, &jane);
    let missing = "jane may not get customermasterkeys.kms.cmk-operator.dev (orders) in namespace";
    for command in [["enable", "orders"], ["describe", "orders"], ["tree", "orders"], ["rotate", "orders"]] {
        jane.run(&command).await.says(1, missing).says(1, "the ClusterRole cmk-view gives");
    }
    let plan = jane.plan(&manifest(&world, "CustomerMasterKey", "orders", &json!({}))).await;
    plan.says(1, "jane may not get customermasterkeys");
    let as_jane = plugin.run(&["describe", "orders", "--as", "jane"]).await;
    as_jane.says(1, missing);
}

#[tokio::test]
async fn a_rotation_is_asked_for_and_answered() {
    let (world, _operator, plugin) = with_key("plugin-rotate", json!({})).await;
    plugin.run(&["rotate", "orders"]).await.says(0, "is rotated: version");
    let key = world.key_ready("orders").await;
    let status = key.status.clone().unwrap();
    assert_eq!(status.key_versions.len(), 2);
    assert_eq!(status.last_handled_rotation.as_ref(), key.annotations().get(metadata::ROTATE_REQUESTED_AT));
    plugin.run(&["rotate", "orders"]).await.says(0, "is rotated");
    plugin.run(&["rotate", "orders", "--no-wait"]).await.says(0, "requested at");
    plugin.run(&["disable", "orders"]).await.says(0, "is disabled");
    plugin.run(&["rotate", "orders"]).await.says(1, "rotates only while it is Enabled").says(1, "kubectl cmk enable");
}

#[tokio::test]
async fn material_is_imported_from_a_file() {
    let (world, _operator, plugin) = with_key("plugin-import", json!({"origin": "EXTERNAL"})).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let import = ["import", "orders", "--from-file", path];
    fs::write(file.path(), [b'k'; 33]).unwrap();
    plugin.run(&import).await.says(1, "has 33 bytes").says(1, "exactly 32 bytes");
    fs::write(file.path(), [b'k'; 32]).unwrap();
    create_key(&world, "generated", json!({})).await;
    plugin.run(&["import", "generated", "--from-file", path]).await.says(1, "has origin Aliyun_KMS");
    assert!(world.secrets().get_opt("generated-material").await.unwrap().is_none(), "no Secret for nothing");

    let imported = plugin.run(&import).await.says(0, "has its material: it is Enabled");
    assert!(!imported.out.contains("kkkk") && !imported.err.contains("kkkk"));
    let secret = world.secrets().get("orders-material").await.unwrap();
    assert_eq!(entry(&secret, "material"), [b'k'; 32]);
    assert_eq!(key_state(&world.key_ready("orders").await), "Enabled");
    // Again, with an expiry.
    let again = ["import", "orders", "--from-file", path, "--expire-time", "2099-01-01T00:00:00Z"];
    plugin.run(&again).await.says(0, "has its material");
    let key = world.key_ready("orders").await;
    assert!(key.status.unwrap().key_metadata.unwrap().material_expire_time.is_some());
    // Other material: not over the Secret that is there, and not into the key.
    fs::write(file.path(), [b'z'; 32]).unwrap();
    plugin.run(&import).await.says(1, "does not hold this material").says(1, "--secret-name");
    let elsewhere = ["import", "orders", "--from-file", path, "--secret-name", "other"];
    let refused = plugin.run(&elsewhere).await.says(1, "the operator can't go on").says(1, "is refused");
    assert!(!refused.err.contains("zzzz"));
    fs::write(file.path(), [b'k'; 32]).unwrap();
    plugin.run(&import).await.says(0, "has its material");
    world.key_ready("orders").await;
}

#[tokio::test]
async fn everything_about_a_key_at_a_glance() {
    let (world, _operator, plugin) =
        with_key("plugin-see", json!({"alias": "orders", "tags": {"team": "shop"}, "rotationIntervalDays": 90})).await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}, "secret": {"name": "dek-secret"}})).await;
    world.data_key_ready("dek").await;
    plugin.run(&["rotate", "orders"]).await.says(0, "is rotated");
    world.apply_data_key("newer", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("newer").await;
    let id = key_id(&world.key_ready("orders").await);

    let described = plugin.run(&["describe", "orders"]).await;
    let secret = format!("DataKey {}/dek", world.namespace);
    for text in [&id, "alias/orders", "team=shop", "every 90 days", "Versions", "AsDeclared", "KeyRotated", &secret] {
        assert!(described.out.contains(text), "{text}: {described:#?}");
    }
    assert!(!described.out.contains('\x1b'), "no colours into a pipe");
    let data = plugin.run(&["describe", "orders", "-o", "json"]).await.json();
    assert_eq!(data["key"]["status"]["keyMetadata"]["keyId"], json!(id));
    assert_eq!(data["tree"]["dataKeys"].as_array().unwrap().len(), 2);

    let tree = plugin.run(&["tree", "orders"]).await;
    let (first, second) = (format!("├── DataKey {}/dek", world.namespace), "└── Secret dek-secret");
    let tree = tree.says(0, &first).says(0, second).says(0, "(older)").says(0, "(newest)");
    assert!(tree.out.contains(&id));
    let all = plugin.run(&["tree", "-A", "-o", "json"]).await.json();
    let mine: Vec<_> = all.as_array().unwrap().iter().filter(|b| b["namespace"] == json!(world.namespace)).collect();
    assert_eq!(mine[0]["dataKeys"][0]["isPrimaryVersion"], json!(false));

    // What is wrong is said, with what to do.
    plugin.run(&["schedule-deletion", "orders"]).await.says(0, "is scheduled");
    plugin.run(&["describe", "orders"]).await.says(0, "What to look at").says(0, "kubectl cmk cancel-deletion orders");
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong() {
    let (world, operator, plugin) = with_key("plugin-doctor", json!({})).await;
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("dek").await;
    plugin.run(&["doctor"]).await.says(0, "Nothing is wrong.").says(0, "in force").says(0, "2 of 2 objects answered");

    create_key(&world, "mine", json!({"alias": "same"})).await;
    world.key_ready("mine").await;
    create_key(&world, "late", json!({"alias": "same"})).await;
    world.key_says("late", "Ready", "False", "AliasConflict").await;
    plugin.run(&["schedule-deletion", "orders"]).await.says(0, "is scheduled");
    let found = plugin.run(&["doctor"]).await.says(1, "AliasConflict").says(1, "kubectl cmk cancel-deletion orders");
    assert!(found.out.contains("things are wrong"), "{found:#?}");
    let data = plugin.run(&["doctor", "-o", "json"]).await.json();
    assert!(data["findings"].as_array().unwrap().iter().any(|f| f["reason"] == "AliasConflict"), "{data}");

    operator.stop().await.unwrap();
    create_key(&world, "silent", json!({})).await;
    plugin.run(&["doctor", "--timeout", "1s"]).await.says(1, "Nobody answers").says(1, "/silent");

    // An object that is gone without its key having been let go, as after a restore that left it out.
    let id = key_id(&world.keys().get("mine").await.unwrap());
    let without_finalizer = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.keys().patch("mine", &PatchParams::default(), &without_finalizer).await.unwrap();
    world.delete_key("mine").await;
    let orphan = format!("1 key is in the store without a CustomerMasterKey, and kept: {id}");
    plugin.run(&["doctor", "--timeout", "1s"]).await.says(1, &orphan);
}

#[tokio::test]
async fn the_doctor_misses_what_is_not_installed() {
    let bed = private_bed().await;
    let world = World::on(bed, "plugin-bare").await;
    let plugin = Plugin::of(&world);
    let kubectl = |arguments: &[&str]| support::world::succeed(&mut world.kubectl(arguments));
    kubectl(&["delete", "validatingadmissionpolicybinding", "cmk-operator-status.cmk-operator.dev"]);
    plugin.run(&["doctor"]).await.says(1, "cmk-operator-status.cmk-operator.dev has no binding");
    kubectl(&["delete", "validatingadmissionpolicies,validatingadmissionpolicybindings", "--all"]);
    let namespace = &world.operator_namespace;
    let command = |account: &str| {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        format!("cmk-operator policies --namespace {namespace} --user {user} | kubectl apply --server-side -f -")
    };
    plugin.run(&["doctor"]).await.says(1, "is not installed").says(1, &command("cmk-operator"));
    // The operator runs as another user: policies for the usual one would refuse its every status.
    kubectl(&["create", "serviceaccount", "kms", "--namespace", namespace]);
    let spec = json!({"serviceAccountName": "kms", "containers": [{"name": "operator", "image": "cmk-operator"}]});
    let labels = json!({"app.kubernetes.io/name": "cmk-operator"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kms", "labels": labels}, "spec": spec});
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), namespace);
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    plugin.run(&["doctor"]).await.says(1, &command("kms"));
    let kinds = ["customermasterkeys", "datakeys", "clusterkeystores", "accesskeys"];
    let kinds = kinds.map(|kind| format!("{kind}.kms.cmk-operator.dev"));
    // The policies are in force until the API server looks again at what there is.
    eventually("the kinds to be deleted", SOON, async || {
        let delete = ["delete", "crd", "--ignore-not-found"];
        let ran = world.kubectl(&delete).args(&kinds).output().unwrap();
        if ran.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ran.stderr).into_owned()) }
    })
    .await;
    eventually("the kinds to be gone", SOON, async || {
        let ran = plugin.run(&["doctor"]).await;
        if ran.code == Some(1) && ran.out.contains("does not know CustomerMasterKey") {
            Ok(())
        } else {
            Err(format!("{ran:#?}"))
        }
    })
    .await;
    plugin.run(&["describe", "orders"]).await.says(1, "cmk-operator crds");
}

#[tokio::test]
async fn it_is_a_plugin_of_kubectl() {
    let (world, _operator, plugin) = with_key("plugin-kubectl", json!({})).await;
    let binary = Path::new(env!("CARGO_BIN_EXE_kubectl-cmk"));
    let kubectl = world.kubectl(&[]).get_program().to_owned();
    let mut command = Command::new(kubectl);
    command
        .env("PATH", binary.parent().unwrap())
        .env("HOME", world.bed.control_plane.directory())
        .env("KUBECONFIG", &plugin.kubeconfig)
        .args(["cmk", "describe", "orders", "-n", &world.namespace]);
    finish(command).await.says(0, &key_id(&world.key_ready("orders").await));
}
