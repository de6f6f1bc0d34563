//! `kubectl cmk plan`: what is planned, the exit statuses, and who may plan.

use std::fs;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    world::{SOON, World, key_id, private_bed, succeed},
};
use crate::{Plugin, create_key, finish, manifest, program, with_key};

#[tokio::test]
async fn a_plan_says_what_would_be_done() {
    let (world, _operator) = World::with_operator("plugin-plan").await;
    let plugin = Plugin::of(&world);
    let key = |spec| manifest(&world, "CustomerMasterKey", "orders", &spec);
    let of = |spec: &Value| key(spec.clone());
    plugin.plan(&key(json!({"description": "d"}))).await.says(2, "+ ").says(2, "create key").says(2, "1 to create");
    assert!(world.keys().get_opt("orders").await.unwrap().is_none(), "nothing is written");

    let declared = json!({"description": "d", "alias": "orders", "tags": {"a": "b"}, "pendingDeletionDays": 30});
    world.apply_key("orders", declared.clone()).await;
    let before = world.key_ready("orders").await;
    plugin.plan(&of(&declared)).await.says(0, "= ").says(0, "unchanged");
    let with = |field: &str, value: Value| {
        let mut spec = declared.clone();
        spec[field] = value;
        key(spec)
    };
    plugin.plan(&with("description", json!("other"))).await.says(2, "~ ").says(2, "set description");
    plugin.plan(&with("alias", json!("moved"))).await.says(2, "set alias/moved");
    plugin.plan(&with("pendingDeletionDays", json!(7))).await.says(2, "change spec.pendingDeletionDays");
    // A field that the manifest has no more, as tester applied it before.
    plugin.plan(&key(json!({"description": "d", "alias": "orders"}))).await.says(2, "set tags");
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("dek").await;
    let lost = plugin.plan(&with("enabled", json!(false))).await.says(3, "! ").says(3, "disable");
    assert!(lost.out.contains(&format!("used by DataKey {}/dek", world.namespace)), "{lost:#?}");
    plugin.plan(&with("scheduleDeletion", json!(true))).await.says(3, "schedule deletion at ");
    plugin.plan(&with("origin", json!("EXTERNAL"))).await.says(1, "spec.origin is immutable");
    plugin.plan(&with("description", json!(7))).await.says(1, "spec.description");
    assert_eq!(world.keys().get("orders").await.unwrap().resource_version(), before.resource_version());

    // What is planned is what is done.
    world.apply_key("orders", json!({"enabled": false, "description": "d"})).await;
    world.key_ready("orders").await;
    plugin.plan(&of(&json!({"enabled": false, "description": "d"}))).await.says(0, "unchanged");
    plugin.plan(&of(&json!({"description": "d"}))).await.says(2, "enable");
    // Back from a deletion.
    let id = key_id(&world.keys().get("orders").await.unwrap());
    world.data_keys().delete("dek", &DeleteParams::default()).await.unwrap();
    world.delete_key("orders").await;
    plugin.plan(&of(&json!({}))).await.says(2, &format!("take back key {id}")).says(2, "cancel deletion");
}

#[tokio::test]
async fn a_plan_of_who_may_not_read_the_records() {
    let (world, _operator) = World::with_operator("plugin-plan-user").await;
    let spec = json!({"description": "d", "alias": "orders", "tags": {"a": "b"}, "rotationIntervalDays": 90});
    world.apply_key("orders", spec.clone()).await;
    world.key_ready("orders").await;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "jane", "namespace": world.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    let bindings: Api<RoleBinding> = Api::namespaced(world.client.clone(), &world.namespace);
    bindings.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let kubeconfig = world.bed.control_plane.kubeconfig_for_user("jane", &[]);
    let jane = Plugin::with(&world, &kubeconfig);
    let key = |spec: &Value| manifest(&world, "CustomerMasterKey", "orders", spec);
    eventually("jane to have her rights", SOON, async || {
        let ran = jane.plan(&key(&spec)).await;
        if ran.code == Some(0) { Ok(()) } else { Err(format!("{ran:#?}")) }
    })
    .await;
    jane.plan(&key(&spec))
        .await
        .says(0, "unchanged")
        .says(0, "Taken for granted:")
        .says(0, "the key is as its status says");
    let mut other = spec.clone();
    other["enabled"] = json!(false);
    jane.plan(&key(&other)).await.says(3, "disable");
    other["alias"] = json!("moved");
    jane.plan(&key(&other)).await.says(3, "set alias/moved");
    jane.run(&["disable", "orders"]).await.says(0, "is disabled");
    jane.run(&["doctor"]).await.says(0, "Nothing is wrong.").says(0, "not looked at");
    jane.run(&["tree"]).await.says(0, "orders").says(0, "note: only the DataKeys of namespace");
}

#[tokio::test]
async fn a_plan_of_a_folder_with_everything_in_it() {
    let (world, _operator, plugin) = with_key("plugin-plan-all", json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("below")).unwrap();
    let fresh = format!("{}-new", world.namespace);
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {fresh}}}\n---\n\
         apiVersion: kms.cmk-operator.dev/v1alpha1\nkind: CustomerMasterKey\nmetadata: {{name: a, namespace: {fresh}}}\n\
         spec:\n  enabled: false\n---\n\
         apiVersion: kms.cmk-operator.dev/v1alpha1\nkind: DataKey\nmetadata: {{name: dek}}\n\
         spec:\n  keyRef: {{name: orders}}\n"
    );
    fs::write(folder.path().join("all.yaml"), text).unwrap();
    let store = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "ClusterKeyStore",
        "metadata": {"name": fresh}, "spec": {"embedded": {"region": "eu-central-1"}},
    });
    fs::write(folder.path().join("below/store.json"), store.to_string()).unwrap();
    let path = folder.path().to_str().unwrap();
    let arguments = ["plan", "-f", path];
    let mut command = program();
    command.env("KUBECONFIG", &plugin.kubeconfig).args(arguments);
    // The DataKey is in the namespace of the context, where no key is.
    let flat = finish(command).await;
    flat.says(2, "create key, disabled").says(2, "+ DataKey default/dek").says(2, "1 of other kinds passed over");
    let mut command = program();
    command.env("KUBECONFIG", &plugin.kubeconfig).args(arguments).args(["-R", "-o", "json"]);
    let data = finish(command).await.json();
    let kinds: Vec<_> = data["plan"].as_array().unwrap().iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, ["ClusterKeyStore", "CustomerMasterKey", "DataKey"], "{data}");
    assert_eq!(data["plan"][1]["action"], "create");

    // Standard input; and what is not in the given namespace.
    let mut command = program();
    command.env("KUBECONFIG", &plugin.kubeconfig).args(["plan", "-f", "-"]);
    finish(command).await.says(0, "there are no objects");
    plugin.run(&arguments).await.says(1, "is in namespace");
    plugin.run(&["plan", "-f", "/nonexistent"]).await.says(1, "/nonexistent");
}

#[tokio::test]
async fn a_plan_follows_how_an_object_was_applied() {
    let (world, _operator) = World::with_operator("plugin-plan-how").await;
    let plugin = Plugin::of(&world);
    let file = tempfile::NamedTempFile::new().unwrap();
    let key = |spec: &Value| manifest(&world, "CustomerMasterKey", "orders", spec);
    fs::write(file.path(), key(&json!({"enabled": false, "description": "d"})).to_string()).unwrap();
    succeed(&mut world.kubectl(&["apply", "-f", file.path().to_str().unwrap()]));
    world.key_ready("orders").await;
    plugin.plan(&key(&json!({"enabled": false, "description": "d"}))).await.says(0, "unchanged");
    plugin.plan(&key(&json!({"description": "d"}))).await.says(2, "enable");

    // Another manager's field is a conflict, as it is for kubectl.
    let patch = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey", "spec": {"alias": "theirs"},
    });
    let flux = PatchParams::apply("flux");
    create_key(&world, "shared", json!({})).await;
    world.keys().patch("shared", &flux, &Patch::Apply(patch)).await.unwrap();
    let mine = manifest(&world, "CustomerMasterKey", "shared", &json!({"alias": "mine"}));
    fs::write(file.path(), mine.to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    plugin.run(&["plan", "-f", path, "--field-manager", "ci"]).await.says(1, "conflict").says(1, "--force-conflicts");
    plugin.run(&["plan", "-f", path, "--field-manager", "ci", "--force-conflicts"]).await.says(2, "set alias/mine");
}

#[tokio::test]
async fn the_examples_have_a_plan_on_an_empty_cluster() {
    let world = World::on(private_bed().await, "plugin-examples").await;
    let mut command = program();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    command.env("KUBECONFIG", world.bed.control_plane.admin_kubeconfig()).args(["plan", "-f", examples, "-R"]);
    let planned = finish(command).await.says(2, "+ shop/orders");
    assert!(!planned.out.contains("not planned"), "{}", planned.out);
    let planned = planned.says(2, "the admission policies allow it");
    assert_eq!(planned.out.matches("the admission policies allow it").count(), 1, "said once: {}", planned.out);
}
