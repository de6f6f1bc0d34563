//! Lifecycle calls of the KMS endpoint and whose fields they may change (design, section 5): each trap, with objects that
//! were applied, patched by hand, changed meanwhile, and deleted meanwhile.

use cmk_operator::{
    api::{CustomerMasterKey, metadata},
    server::Failure,
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::endpoint::{Endpoint, Meddling, by_id, impatient};
use crate::helpers::merge;
use crate::support::world::{World, key_id, succeed};

/// A key whose spec is applied by `kubectl apply`, with these arguments.
async fn kubectl_applied(world: &World, name: &str, spec: Value, arguments: &[&str]) -> CustomerMasterKey {
    let file = tempfile::NamedTempFile::new().unwrap();
    let object = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": "CustomerMasterKey", "metadata": {"name": name},
        "spec": spec,
    });
    std::fs::write(file.path(), object.to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    succeed(&mut world.kubectl(&[&["apply", "-f", path], arguments].concat()));
    world.key_ready(name).await
}

fn owned_by(manager: &str, field: &str, result: Result<(), Failure>) {
    let Err(Failure::Owned(sentence)) = result else { panic!("{result:?}") };
    assert!(sentence.contains(manager) && sentence.contains(field), "{sentence}");
}

#[tokio::test]
async fn what_a_manifest_declares_is_left_to_it() {
    let (world, operator) = World::with_operator("ep-owned").await;
    let declared = json!({"enabled": true, "alias": "alias/owned", "tags": {"team": "a"}});
    let client_side = key_id(&kubectl_applied(&world, "client-side", json!({"enabled": true}), &[]).await);
    let server_side = key_id(&kubectl_applied(&world, "server-side", declared, &["--server-side"]).await);
    world.keys().create(&Default::default(), &CustomerMasterKey::new("helm", Default::default())).await.unwrap();
    let manager = PatchParams { field_manager: Some("helm".into()), ..PatchParams::default() };
    let by_helm = Patch::Merge(json!({"spec": {"enabled": true}}));
    world.keys().patch("helm", &manager, &by_helm).await.unwrap();
    let helm = key_id(&world.key_ready("helm").await);

    let endpoint = Endpoint::new(&world).await;
    let (kms, call) = (&endpoint.kms, &mut endpoint.alibaba());
    owned_by("kubectl-client-side-apply", "spec.enabled", kms.disable_key(call, &by_id(&client_side)).await);
    owned_by("kubectl (server-side apply)", "spec.enabled", kms.disable_key(call, &by_id(&server_side)).await);
    owned_by("helm", "spec.enabled", kms.disable_key(call, &by_id(&helm)).await);
    owned_by("kubectl", "spec.alias", kms.delete_alias(call, "alias/owned").await);
    let untagged = kms.untag_resource(call, &by_id(&server_side), &["team".into()]).await;
    owned_by("kubectl", "spec.tags.team", untagged);
    assert_eq!(endpoint.edits(), 0, "nothing is written of what is refused");

    // What is there already is success whoever owns it, and what nobody declares may be changed.
    kms.enable_key(call, &by_id(&server_side)).await.unwrap();
    assert_eq!(endpoint.edits(), 0);
    kms.tag_resource(call, &by_id(&server_side), &[("cost".into(), "1".into())].into()).await.unwrap();
    kms.update_key_description(call, &by_id(&client_side), "by a call").await.unwrap();
    let object = world.keys().get("client-side").await.unwrap();
    assert_eq!(object.spec.description.as_deref(), Some("by a call"));
    let user = object.annotations().get(metadata::REQUESTED_BY).cloned();
    assert_eq!(user, Some(format!("system:serviceaccount:{}:api", world.namespace)));
    let managers: Vec<_> = object.managed_fields().iter().filter_map(|entry| entry.manager.clone()).collect();
    assert!(managers.contains(&"kms-endpoint".to_owned()), "{managers:?}");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_patched_by_hand_may_be_changed() {
    let (world, operator) = World::with_operator("ep-patched").await;
    kubectl_applied(&world, "orders", json!({}), &["--server-side"]).await;
    let patch = r#"{"spec": {"enabled": true, "description": "by hand"}}"#;
    succeed(&mut world.kubectl(&["patch", "cmk", "orders", "--type", "merge", "-p", patch]));
    let key = world.key_ready("orders").await;
    let endpoint = Endpoint::new(&world).await;
    endpoint.kms.disable_key(&mut endpoint.aws(), &by_id(&key_id(&key))).await.unwrap();
    assert_eq!(world.keys().get("orders").await.unwrap().spec.enabled, Some(false));
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn a_change_that_comes_between_is_kept() {
    let (world, operator) = World::with_operator("ep-conflict").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    let endpoint = Endpoint::new(&world).await;
    endpoint.meddle(Meddling::Merge(json!({"spec": {"description": "meanwhile"}})));
    endpoint.kms.disable_key(&mut endpoint.alibaba(), &by_id(&id)).await.unwrap();
    // Once more each time that the operator wrote its status in between.
    assert!(endpoint.edits() >= 2, "decided anew on what is there");
    let spec = world.key_ready("orders").await.spec;
    assert_eq!((spec.enabled, spec.description.as_deref()), (Some(false), Some("meanwhile")));

    // What comes between may be a reason not to go on.
    endpoint.meddle(Meddling::Merge(json!({"spec": {"deletionProtection": true}})));
    let refused = endpoint.kms.schedule_key_deletion(&mut endpoint.alibaba(), &by_id(&id), None).await;
    assert!(matches!(refused, Err(Failure::DeletionProtected(_))), "{refused:?}");
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn an_object_that_is_deleted_meanwhile_is_not_made_again() {
    let (world, operator) = World::with_operator("ep-deleted").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    let endpoint = Endpoint::new(&world).await;
    endpoint.meddle(Meddling::Delete);
    let result = endpoint.kms.disable_key(&mut endpoint.alibaba(), &by_id(&id)).await;
    assert_eq!(result, Err(Failure::KeyNotFound(id)));
    assert!(world.keys().get_opt("orders").await.unwrap().is_none());
    operator.stop().await.unwrap();
}

#[tokio::test]
async fn an_object_that_is_being_deleted_changes_no_more() {
    let (world, operator) = World::with_operator("ep-deleting").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    // Somebody else's finalizer holds it up; ours is taken off only after that is gone.
    merge(&world.keys(), "orders", json!({"metadata": {"finalizers": ["example.com/hold", metadata::FINALIZER]}}))
        .await;
    let endpoint = Endpoint::new(&world).await;
    operator.stop().await.unwrap();
    world.keys().delete("orders", &Default::default()).await.unwrap();
    let result = endpoint.kms.disable_key(&mut endpoint.alibaba(), &by_id(&id)).await;
    let Err(Failure::Owned(sentence)) = result else { panic!("{result:?}") };
    assert!(sentence.contains("is being deleted"), "{sentence}");
    assert_eq!(endpoint.edits(), 0);
}

#[tokio::test]
async fn who_is_not_answered_is_told_so() {
    let (world, operator) = World::with_operator("ep-wait").await;
    world.apply_key("orders", json!({})).await;
    let id = key_id(&world.key_ready("orders").await);
    operator.stop().await.unwrap();
    let endpoint = Endpoint::with(&world, impatient()).await;
    let result = endpoint.kms.disable_key(&mut endpoint.alibaba(), &by_id(&id)).await;
    let Err(Failure::NotCarriedOut(sentence)) = result else { panic!("{result:?}") };
    assert!(sentence.contains(&format!("CustomerMasterKey {}/orders", world.namespace)), "{sentence}");
    assert_eq!(world.keys().get("orders").await.unwrap().spec.enabled, Some(false), "the change is made all the same");

    let operator = world.start().await;
    world.key_ready("orders").await;
    endpoint.kms.disable_key(&mut endpoint.alibaba(), &by_id(&id)).await.unwrap();
    assert_eq!(endpoint.edits(), 1, "tried again, it finds what it wants");
    operator.stop().await.unwrap();
}
