//! A world for one test: namespaces of its own on a shared control plane, a clock that the test moves, and an
//! operator in this process that runs with the RBAC it ships.

use std::{
    net::SocketAddr,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use cmk_operator::{
    api::{AccessKey, ClusterKeyStore, CustomerMasterKey, DataKey, KeyStoreRef, conditions, crds, metadata, policies},
    cluster::{KubeCluster, Views},
    crypto::SystemRandom,
    runtime::{
        admin::Readiness,
        arguments::{LogArguments, LogFormat},
        kms_endpoint::{KmsListeners, KmsSettings},
        metrics::Metrics,
        operator::{OperatorError, Settings, Surroundings, operate},
        telemetry,
    },
    store::{
        KeySlot,
        embedded::{EmbeddedStore, root_key},
    },
};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Secret},
        events::v1::Event,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{OnceCell, watch},
    task::JoinHandle,
};

use super::{ControlPlane, admission::in_force, clock::TestClock, eventually};

/// The operator's ServiceAccount, as deploy/rbac.yaml and the policies know it.
pub const OPERATOR_NAMESPACE: &str = "cmk-system";
/// How long to wait for something that takes a pass or two.
pub const SOON: Duration = Duration::from_secs(60);

/// The control plane that all tests of a process share, with CRDs, RBAC and policies installed.
pub struct Bed {
    pub control_plane: ControlPlane,
    /// The operator's identity, with the RBAC it ships.
    pub operator_kubeconfig: std::path::PathBuf,
}

/// Starts it at the first call.
pub async fn bed() -> &'static Bed {
    static BED: OnceCell<Bed> = OnceCell::const_new();
    BED.get_or_init(install).await
}

/// One that nobody shares, for a test that changes what all would see. It lives as long as the process.
pub async fn private_bed() -> &'static Bed {
    Box::leak(Box::new(install().await))
}

/// One that ends when it is dropped.
pub async fn install() -> Bed {
    // `CMK_LOG_LEVEL=debug cargo test …` shows what the operators do.
    if let Ok(log_level) = std::env::var("CMK_LOG_LEVEL") {
        telemetry::start(&LogArguments { log_level, log_format: LogFormat::Human }).unwrap();
    }
    let control_plane = ControlPlane::start_prepared(install_crds).await;
    let kubectl_apply = |yaml: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        succeed(&mut control_plane.kubectl(["apply", "--server-side", "-f", &path]));
    };
    succeed(&mut control_plane.kubectl(["create", "namespace", OPERATOR_NAMESPACE]));
    kubectl_apply(include_str!("../../deploy/rbac.yaml"));
    let policies = policies::policies(&policies::PolicyOptions::default());
    let manifests: Vec<_> = policies.iter().flat_map(policies::Policy::manifests).collect();
    kubectl_apply(&crds::to_yaml("policies", &manifests).unwrap());
    in_force(control_plane.admin_client().await, OPERATOR_NAMESPACE).await;
    let operator_kubeconfig = control_plane.kubeconfig_for_service_account(OPERATOR_NAMESPACE, "cmk-operator").await;
    Bed { control_plane, operator_kubeconfig }
}

/// Installs our CRDs and waits until they are served.
pub async fn install_crds(client: Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds::crds() {
        api.create(&PostParams::default(), &crd).await.unwrap();
    }
    eventually("the CRDs to be served", SOON, async || {
        Api::<CustomerMasterKey>::all(client.clone()).list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        Api::<DataKey>::all(client.clone()).list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        Api::<AccessKey>::all(client.clone()).list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        Api::<ClusterKeyStore>::all(client.clone()).list(&ListParams::default()).await.map_err(|e| e.to_string())
    })
    .await;
}

/// Runs a command that has to succeed, and returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {stdout}{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// An operator in this process.
pub struct Operator {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), OperatorError>>,
    pub readiness: Readiness,
    pub metrics: Arc<Metrics>,
    /// Where its KMS endpoint listens without TLS.
    pub kms_plain: Option<SocketAddr>,
    /// And with.
    pub kms_tls: Option<SocketAddr>,
}

impl Operator {
    /// Stops it in an orderly way, and returns how it ended.
    pub async fn stop(self) -> Result<(), OperatorError> {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(SOON, self.task).await.expect("the operator stops when it is told to");
        ended.expect("the operator did not panic")
    }

    /// Tells it to stop, and waits until it has begun to: it is not ready any more, and serves for as long as it is told to.
    pub async fn begin_to_stop(&self) {
        self.stop.send_replace(true);
        eventually("the operator to begin to stop", SOON, async || match self.readiness.get() {
            false => Ok(()),
            true => Err("it is ready".to_owned()),
        })
        .await;
    }

    /// Ends it at once, in the middle of whatever it does.
    pub async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until it ends by itself, and returns why.
    pub async fn ended(self) -> OperatorError {
        let ended = tokio::time::timeout(SOON, self.task).await.expect("the operator ends by itself");
        ended.expect("the operator did not panic").expect_err("the operator ends with an error")
    }
}

/// One test's namespaces and clock.
#[derive(Clone)]
pub struct World {
    pub bed: &'static Bed,
    /// The administrator.
    pub client: Client,
    /// Where the test's objects are.
    pub namespace: String,
    /// Where the operator's Secrets are.
    pub operator_namespace: String,
    pub clock: Arc<TestClock>,
}

impl World {
    /// A new one; `name` tells its namespaces from other tests'.
    pub async fn new(name: &str) -> Self {
        Self::on(bed().await, name).await
    }

    /// A new one on a control plane of one's own.
    pub async fn on(bed: &'static Bed, name: &str) -> Self {
        let client = bed.control_plane.admin_client().await;
        let unique = format!("{name}-{:08x}", rand::random::<u32>());
        let world = Self {
            bed,
            client,
            namespace: unique.clone(),
            operator_namespace: format!("{unique}-system"),
            clock: Arc::new(TestClock::default()),
        };
        world.create_namespace(&world.namespace).await;
        world.create_namespace(&world.operator_namespace).await;
        world
    }

    /// A new one with an operator that is ready.
    pub async fn with_operator(name: &str) -> (Self, Operator) {
        let world = Self::new(name).await;
        let operator = world.start().await;
        (world, operator)
    }

    /// The same test's view of another namespace, which is made.
    pub async fn another_namespace(&self, suffix: &str) -> Self {
        let namespace = format!("{}-{suffix}", self.namespace);
        self.create_namespace(&namespace).await;
        Self { namespace, ..self.clone() }
    }

    pub async fn create_namespace(&self, name: &str) {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    }

    pub fn settings(&self) -> Settings {
        Settings {
            namespace: self.operator_namespace.clone(),
            watch_namespaces: vec![self.namespace.clone()],
            root_key_files: vec![],
            no_new_keys: false,
            clock_skew_tolerance: Duration::from_secs(300),
            concurrency: 8,
            key_metrics: true,
            kms: KmsSettings::default(),
            kms_url: "https://cmk-operator-kms.cmk-system.svc".to_owned(),
            election: None,
        }
    }

    /// Starts an operator and waits until it is ready.
    pub async fn start(&self) -> Operator {
        self.start_with(self.settings()).await
    }

    /// The same, with other settings.
    pub async fn start_with(&self, settings: Settings) -> Operator {
        self.start_over(self.operator_client().await, settings).await
    }

    /// The same, with a client of its own.
    pub async fn start_over(&self, client: Client, settings: Settings) -> Operator {
        let operator = self.launch_over(client, settings, Self::plain_listener().await).await;
        eventually("the operator to be ready", SOON, async || {
            assert!(!operator.task.is_finished(), "the operator ended");
            operator.readiness.get().then_some(()).ok_or_else(|| "not ready".to_owned())
        })
        .await;
        operator
    }

    /// Starts an operator, which may end by itself. Its KMS endpoint listens without TLS.
    pub async fn launch(&self, settings: Settings) -> Operator {
        self.launch_listening(settings, Self::plain_listener().await).await
    }

    async fn plain_listener() -> KmsListeners {
        KmsListeners { plain: Some(TcpListener::bind("127.0.0.1:0").await.unwrap()), tls: None }
    }

    /// The same, with other listeners of the KMS endpoint.
    pub async fn launch_listening(&self, settings: Settings, kms: KmsListeners) -> Operator {
        self.launch_over(self.operator_client().await, settings, kms).await
    }

    async fn launch_over(&self, client: Client, settings: Settings, kms: KmsListeners) -> Operator {
        let address = |listener: &Option<TcpListener>| listener.as_ref().map(|open| open.local_addr().unwrap());
        let (kms_plain, kms_tls) = (address(&kms.plain), address(&kms.tls));
        let (stop, stopped) = watch::channel(false);
        let (readiness, metrics) = (Readiness::default(), Arc::new(Metrics::default()));
        let surroundings = Surroundings {
            client,
            clock: self.clock.clone(),
            random: Arc::new(SystemRandom),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            kms,
        };
        let task = tokio::spawn(operate(settings, surroundings, stopped));
        Operator { stop, task, readiness, metrics, kms_plain, kms_tls }
    }

    /// A client with the operator's identity and RBAC.
    pub async fn operator_client(&self) -> Client {
        self.operator_client_at(None).await
    }

    /// The same, which reaches the API server by another URL.
    pub async fn operator_client_at(&self, url: Option<&str>) -> Client {
        let kubeconfig = kube::config::Kubeconfig::read_from(&self.bed.operator_kubeconfig).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        config.proxy_url = None;
        if let Some(url) = url {
            config.cluster_url = url.parse().unwrap();
        }
        Client::try_from(config).unwrap()
    }

    /// The kubeconfig behind it, for an operator in a process of its own.
    pub fn operator_kubeconfig(&self) -> &std::path::Path {
        &self.bed.operator_kubeconfig
    }

    /// The operator's key store, as a second operator would open it. Makes the root key if there is none.
    pub async fn store(&self) -> EmbeddedStore<KubeCluster> {
        let cluster = KubeCluster::new(self.operator_client().await, Views::blind());
        let (namespace, random) = (&self.operator_namespace, Arc::new(SystemRandom));
        let ring = root_key::from_secret(&cluster, namespace, false, &*random, async || Ok(0)).await.unwrap();
        EmbeddedStore::new(namespace, cluster, Arc::new(ring), self.clock.clone(), random)
    }

    /// The slot of a key in the default store.
    pub fn slot(&self, name: &str) -> KeySlot {
        let store = KeyStoreRef::default().to_string();
        KeySlot { store, namespace: self.namespace.clone(), name: name.to_owned() }
    }

    /// kubectl, as the administrator, in the test's namespace.
    pub fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = self.bed.control_plane.kubectl(["--namespace", &self.namespace]);
        command.args(args);
        command
    }

    pub fn keys(&self) -> Api<CustomerMasterKey> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn data_keys(&self) -> Api<DataKey> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn access_keys(&self) -> Api<AccessKey> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn operator_secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.operator_namespace)
    }

    /// The Secrets with key records.
    pub async fn records(&self) -> Vec<Secret> {
        let params = ListParams::default().fields(&format!("type={}", metadata::KEY_RECORD_TYPE));
        self.operator_secrets().list(&params).await.unwrap().items
    }

    /// The record of the test's only key, as JSON.
    pub async fn only_record(&self) -> Value {
        let records = self.records().await;
        assert_eq!(records.len(), 1, "exactly one record");
        record_json(&records[0])
    }

    /// Creates a key or changes its spec, as `kubectl apply --server-side` does.
    pub async fn apply_key(&self, name: &str, spec: Value) -> CustomerMasterKey {
        apply(&self.keys(), name, "CustomerMasterKey", spec).await.unwrap()
    }

    /// Creates a data key or changes its spec, as `kubectl apply --server-side` does.
    pub async fn apply_data_key(&self, name: &str, spec: Value) -> DataKey {
        apply(&self.data_keys(), name, "DataKey", spec).await.unwrap()
    }

    /// Waits until the operator has answered the key's spec with Ready, and returns it.
    pub async fn key_ready(&self, name: &str) -> CustomerMasterKey {
        self.key_says(name, conditions::READY, "True", conditions::reason::AS_DECLARED).await
    }

    /// Waits until the operator has answered the data key's spec with Ready, and returns it.
    pub async fn data_key_ready(&self, name: &str) -> DataKey {
        self.data_key_says(name, conditions::READY, "True", conditions::reason::AS_DECLARED).await
    }

    /// Waits until a condition of the key says this of its current spec.
    pub async fn key_says(&self, name: &str, type_: &str, status: &str, reason: &str) -> CustomerMasterKey {
        says(&self.keys(), name, (type_, status, reason), |key| key.status.as_ref().map(|s| &s.conditions)).await
    }

    /// Waits until a condition of the data key says this of its current spec.
    pub async fn data_key_says(&self, name: &str, type_: &str, status: &str, reason: &str) -> DataKey {
        says(&self.data_keys(), name, (type_, status, reason), |key| key.status.as_ref().map(|s| &s.conditions)).await
    }

    /// Creates an access key or changes its spec, as `kubectl apply --server-side` does.
    pub async fn apply_access_key(&self, name: &str, spec: Value) -> AccessKey {
        apply(&self.access_keys(), name, "AccessKey", spec).await.unwrap()
    }

    /// Waits until the operator has answered the access key's spec with Ready, and returns it.
    pub async fn access_key_ready(&self, name: &str) -> AccessKey {
        self.access_key_says(name, conditions::READY, "True", conditions::reason::AS_DECLARED).await
    }

    /// Waits until a condition of the access key says this of its current spec.
    pub async fn access_key_says(&self, name: &str, type_: &str, status: &str, reason: &str) -> AccessKey {
        says(&self.access_keys(), name, (type_, status, reason), |key| key.status.as_ref().map(|s| &s.conditions)).await
    }

    /// Deletes a key's object and waits until it is gone.
    pub async fn delete_key(&self, name: &str) {
        self.keys().delete(name, &DeleteParams::default()).await.unwrap();
        gone(&self.keys(), name).await;
    }

    /// Merges into an object's metadata, as the administrator.
    pub async fn annotate_key(&self, name: &str, annotations: Value) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        self.keys().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits for an Event with this reason about the object called `name`, and returns its text.
    pub async fn event(&self, name: &str, reason: &str) -> String {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        eventually(&format!("Event {reason} about {name}"), SOON, async || {
            let all = events.list(&ListParams::default()).await.map_err(|e| e.to_string())?;
            let about = |event: &&Event| event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name);
            let found = all.iter().filter(about).find(|event| event.reason.as_deref() == Some(reason));
            found.map(|event| event.note.clone().unwrap_or_default()).ok_or_else(|| {
                format!("seen: {:?}", all.iter().filter(about).map(|e| e.reason.clone()).collect::<Vec<_>>())
            })
        })
        .await
    }
}

/// The JSON in a record.
pub fn record_json(secret: &Secret) -> Value {
    serde_json::from_slice(&secret.data.as_ref().unwrap()["record"].0).unwrap()
}

/// Applies an object server-side as the user `tester`.
pub async fn apply<K>(api: &Api<K>, name: &str, kind: &str, spec: Value) -> Result<K, kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let object = json!({
        "apiVersion": "kms.cmk-operator.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    api.patch(name, &PatchParams::apply("tester").force(), &Patch::Apply(object)).await
}

async fn says<K>(
    api: &Api<K>,
    name: &str,
    (type_, status, reason): (&str, &str, &str),
    conditions_of: impl Fn(&K) -> Option<&Vec<Condition>>,
) -> K
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    eventually(&format!("{name} to be {type_}={status} ({reason})"), SOON, async || {
        let object = api.get(name).await.map_err(|e| e.to_string())?;
        let conditions = conditions_of(&object).cloned().unwrap_or_default();
        let said = conditions::find(&conditions, type_).is_some_and(|c| {
            c.status == status && c.reason == reason && c.observed_generation == object.meta().generation
        });
        if said { Ok(object) } else { Err(format!("it has {conditions:#?}")) }
    })
    .await
}

/// Waits until an object is gone.
pub async fn gone<K>(api: &Api<K>, name: &str)
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    eventually(&format!("{name} to be gone"), SOON, async || {
        match api.get_opt(name).await.map_err(|e| e.to_string())? {
            None => Ok(()),
            Some(object) => Err(format!("{object:?}")),
        }
    })
    .await;
}

/// The id of a key, from status.
pub fn key_id(key: &CustomerMasterKey) -> String {
    key.status.as_ref().unwrap().key_metadata.as_ref().unwrap().key_id.clone()
}

/// The state of a key, from status.
pub fn key_state(key: &CustomerMasterKey) -> String {
    key.status.as_ref().unwrap().key_metadata.as_ref().unwrap().key_state.to_string()
}

/// An entry of a Secret.
pub fn entry(secret: &Secret, key: &str) -> Vec<u8> {
    let data = secret.data.as_ref().unwrap_or_else(|| panic!("{} has no data", secret.name_any()));
    data.get(key).unwrap_or_else(|| panic!("{} has no {key}", secret.name_any())).0.clone()
}
