//! Rule 20: a cluster is rebuilt with the same keys by the commands in `docs/runbooks/rebuild-cluster.md`, and its root key
//! comes from the escrow of `docs/root-key.md`. From one control plane to another.
//!
//! The blocks of the pages are run by bash, as they are. Only two programs are stand-ins: `age` is a pipe that marks what
//! it "encrypted", as nobody needs to have it, and helm is the test: it starts and stops the operator.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use cmk_operator::{
    api::{
        conditions::{READY, STALLED, reason},
        metadata,
    },
    kms::EncryptionContext,
    runtime::operator::{OperatorError, Settings},
    store::{KeyStore, embedded::root_key::RootKeyError},
};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::{
    backup::{Facts, as_before, facts, lose_namespace, lose_secrets},
    helpers::{decrypted, external, material, store, stored_key},
    rule_12_rotation::{request, rotated},
    support::{
        eventually,
        world::{Operator, SOON, World, private_bed},
    },
};

const RUNBOOK: &str = "docs/runbooks/rebuild-cluster.md";
const ESCROW: &str = "docs/root-key.md";

/// A desk with the pages, and the programs that they name.
struct Desk {
    directory: tempfile::TempDir,
    runbook: Vec<String>,
    escrow: Vec<String>,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let programs = directory.path().join("bin");
        fs::create_dir(&programs).unwrap();
        let age = "#!/bin/sh\ncase $1 in\n  --encrypt) tr a-zA-Z n-za-mN-ZA-M ;;\n  \
                   --decrypt) tr a-zA-Z n-za-mN-ZA-M < \"$4\" ;;\nesac\n";
        fs::write(programs.join("age"), age).unwrap();
        fs::set_permissions(programs.join("age"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory, runbook: blocks(RUNBOOK), escrow: blocks(ESCROW) }
    }

    /// Runs a block as the administrator of a cluster.
    fn try_run(&self, world: &World, block: &str) -> Output {
        let kubectl = world.bed.control_plane.kubectl([""; 0]);
        let own = Path::new(env!("CARGO_BIN_EXE_cmk-operator")).parent().unwrap();
        let programs = [&self.directory.path().join("bin"), own, Path::new(kubectl.get_program()).parent().unwrap()];
        let path = programs.iter().map(|p| p.to_str().unwrap()).collect::<Vec<_>>().join(":");
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", block])
            .current_dir(self.directory.path())
            .env("PATH", format!("{path}:{}", std::env::var("PATH").unwrap()))
            .env("KUBECONFIG", world.bed.control_plane.admin_kubeconfig())
            .env("HOME", self.directory.path())
            .env_remove("POD_NAMESPACE")
            .env_remove("https_proxy")
            .env_remove("HTTPS_PROXY")
            .output()
            .unwrap()
    }

    fn run(&self, world: &World, block: &str) -> String {
        let output = self.try_run(world, block);
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{block}: {stdout}{}", String::from_utf8_lossy(&output.stderr));
        stdout
    }

    /// The block of the runbook that begins a step with this.
    fn step(&self, begins: &str) -> &str {
        let mut found = self.runbook.iter().filter(|block| block.starts_with(begins));
        let block = found.next().unwrap_or_else(|| panic!("no block of {RUNBOOK} begins with {begins:?}"));
        assert!(found.next().is_none(), "more than one begins with {begins:?}");
        block
    }
}

/// The blocks of commands in a page.
fn blocks(page: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    text.split("\n```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// A cluster of its own, with the names of the pages. The namespace is yet to be made.
async fn cluster(world: &World) -> World {
    let bed = private_bed().await;
    World {
        bed,
        client: bed.control_plane.admin_client().await,
        namespace: "shop".to_owned(),
        operator_namespace: "cmk-system".to_owned(),
        clock: world.clock.clone(),
    }
}

/// Names, with specs.
type Manifests = Vec<(&'static str, serde_json::Value)>;

/// The manifests that are in Git: keys, and data keys.
fn manifests() -> (Manifests, Manifests) {
    let keys = vec![
        ("orders", json!({"alias": "orders", "description": "Orders", "rotationIntervalDays": 365})),
        ("archive", json!({"enabled": false})),
        ("ledger", json!({"deletionProtection": true, "alias": "ledger"})),
        ("retired", json!({"scheduleDeletion": true, "pendingDeletionDays": 30})),
        ("imported", external("material")),
    ];
    let data_keys = vec![
        ("orders-dek", json!({"keyRef": {"name": "orders"}, "encryptionContext": {"app": "shop"}})),
        ("cache", json!({"keyRef": {"name": "orders"}, "secret": {"deletionPolicy": "Delete"}})),
        ("under-imported", json!({"keyRef": {"name": "imported"}})),
        ("own", json!({})),
    ];
    (keys, data_keys)
}

/// Applies them as a GitOps tool does.
async fn apply_from_git(world: &World) {
    let (keys, data_keys) = manifests();
    for (name, spec) in keys {
        world.apply_key(name, spec).await;
    }
    for (name, spec) in data_keys {
        world.apply_data_key(name, spec).await;
    }
    world.apply_access_key("kms", json!({"serviceAccountName": "orders-api"})).await;
}

/// Everything that the old cluster has, with something encrypted: the ciphertext, base64.
async fn populate(world: &World) -> String {
    world.create_namespace("shop").await;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "orders-api"}})).unwrap();
    Api::namespaced(world.client.clone(), "shop").create(&PostParams::default(), &account).await.unwrap();
    material(world, "material", &[7; 32]).await;
    apply_from_git(world).await;
    ready(world).await;
    request(world, "orders-dek", "1").await;
    rotated(world, "orders-dek", 1).await;
    let store = store(world).await;
    let key = stored_key(world, &store, "orders").await;
    let sealed = store.encrypt(&key, &EncryptionContext::default(), b"Ada Lovelace").await.unwrap();
    BASE64_STANDARD.encode(sealed.ciphertext_blob)
}

async fn ready(world: &World) {
    let (keys, data_keys) = manifests();
    for (name, _) in keys {
        world.key_ready(name).await;
    }
    for (name, _) in data_keys {
        world.data_key_ready(name).await;
    }
    world.access_key_ready("kms").await;
}

async fn access_key_id(world: &World) -> Option<String> {
    world.access_keys().get("kms").await.unwrap().status.unwrap().access_key_id
}

async fn start(world: &World, no_new_keys: bool) -> Operator {
    world.start_with(Settings { no_new_keys, ..world.settings() }).await
}

/// That the operator has made no key and no alias by itself.
async fn made_nothing(world: &World, records: usize) {
    assert_eq!(world.records().await.len(), records, "no record but the restored ones");
}

/// Goes through the runbook in an empty cluster. With `too_early` a tool applies everything from Git before the records
/// are there, and again before the objects are.
async fn rebuild(desk: &Desk, new: &World, before: &Facts, too_early: bool) {
    let paused = Settings { no_new_keys: true, ..new.settings() };
    if too_early {
        let ended = new.launch(paused.clone()).await.ended().await;
        assert!(matches!(ended, OperatorError::RootKey(RootKeyError::CreationPaused { .. })), "{ended}");
    }
    desk.run(new, desk.step("kubectl create namespace cmk-system"));
    let mut early = None;
    if too_early {
        let operator = start(new, true).await;
        desk.run(new, desk.step("kubectl create namespace shop"));
        apply_from_git(new).await;
        new.key_says("orders", STALLED, "True", reason::CREATION_PAUSED).await;
        new.data_key_says("own", STALLED, "True", reason::CREATION_PAUSED).await;
        new.data_key_says("orders-dek", READY, "False", reason::KEY_NOT_READY).await;
        made_nothing(new, 0).await;
        early = Some(operator);
    }
    let said = desk.run(new, desk.step("kubectl create -f records.json"));
    assert!(said.contains("0 records are not usable"), "{said}");
    let records = new.records().await.len();

    assert!(desk.step("helm install").contains("--set noNewKeys=true"));
    let operator = match early {
        Some(operator) => operator,
        None => start(new, true).await,
    };
    if too_early {
        new.key_says("orders", STALLED, "True", reason::NAMESPACE_RECREATED).await;
        let said = desk.try_run(new, desk.step("kubectl create -f objects.json"));
        assert!(String::from_utf8_lossy(&said.stderr).contains("AlreadyExists"), "{said:?}");
        desk.run(new, desk.step("kubectl replace -f objects.json"));
    } else {
        desk.run(new, desk.step("kubectl create namespace shop"));
        desk.run(new, desk.step("kubectl create -f objects.json"));
        new.key_says("orders", STALLED, "True", reason::NAMESPACE_RECREATED).await;
    }
    made_nothing(new, records).await;
    desk.run(new, desk.step("kubectl annotate namespace shop"));
    as_before(new, "after the objects", before).await;
    operator.stop().await.unwrap();

    let back = desk.step("helm upgrade");
    assert!(back.contains("--set noNewKeys=false"));
    let operator = start(new, false).await;
    let (_helm, rest) = back.split_once('\n').unwrap();
    desk.run(new, rest);
    apply_from_git(new).await;
    ready(new).await;
    as_before(new, "after Git", before).await;
    made_nothing(new, records).await;
    operator.stop().await.unwrap();
}

/// With threads, as the commands wait for what the operator does meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_20_the_runbook_rebuilds_a_cluster_with_the_same_keys() {
    let world = World::new("rebuild").await;
    let (old, new) = tokio::join!(cluster(&world), cluster(&world));
    let desk = Desk::new();
    let operator = old.start().await;
    let encrypted = populate(&old).await;
    let [take_out, compare, verify, put_back] = &desk.escrow[..] else { panic!("the blocks of {ESCROW}") };
    desk.run(&old, take_out);
    let ids = desk.run(&old, compare);
    let (copy, secret) = ids.split_once('\n').unwrap();
    assert_eq!(copy, secret, "the copy is the right one");
    assert!(desk.run(&old, verify).contains("0 records are not usable"));
    assert!(desk.step("kubectl create namespace cmk-system").contains(put_back.trim()), "the same command");
    desk.run(&old, desk.step("umask 077"));
    let (before, old_access_key) = (facts(&old).await.unwrap(), access_key_id(&old).await);
    operator.stop().await.unwrap();
    plain_text_is_nowhere(&desk, &old).await;

    for too_early in [false, true] {
        rebuild(&desk, &new, &before, too_early).await;
        let context = EncryptionContext::default();
        assert_eq!(decrypted(&new, "orders", &context, &encrypted).await, b"Ada Lovelace");
        assert_ne!(access_key_id(&new).await, old_access_key, "an access key belongs to a ServiceAccount by UID");
        lose_namespace_and_records(&new).await;
    }
}

/// A copy of another root key is told from the right one.
#[tokio::test]
async fn rule_20_a_copy_of_another_root_key_is_found_out() {
    let desk = Desk::new();
    let world = World::new("escrow").await;
    let right = desk.directory.path().join("right");
    let wrong = desk.directory.path().join("wrong");
    fs::write(&right, format!("{}\n", BASE64_STANDARD.encode([1; 32]))).unwrap();
    fs::write(&wrong, BASE64_STANDARD.encode([2; 32])).unwrap();
    let ids = desk.run(&world, "cmk-operator root-key-id right wrong");
    let ids: Vec<_> = ids.lines().collect();
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| id.len() == 36), "{ids:?}");
    assert_eq!(desk.run(&world, "cat right | cmk-operator root-key-id /dev/stdin").trim(), ids[0]);
    let none = desk.try_run(&world, "echo nothing | cmk-operator root-key-id /dev/stdin");
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(!none.status.success() && said.contains("is not usable") && !said.contains("nothing"), "{said}");
}

/// Nothing that was written down is the root key.
async fn plain_text_is_nowhere(desk: &Desk, world: &World) {
    let secret = world.operator_secrets().get(metadata::ROOT_KEY_SECRET).await.unwrap();
    let line = BASE64_STANDARD.encode(&secret.data.as_ref().unwrap()["key"].0);
    for file in ["root-key.yaml.age", "records.json", "objects.json"] {
        let text = fs::read_to_string(desk.directory.path().join(file)).unwrap();
        assert!(!text.is_empty() && !text.contains(&line), "{file}");
    }
}

/// Makes the cluster empty again. The records are deleted as the operator, which alone may.
async fn lose_namespace_and_records(world: &World) {
    // Protected, it would keep its namespace, and the policy that says so hears of the change a moment later.
    world.apply_key("ledger", json!({"alias": "ledger", "deletionProtection": false})).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    eventually("the namespace to be free to go", SOON, async || {
        let attempt = DeleteParams { dry_run: true, ..DeleteParams::default() };
        namespaces.delete(&world.namespace, &attempt).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    lose_namespace(world).await;
    let secrets: Api<Secret> = Api::namespaced(world.operator_client().await, &world.operator_namespace);
    lose_secrets(&secrets, |secret| {
        secret.type_.as_deref().is_some_and(|t| t.starts_with(metadata::SECRET_TYPE_PREFIX))
    })
    .await;
}
