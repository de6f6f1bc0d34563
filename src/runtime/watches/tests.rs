use kube::runtime::reflector::store::Writer;
use serde_json::json;

use super::*;
use crate::{
    api::{DataKey, DataKeySpec},
    runtime::triggers::Watched,
};

fn store(name: &str, uid: &str, generation: i64) -> ClusterKeyStore {
    let mut store = ClusterKeyStore::new(name, crate::api::ClusterKeyStoreSpec::default());
    (store.metadata.uid, store.metadata.generation) = (Some(uid.into()), Some(generation));
    store
}

#[test]
fn rule_16_only_what_is_declared_counts_as_a_change() {
    let list = |seen: &mut Declarations, stores: &[ClusterKeyStore]| {
        let mut changed = seen.changed_by(&Event::<ClusterKeyStore>::Init);
        stores.iter().for_each(|store| changed.extend(seen.changed_by(&Event::InitApply(store.clone()))));
        assert_eq!(changed, Vec::<String>::new());
        let mut changed = seen.changed_by(&Event::<ClusterKeyStore>::InitDone);
        changed.sort();
        changed
    };
    let mut seen = Declarations::default();
    assert_eq!(list(&mut seen, &[store("a", "1", 1), store("b", "2", 1)]), ["a", "b"]);
    assert_eq!(seen.changed_by(&Event::Apply(store("a", "1", 1))).len(), 0, "its status was written");
    assert_eq!(seen.changed_by(&Event::Apply(store("a", "1", 2))), ["a"]);
    assert_eq!(seen.changed_by(&Event::Apply(store("a", "3", 2))), ["a"], "made anew");
    assert_eq!(seen.changed_by(&Event::Delete(store("a", "3", 2))), ["a"]);
    // The watch was interrupted, and begins anew.
    assert_eq!(list(&mut seen, &[store("b", "2", 1)]).len(), 0);
    assert_eq!(list(&mut seen, &[store("b", "2", 2), store("c", "4", 1)]), ["b", "c"]);
    assert_eq!(list(&mut seen, &[store("c", "4", 1)]), ["b"]);
}

#[test]
fn rule_15_a_namespace_that_changed_while_nobody_watched_is_looked_at() {
    let namespace = |name: &str, uid: &str, label: &str, adopts: bool, goes: bool| {
        let mut object = PartialObjectMeta::<Namespace>::default();
        object.metadata = serde_json::from_value(json!({
            "name": name, "uid": uid, "labels": {"team": label}, "resourceVersion": rand::random::<u32>().to_string(),
            "annotations": adopts.then(|| json!({"cmk-operator.dev/adopt-keys": "true"})),
            "deletionTimestamp": goes.then_some("2026-01-01T00:00:00Z"),
        }))
        .unwrap();
        Arc::new(object)
    };
    let before = [
        namespace("stays", "1", "a", false, false),
        namespace("relabelled", "2", "a", false, false),
        namespace("adopts", "3", "a", false, false),
        namespace("anew", "4", "a", false, false),
        namespace("goes", "5", "a", false, false),
        namespace("gone", "6", "a", false, false),
    ];
    let now = [
        namespace("new", "7", "a", false, false),
        namespace("goes", "5", "a", false, true),
        namespace("anew", "8", "a", false, false),
        namespace("adopts", "3", "a", true, false),
        namespace("relabelled", "2", "b", false, false),
        namespace("stays", "1", "a", false, false),
    ];
    assert_eq!(changed_meanwhile(&before, &now), ["adopts", "anew", "goes", "gone", "new", "relabelled"]);
    assert_eq!(changed_meanwhile(&now, &now).len(), 0);
}

#[tokio::test]
async fn rule_12_a_secret_that_went_while_nobody_watched_is_missed() {
    let data_key = |namespace: &str| {
        let mut object = DataKey::new("orders", DataKeySpec::default());
        object.metadata.namespace = Some(namespace.to_owned());
        Guarded(Ok(object))
    };
    let mut writer = Writer::default();
    for namespace in ["a", "b"] {
        writer.apply_watcher_event(&Event::Apply(data_key(namespace)));
    }
    let watched = |scope: &str| Watched::new(Some(scope.to_owned()), writer.as_reader());
    let ((here, mut asked), (elsewhere, mut other)) = (watched("a"), watched("b"));
    let triggers = Triggers { data_keys: Arc::new(vec![here, elsewhere]), ..Triggers::default() };
    // The list has other Secrets only.
    let events = [Event::Init, Event::InitApply(PartialObjectMeta::default()), Event::InitDone];
    look_at_deliveries(futures::stream::iter(events), &Some("a".to_owned()), &triggers).await;
    assert_eq!(asked.try_recv().unwrap().name, "orders");
    assert!(other.try_recv().is_err(), "another scope has a watch of its own");
}
