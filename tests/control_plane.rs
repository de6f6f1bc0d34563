//! The test bed itself: a control plane that behaves as a cluster does, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails says why by a panic")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Config, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::{ControlPlane, eventually};
use tokio::sync::OnceCell;

/// Set for the copy of this program that is to be killed.
const VICTIM: &str = "CMK_TESTBED_VICTIM";

/// Less than the 30 seconds after which the garbage collector would find a new kind by itself.
const SOON: Duration = Duration::from_secs(25);

/// The control plane that the tests share, each in namespaces of its own. It goes with the process.
async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED.get_or_init(async || ControlPlane::start_prepared(install_things).await).await
}

/// A kind of our own, as an operator has.
async fn install_things(admin: Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(admin);
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({
        "metadata": { "name": "things.example.dev" },
        "spec": {
            "group": "example.dev",
            "scope": "Namespaced",
            "names": { "plural": "things", "singular": "thing", "kind": "Thing" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
            }],
        },
    });
    create(definitions.clone(), definition).await;
    let established = await_condition(definitions, "things.example.dev", conditions::is_crd_established());
    tokio::time::timeout(SOON, established).await.unwrap().unwrap();
}

#[tokio::test]
async fn serves_the_pinned_version() {
    let cluster = shared().await;
    let version = cluster.admin_client().await.apiserver_version().await.unwrap();
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() {
        assert_eq!((&*version.major, &*version.minor), ("1", "36"));
    }

    let output = cluster.kubectl(["get", "--raw", "/version"]).output().unwrap();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["gitVersion"], version.git_version);

    let metrics = cluster.apiserver_metrics().await;
    assert!(metrics.contains("apiserver_request_total"), "{metrics}");
}

#[tokio::test]
async fn proves_itself_by_its_own_authority() {
    let cluster = shared().await;
    let mut config = Config::new(cluster.url().parse().unwrap());
    config.default_retry = false;
    let stranger = Client::try_from(config).unwrap();
    let error = stranger.apiserver_version().await.unwrap_err();
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
}

#[tokio::test]
async fn a_service_account_may_what_its_role_allows() {
    let cluster = shared().await;
    let admin = cluster.admin_client().await;
    let namespace = "service-accounts";
    create_namespace(&admin, namespace).await;
    let account = json!({ "metadata": { "name": "reader" } });
    create::<ServiceAccount>(Api::namespaced(admin.clone(), namespace), account).await;

    let reader = cluster.client_for_service_account(namespace, "reader").await;
    let user = whoami(&reader).await;
    assert_eq!(user.username.unwrap(), "system:serviceaccount:service-accounts:reader");

    let maps: Api<ConfigMap> = Api::namespaced(reader, namespace);
    assert_eq!(refusal(maps.list(&Default::default()).await), 403);

    create::<Role>(
        Api::namespaced(admin.clone(), namespace),
        json!({
            "metadata": { "name": "reader" },
            "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"] }],
        }),
    )
    .await;
    create::<RoleBinding>(
        Api::namespaced(admin, namespace),
        json!({
            "metadata": { "name": "reader" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
            "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": namespace }],
        }),
    )
    .await;
    eventually("the role to be in force", SOON, async || {
        let listed = maps.list(&Default::default()).await;
        listed.map(drop).map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(refusal(maps.get("kube-root-ca.crt").await), 403);
}

#[tokio::test]
async fn a_user_has_the_groups_given() {
    let cluster = shared().await;
    let client = cluster.client_as("jane", &["ops", "dev"]).await;
    let user = whoami(&client).await;
    assert_eq!(user.username.unwrap(), "jane");
    let groups = user.groups.unwrap();
    for group in ["ops", "dev", "system:authenticated"] {
        assert!(groups.iter().any(|found| found == group), "{groups:?}");
    }
    assert!(!groups.iter().any(|found| found == "system:masters"));

    let namespaces: Api<Namespace> = Api::all(client);
    assert_eq!(refusal(namespaces.list(&Default::default()).await), 403);

    let kubeconfig = cluster.kubeconfig_for_user("jane", &["ops"]);
    let output = cluster.kubectl(["auth", "whoami", "--output=json", "--kubeconfig"]).arg(kubeconfig).output().unwrap();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["status"]["userInfo"]["username"], "jane");
}

#[tokio::test]
async fn an_admission_policy_is_enforced() {
    let admin = shared().await.admin_client().await;
    let namespace = "policies";
    create_namespace(&admin, namespace).await;
    create::<ValidatingAdmissionPolicy>(
        Api::all(admin.clone()),
        json!({
            "metadata": { "name": "no-secrets-in-config-maps" },
            "spec": {
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
                    "operations": ["CREATE"],
                }]},
                "validations": [{ "expression": "!has(object.data) || !('key' in object.data)" }],
            },
        }),
    )
    .await;
    create::<ValidatingAdmissionPolicyBinding>(
        Api::all(admin.clone()),
        json!({
            "metadata": { "name": "no-secrets-in-config-maps" },
            "spec": {
                "policyName": "no-secrets-in-config-maps",
                "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": { "matchLabels": {
                    "kubernetes.io/metadata.name": namespace,
                }}},
            },
        }),
    )
    .await;

    let maps: Api<ConfigMap> = Api::namespaced(admin, namespace);
    let refused = eventually("the policy to be in force", SOON, async || {
        let map = json!({ "metadata": { "generateName": "a-" }, "data": { "key": "x" } });
        let map = serde_json::from_value(map).unwrap();
        match maps.create(&Default::default(), &map).await {
            Ok(created) => Err(format!("{} was admitted", created.name_any())),
            Err(error) => Ok(error),
        }
    })
    .await;
    assert_eq!(refusal::<()>(Err(refused)), 422);
}

#[tokio::test]
async fn the_controllers_delete_what_depends_on_the_deleted() {
    let admin = shared().await.admin_client().await;
    let namespace = "deletions";
    create_namespace(&admin, namespace).await;
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), namespace);
    let things = ApiResource::from_gvk(&GroupVersionKind::gvk("example.dev", "v1", "Thing"));
    let things: Api<DynamicObject> = Api::namespaced_with(admin.clone(), namespace, &things);
    let owner = json!({ "apiVersion": "example.dev/v1", "kind": "Thing", "metadata": { "name": "owner" } });
    let owner = create(things.clone(), owner).await;
    let dependent = json!({ "metadata": { "name": "dependent", "ownerReferences": [{
        "apiVersion": "example.dev/v1", "kind": "Thing", "name": "owner", "uid": owner.uid(),
    }]}});
    create::<ConfigMap>(maps.clone(), dependent).await;

    things.delete("owner", &Default::default()).await.unwrap();
    eventually("the dependent to go", SOON, async || gone(maps.get_opt("dependent").await)).await;

    let namespaces: Api<Namespace> = Api::all(admin);
    namespaces.delete(namespace, &Default::default()).await.unwrap();
    // Its controller waits a while before it begins.
    eventually("the namespace to go", 4 * SOON, async || gone(namespaces.get_opt(namespace).await)).await;
}

#[tokio::test]
async fn nothing_remains_of_a_dropped_one() {
    let cluster = ControlPlane::start().await;
    let directory = cluster.directory().to_owned();
    let processes = cluster.process_ids();
    assert_eq!(processes.len(), 3);
    assert!(processes.iter().all(|process| alive(*process)));
    assert!(directory.join("kube-apiserver.log").exists());

    drop(cluster);
    for process in processes {
        assert!(!alive(process), "process {process} is still there");
    }
    assert!(!directory.exists());
}

/// Runs itself as another process, which starts a control plane and waits to be killed.
#[tokio::test]
async fn nothing_remains_when_its_owner_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        let cluster = ControlPlane::start().await;
        let processes: Vec<String> = cluster.process_ids().iter().map(u32::to_string).collect();
        let directory = cluster.directory().display();
        println!("\n{VICTIM} {} {directory}", processes.join(","));
        std::future::pending::<()>().await;
    }

    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_remains_when_its_owner_is_killed"])
        .arg("--nocapture")
        .env(VICTIM, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(victim.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with(VICTIM))
        .expect("the other process starts a control plane");
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    let processes: Vec<u32> = words[1].split(',').map(|id| id.parse().unwrap()).collect();
    let directory = PathBuf::from(words[2]);
    assert_eq!(processes.len(), 3);
    assert!(processes.iter().all(|process| alive(*process)));
    assert!(directory.exists());

    victim.kill().unwrap(); // SIGKILL
    victim.wait().unwrap();
    eventually("its processes and files to go", SOON, async || {
        let left: Vec<_> = processes.iter().filter(|id| alive(**id)).collect();
        if left.is_empty() && !directory.exists() {
            return Ok(());
        }
        Err(format!("left: {left:?}, {}", directory.display()))
    })
    .await;
}

async fn create_namespace(admin: &Client, name: &str) {
    create::<Namespace>(Api::all(admin.clone()), json!({ "metadata": { "name": name } })).await;
}

/// Creates an object from its JSON, which need name neither its kind nor its version.
async fn create<K>(api: Api<K>, object: Value) -> K
where
    K: Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&Default::default(), &object).await.unwrap()
}

async fn whoami(client: &Client) -> UserInfo {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = create(reviews, json!({})).await;
    review.status.unwrap().user_info.unwrap()
}

/// The HTTP status with which the API server refused a request.
fn refusal<T>(result: kube::Result<T>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("not an answer of the API server: {error}"),
        Ok(_) => panic!("the API server did as asked"),
    }
}

fn gone<T>(found: kube::Result<Option<T>>) -> Result<(), String> {
    match found {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("it is still there".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether there is such a process that is no zombie: one whose parent died may wait for the first
/// process of a container, which need not reap it.
fn alive(process: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    // The state follows the name in parentheses, which may itself contain any character.
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}
