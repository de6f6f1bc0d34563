//! An operator that works in given namespaces has the rights of a Role there, and lacks none that it uses.

use serde_json::json;

use crate::{
    helm::{CHART, Helm, RELEASE, values_file},
    releases::Installed,
    support::{
        ControlPlane, eventually,
        world::{SOON, World, entry, key_id, key_state, succeed},
    },
};

const OPERATOR: &str = "system:serviceaccount:cmk-system:cmk-operator";

/// What the API server has refused so far, by a policy or for want of a right. What is refused for want of a right is not
/// counted among the requests.
async fn refusals(control_plane: &ControlPlane) -> u64 {
    let metrics = control_plane.apiserver_metrics().await;
    let refused = [
        r#"apiserver_request_total{code="403""#,
        r#"authorization_attempts_total{result="denied""#,
        r#"authorization_attempts_total{result="no-opinion""#,
    ];
    let counts = metrics.lines().filter(|line| refused.iter().any(|start| line.starts_with(start)));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn may(control_plane: &ControlPlane, verb: &str, resource: &str, namespace: &str) -> bool {
    control_plane.may(OPERATOR, verb, resource, namespace)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_namespaces_take_no_right_over_the_secrets_of_others() {
    let file = values_file("watch-namespaces");
    let values = ["--set", "replicaCount=1", "--values", &file];
    let installed = Installed::new(Helm::Four, CHART, &["shop", "bank", "other"], &values).await;
    let world = &installed.world;
    let control_plane = &world.bed.control_plane;
    eventually("the rights to be in force", SOON, async || {
        // Those of Roles and of ClusterRoles are seen one after the other.
        let of_namespaces = ["shop", "bank", "cmk-system"].map(|namespace| ("watch", "secrets", namespace));
        let of_cluster = [
            ("watch", "clusterkeystores.kms.cmk-operator.dev", "cmk-system"),
            ("create", "subjectaccessreviews.authorization.k8s.io", "cmk-system"),
        ];
        let missing = of_namespaces
            .into_iter()
            .chain(of_cluster)
            .find(|(verb, resource, namespace)| !may(control_plane, verb, resource, namespace));
        missing.map_or(Ok(()), |missing| Err(format!("{missing:?}")))
    })
    .await;
    for namespace in ["other", "default", "kube-system"] {
        for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
            assert!(!may(control_plane, verb, "secrets", namespace), "{verb} in {namespace}");
        }
        assert!(!may(control_plane, "decrypt", "customermasterkeys.kms.cmk-operator.dev", namespace));
    }
    succeed(&mut control_plane.kubectl(["create", "serviceaccount", "api", "--namespace", "shop"]));

    let before = refusals(control_plane).await;
    let settings = installed.settings();
    assert_eq!(settings.watch_namespaces, ["shop", "bank"]);
    let operator = world.start_with(settings).await;

    // The whole life of keys of each sort.
    world.apply_key("orders", json!({"alias": "orders", "pendingDeletionDays": 7})).await;
    let id = key_id(&world.key_ready("orders").await);
    world.apply_data_key("dek", json!({"keyRef": {"name": "orders"}})).await;
    world.data_key_ready("dek").await;
    world.apply_data_key("service-dek", json!({})).await;
    world.data_key_ready("service-dek").await;
    world.apply_access_key("kms", json!({"serviceAccountName": "api"})).await;
    world.access_key_ready("kms").await;
    let secrets = world.secrets();
    let plaintext = entry(&secrets.get("dek").await.unwrap(), "plaintext");
    secrets.delete("dek", &Default::default()).await.unwrap();
    let restored = eventually("the data key to be restored", SOON, async || {
        secrets.get("dek").await.map_err(|error| error.to_string())
    });
    assert_eq!(entry(&restored.await, "plaintext"), plaintext);
    world.annotate_key("orders", json!({"cmk-operator.dev/rotate-requested-at": "now"})).await;
    eventually("the key to be rotated", SOON, async || {
        let status = world.keys().get("orders").await.map_err(|error| error.to_string())?.status;
        let handled = status.and_then(|status| status.last_handled_rotation);
        if handled.as_deref() == Some("now") { Ok(()) } else { Err(format!("{handled:?}")) }
    })
    .await;
    world.apply_key("orders", json!({"alias": "orders", "pendingDeletionDays": 7, "scheduleDeletion": true})).await;
    assert_eq!(key_state(&world.key_ready("orders").await), "PendingDeletion");
    world.apply_key("orders", json!({"alias": "orders", "pendingDeletionDays": 7})).await;
    let key = world.key_ready("orders").await;
    assert_eq!((key_id(&key), key_state(&key)), (id, "Enabled".to_owned()));
    world.event("kms", "AccessKeyCreated").await;

    // It looks at no other namespace.
    let elsewhere = "apiVersion: kms.cmk-operator.dev/v1alpha1\nkind: CustomerMasterKey\n\
                     metadata: {name: elsewhere, namespace: other}\nspec: {}\n";
    let manifest = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(manifest.path(), elsewhere).unwrap();
    succeed(&mut control_plane.kubectl(["apply", "-f", manifest.path().to_str().unwrap()]));
    world.apply_key("after", json!({"pendingDeletionDays": 7})).await;
    world.key_ready("after").await;
    let key = installed.json(&["get", "cmk", "elsewhere", "--namespace", "other"]);
    assert!(key["status"]["conditions"].is_null(), "{key}");

    // A store that it drives is of the cluster, and what happens there is told in `default`.
    eventually("the key store to have a status", SOON, async || {
        let store = installed.json(&["get", "clusterkeystore", "default"]);
        if store["status"]["conditions"].is_null() { Err(store.to_string()) } else { Ok(()) }
    })
    .await;
    assert!(may(control_plane, "create", "events.events.k8s.io", "default"));

    rarely_needed(&installed).await;
    assert_eq!(refusals(control_plane).await, before, "the operator lacks a right");
    operator.stop().await.unwrap();
}

/// Waits until kubectl finds none of this.
async fn none(installed: &Installed, arguments: &[&str]) {
    eventually(&format!("{arguments:?} to find nothing"), SOON, async || {
        let found = installed.json(arguments);
        if found["items"].as_array().unwrap().is_empty() { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

/// The only right in a watched namespace is that of its Role, which goes with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_watched_namespace_that_is_deleted_stops_nothing_in_the_others() {
    let file = values_file("watch-namespaces");
    let values = ["--set", "replicaCount=1", "--values", &file];
    let installed = Installed::new(Helm::Four, CHART, &["shop", "bank"], &values).await;
    let shop = &installed.world;
    let bank = World { namespace: "bank".into(), ..shop.clone() };
    let kubectl = |arguments: &[&str]| succeed(&mut shop.bed.control_plane.kubectl(arguments));
    let operator = installed.start().await;
    for world in [shop, &bank] {
        world.apply_key("orders", json!({})).await;
        world.key_ready("orders").await;
    }
    operator.stop().await.unwrap();

    // As long as the object of its key has a finalizer, the namespace is there, without the Role. Who starts lets it go.
    kubectl(&["delete", "namespace", "bank", "--wait=false"]);
    none(&installed, &["get", "roles", "--namespace", "bank"]).await;
    assert_eq!(installed.json(&["get", "namespace", "bank"])["status"]["phase"], "Terminating");
    let operator = installed.start().await;
    shop.apply_key("while-it-goes", json!({})).await;
    shop.key_ready("while-it-goes").await;
    none(&installed, &["get", "namespaces", "--field-selector", "metadata.name=bank"]).await;
    operator.stop().await.unwrap();
    let operator = installed.start().await;
    shop.apply_key("without", json!({})).await;
    shop.key_ready("without").await;
    operator.stop().await.unwrap();

    // There again, but without the Role: what is in it must not be taken for nothing.
    kubectl(&["create", "namespace", "bank"]);
    bank.apply_key("again", json!({})).await;
    let operator = shop.launch(installed.settings()).await;
    let before = refusals(&shop.bed.control_plane).await;
    eventually("the operator to be refused a few times", SOON, async || {
        let refused = refusals(&shop.bed.control_plane).await - before;
        if refused > 20 { Ok(()) } else { Err(refused.to_string()) }
    })
    .await;
    assert!(!operator.readiness.get(), "a namespace that it may not look into is not empty");

    succeed(installed.helm(&["upgrade", RELEASE, CHART]).args(values));
    bank.key_ready("again").await;

    // Gone with a key in it while the operator runs, it comes back to it as well.
    kubectl(&["delete", "namespace", "bank", "--timeout=60s"]);
    shop.apply_key("goes-on", json!({})).await;
    shop.key_ready("goes-on").await;
    kubectl(&["create", "namespace", "bank"]);
    succeed(installed.helm(&["upgrade", RELEASE, CHART]).args(values));
    bank.apply_key("once-more", json!({})).await;
    bank.key_ready("once-more").await;

    // The way that docs/install.md says.
    kubectl(&["delete", "namespace", "bank", "--timeout=60s"]);
    succeed(&mut installed.helm(&["upgrade", RELEASE, CHART, "--set", "replicaCount=1,watchNamespaces={shop}"]));
    assert_eq!(installed.settings().watch_namespaces, ["shop"]);
    operator.stop().await.unwrap();
}

/// What takes further rights: a rotation writes annotations that a policy is about, a Secret that can't be changed is deleted,
/// material is read, and of an object that can't be read the status is patched. What a call of the KMS endpoint
/// writes, an import among it, is in `tests/rules/endpoint_*.rs`, with the same rules.
async fn rarely_needed(installed: &Installed) {
    let world = &installed.world;
    let control_plane = &world.bed.control_plane;
    let annotate = |rotate: &str| format!("cmk-operator.dev/rotate-requested-at={rotate}");
    succeed(&mut world.kubectl(&["annotate", "datakey", "dek", &annotate("now")]));
    eventually("the data key to be rotated", SOON, async || {
        let history = installed.json(&["get", "datakey", "dek", "--namespace", "shop"])["status"]["history"].clone();
        if history.as_array().is_some_and(|history| history.len() == 1) { Ok(()) } else { Err(history.to_string()) }
    })
    .await;
    world.data_key_ready("dek").await;

    let immutable = json!({"immutable": true}).to_string();
    let uid = || installed.json(&["get", "secret", "service-dek", "--namespace", "shop"])["metadata"]["uid"].clone();
    let fixed = uid();
    succeed(&mut world.kubectl(&["patch", "secret", "service-dek", "--type=merge", "--patch", &immutable]));
    succeed(&mut world.kubectl(&[
        "patch",
        "secret",
        "service-dek",
        "--type=merge",
        "--patch",
        r#"{"metadata":{"labels":null}}"#,
    ]));
    eventually("the Secret to be made anew", SOON, async || {
        let got = world.kubectl(&["get", "secret", "service-dek", "--output", "jsonpath={.metadata.uid}"]).output();
        let now = String::from_utf8(got.unwrap().stdout).unwrap();
        if !now.is_empty() && fixed != *now { Ok(()) } else { Err(now) }
    })
    .await;

    succeed(&mut world.kubectl(&[
        "create",
        "secret",
        "generic",
        "material",
        "--from-literal=material=0123456789abcdef0123456789abcdef",
    ]));
    let from = json!({"secretRef": {"name": "material", "key": "material"}});
    world.apply_key("imported", json!({"origin": "EXTERNAL", "importedKeyMaterial": from})).await;
    assert_eq!(key_state(&world.key_ready("imported").await), "Enabled");

    let objects = [
        ("customermasterkeys", "after", "deletionPolicy", json!({"deletionPolicy": "Bogus"})),
        ("datakeys", "dek", "secret/properties/encoding", json!({"secret": {"encoding": "Bogus"}})),
        (
            "clusterkeystores",
            "default",
            "embedded/properties/onNamespaceRecreated",
            json!({"embedded": {"onNamespaceRecreated": "Bogus"}}),
        ),
    ];
    for (kind, name, field, spec) in objects {
        let crd = format!("{kind}.kms.cmk-operator.dev");
        let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{field}/enum");
        let loosen = json!([{"op": "remove", "path": path}]).to_string();
        succeed(&mut control_plane.kubectl(["patch", "crd", &crd, "--type=json", "--patch", &loosen]));
        let patch = json!({ "spec": spec }).to_string();
        eventually("the loose schema to be in force", SOON, async || {
            let output = world.kubectl(&["patch", &crd, name, "--type=merge", "--patch", &patch]).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        })
        .await;
        let reason = "jsonpath={.status.conditions[?(@.type==\"Stalled\")].reason}";
        eventually("the object to be reported", SOON, async || {
            let says = succeed(&mut world.kubectl(&["get", &crd, name, "--output", reason]));
            if says == "Unreadable" { Ok(()) } else { Err(format!("{crd} {name}: {says}")) }
        })
        .await;
    }
}
