//! The real reconciler, the real embedded store and the real erasing, on an API server in memory.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cmk_operator::{
    api::{
        CustomerMasterKey, CustomerMasterKeySpec, DataKey, DataKeySpec,
        cluster_key_store::OnNamespaceRecreated,
        conditions::{Standing, conditions, reason},
        customer_master_key::{DeletionPolicy, ImportedKeyMaterial, SecretKeyRef},
        metadata,
    },
    clock::Clock,
    cluster::{NamespaceView, Objects},
    controller::{
        Attempts, Context, Expectations, PassError,
        customer_master_key::{KIND, reconcile},
        orphans::Orphans,
        purge::{self, Holds},
    },
    crypto::{Random, RandomError, RootKey, RootKeyRing},
    kms::{KeyRecord, KeyStep, Origin},
    runtime::metrics::Metrics,
    store::{KeyStore, StoredKey, embedded::EmbeddedStore},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::ResourceExt;
use serde_json::json;

use crate::{
    acts::{Act, changed},
    cluster::{ALIASES, Fault, MemoryCluster, RECORDS, secrets_of},
    reference::{Material, NAMES, Spec},
    server::Name,
};

/// The operator's namespace.
pub const OPERATOR: &str = "cmk-system";
/// The namespace of the objects.
pub const SHOP: &str = "shop";
const MATERIAL: &str = "material";

/// A clock that stands still until a test moves it.
pub struct ManualClock(Mutex<Timestamp>);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// The same bytes for the same seed (SplitMix64).
struct Seeded(AtomicU64);

impl Random for Seeded {
    fn fill(&self, buf: &mut [u8]) -> Result<(), RandomError> {
        for chunk in buf.chunks_mut(8) {
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

type Store = EmbeddedStore<MemoryCluster>;

pub struct World {
    pub server: MemoryCluster,
    pub clock: Arc<ManualClock>,
    random: Arc<Seeded>,
    ring: Arc<RootKeyRing>,
    operator: Context<MemoryCluster, Store>,
    orphans: Orphans,
    /// A store of the test's own, for looking into records.
    pub auditor: Store,
    pub skew: SignedDuration,
    /// The right bytes of the records that were tampered with, by the name of their Secret.
    tampered: BTreeMap<String, Secret>,
    runtime: tokio::runtime::Runtime,
}

/// The namespace and name of an object.
pub fn full(name: u8) -> Name {
    (SHOP.into(), object_name(name))
}

pub fn object_name(name: u8) -> String {
    format!("key-{name}")
}

pub fn alias_name(alias: u8) -> String {
    format!("alias/alias-{alias}")
}

impl World {
    pub fn new(seed: u64, on_namespace_recreated: OnNamespaceRecreated) -> Self {
        // Not on a whole second: what is stored and shown has to be.
        let now: Timestamp = "2026-01-01T00:00:00.75Z".parse().unwrap();
        let server = MemoryCluster::new(now, on_namespace_recreated);
        let clock = Arc::new(ManualClock(Mutex::new(now)));
        let random = Arc::new(Seeded(AtomicU64::new(seed)));
        let ring = Arc::new(RootKeyRing::new(RootKey::from_bytes(&[7; 32]).unwrap(), []));
        let operator = operator(&server, &clock, &random, &ring);
        let auditor = EmbeddedStore::new(OPERATOR, server.clone(), ring.clone(), clock.clone(), random.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let world = Self {
            server,
            clock,
            random,
            ring,
            operator,
            orphans: Orphans::default(),
            auditor,
            skew: SignedDuration::ZERO,
            tampered: BTreeMap::new(),
            runtime,
        };
        world.new_namespace(OPERATOR);
        world.new_namespace(SHOP);
        world.put_material(Some(Material::Bytes(1)));
        world.catch_up_all();
        world
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn wait(&self, seconds: i64) {
        *self.clock.0.lock().unwrap() += SignedDuration::from_secs(seconds);
        self.tell_server_time();
    }

    fn tell_server_time(&self) {
        let time = self.now() + self.skew;
        self.server.etcd(|etcd| etcd.now = time);
    }

    fn new_namespace(&self, name: &str) {
        self.server.etcd(|etcd| {
            let uid = etcd.new_uid();
            let view = NamespaceView { uid, terminating: false, adopt_keys: false, labels: BTreeMap::new() };
            etcd.namespaces.insert(name.into(), view);
        });
    }

    /// The watch shows everything.
    pub fn catch_up_all(&self) {
        self.catch_up(true, true, true, true);
    }

    pub fn catch_up(&self, namespaces: bool, objects: bool, records: bool, aliases: bool) {
        self.server.catch_up(namespaces, objects);
        let store = &self.operator.store;
        let names = |secrets: &[Secret]| secrets.iter().map(ResourceExt::name_any).collect::<HashSet<_>>();
        if records {
            let records = self.server.etcd(|etcd| secrets_of(etcd, OPERATOR, RECORDS));
            records.iter().for_each(|secret| drop(store.note(secret)));
            store.note_all(&names(&records));
        }
        if aliases {
            let aliases = self.server.etcd(|etcd| secrets_of(etcd, OPERATOR, ALIASES));
            aliases.iter().for_each(|secret| store.note_alias(secret));
            store.note_all_aliases(&names(&aliases));
        }
    }

    /// The operator is started anew, and has listed everything.
    pub fn restart(&mut self) {
        self.server.set_fault(Fault::None);
        self.operator = operator(&self.server, &self.clock, &self.random, &self.ring);
        self.orphans = Orphans::default();
        self.catch_up_all();
    }

    /// A pass over an object as the watch shows it, with what surrounds it in the operator. Answers whether it came to
    /// its end.
    pub fn pass(&self, name: u8) -> Result<(), PassError> {
        let Some(object) = self.server.seen(|seen| seen.keys.get(&full(name)).cloned()) else { return Ok(()) };
        if self.operator.expectations.outdates(KIND, &object) {
            return Ok(());
        }
        match self.block_on(reconcile(&self.operator, object.clone())) {
            Ok(_) => Ok(()),
            Err(error) if error.is_gone() || error.is_conflict() => Err(error),
            Err(error) => {
                self.report(&object, &error);
                Err(error)
            }
        }
    }

    /// What the operator says in the status of an object whose pass failed.
    fn report(&self, object: &CustomerMasterKey, error: &PassError) {
        let standing = Standing::waiting(reason::RECONCILE_ERROR, error.to_string());
        let generation = object.metadata.generation;
        let says = conditions(&standing.findings(), &[], generation, self.now());
        let status = json!({"observedGeneration": generation, "conditions": says});
        let cluster = &self.server;
        let written = self.block_on(Objects::<CustomerMasterKey>::patch_raw_status(cluster, &object.metadata, status));
        // It is as good as it gets.
        drop(written);
    }

    /// Passes over everything, with watches that show everything, and the sweeps, until nothing changes any more.
    ///
    /// # Errors
    /// What does not come to rest, or fails though nothing is wrong with the API server.
    pub fn settle(&mut self) -> Result<(), String> {
        if self.server.is_dead() {
            self.restart();
        }
        self.server.set_fault(Fault::None);
        for _ in 0..20 {
            let before = self.version();
            self.catch_up_all();
            for name in NAMES {
                match self.pass(name) {
                    Ok(()) => {}
                    Err(error) if error.is_gone() || error.is_conflict() => {}
                    Err(error) => return Err(format!("the pass over {name} failed: {error}")),
                }
                self.catch_up_all();
            }
            if self.version() == before {
                let tolerance = Duration::from_secs(300);
                let told = self.block_on(purge::sweep(&self.operator, OPERATOR, tolerance));
                let told = told.map_err(|error| format!("the sweep failed: {error}"))?;
                self.catch_up_all();
                self.block_on(self.orphans.sweep(&self.operator));
                if self.version() == before && told.is_empty() {
                    return Ok(());
                }
            }
        }
        Err("it does not come to rest".into())
    }

    fn version(&self) -> u64 {
        self.server.etcd(|etcd| etcd.version)
    }

    pub fn object(&self, name: u8) -> Option<CustomerMasterKey> {
        self.server.etcd(|etcd| etcd.keys.get(&full(name)).cloned())
    }

    /// All records, past every cache; those that were tampered with as they were before.
    pub fn records(&self) -> Vec<StoredKey> {
        self.record_secrets().into_iter().map(|(_, key)| key).collect()
    }

    fn record_secrets(&self) -> Vec<(Secret, StoredKey)> {
        let records = self.server.etcd(|etcd| secrets_of(etcd, OPERATOR, RECORDS));
        let sound = records.into_iter().map(|secret| {
            let sound = self.tampered.get(&secret.name_any()).unwrap_or(&secret);
            let key = self.auditor.verify(sound).expect("the record is sound").key;
            (secret, key)
        });
        sound.collect()
    }

    /// The current key of a name, with the Secret of its record as it is.
    fn current(&self, name: u8) -> Option<(Secret, StoredKey)> {
        let is_current = |record: &KeyRecord| record.owner.name == object_name(name) && !record.abandoned;
        self.record_secrets().into_iter().find(|(_, key)| is_current(&key.record))
    }

    /// Lets something happen.
    pub fn act(&mut self, act: &Act) {
        let now = self.now();
        match act {
            Act::Nothing => {}
            Act::Declare(name, changes) => {
                if let Some(object) = self.object(*name) {
                    let spec = changed(Some(&spec_of(&object.spec)), false, changes, now);
                    spec.into_iter().for_each(|spec| self.apply(*name, &spec));
                }
            }
            Act::Make { name, external, changes } => {
                if self.object(*name).is_none() {
                    let spec = changed(None, *external, changes, now);
                    spec.into_iter().for_each(|spec| self.apply(*name, &spec));
                }
            }
            Act::RequestRotation(name) => {
                self.annotate(*name, metadata::ROTATE_REQUESTED_AT, &(now.as_second() % 251).to_string());
            }
            Act::Abandon(name) => {
                if let Some((_, key)) = self.current(*name) {
                    self.annotate(*name, metadata::ABANDON_KEY, &key.record.key_id.to_string());
                }
            }
            Act::Delete(name) => self.server.etcd(|etcd| etcd.delete::<CustomerMasterKey>(&full(*name))),
            Act::Secret(material) => self.put_material(*material),
            Act::DataKey(name, refers) => self.put_data_key(*name, *refers),
            Act::NewNamespace => self.server.etcd(|etcd| {
                etcd.namespaces.get_mut(SHOP).unwrap().terminating = true;
                etcd.secrets.retain(|(namespace, _), _| namespace != SHOP);
                etcd.data_keys.clear();
                NAMES.iter().for_each(|name| etcd.delete::<CustomerMasterKey>(&full(*name)));
            }),
            Act::Adopts(adopts) => {
                self.server.etcd(|etcd| etcd.namespaces.get_mut(SHOP).unwrap().adopt_keys = *adopts);
            }
            Act::LoseStatus(name) => {
                self.server.etcd(|etcd| etcd.edit(&full(*name), |object: &mut CustomerMasterKey| object.status = None));
            }
            Act::Restore { name, annotation, finalizer } => self.restore(*name, *annotation, *finalizer),
            Act::Tamper(name) => self.tamper(*name),
            Act::Mend(name) => self.mend(*name),
            Act::Drift(name, enabled) => {
                if let Some((secret, key)) = self.current(*name)
                    && !self.tampered.contains_key(&secret.name_any())
                {
                    let step = if *enabled { KeyStep::Enable } else { KeyStep::Disable };
                    // What the state does not allow does not happen.
                    drop(self.block_on(self.auditor.update(&key, &[step])));
                }
            }
            Act::Skew(skewed) => {
                self.skew = if *skewed { SignedDuration::from_hours(-1) } else { SignedDuration::ZERO };
                self.tell_server_time();
            }
        }
    }

    fn apply(&self, name: u8, spec: &Spec) {
        self.server.etcd(|etcd| {
            let edited = etcd.edit(&full(name), |object: &mut CustomerMasterKey| object.spec = to_api(spec));
            if !edited {
                let mut object = CustomerMasterKey::new(&object_name(name), to_api(spec));
                object.metadata.namespace = Some(SHOP.into());
                etcd.create(&object).expect("nothing is in the way");
            }
        });
    }

    fn annotate(&self, name: u8, annotation: &str, value: &str) {
        self.server.etcd(|etcd| {
            etcd.edit(&full(name), |object: &mut CustomerMasterKey| {
                object.annotations_mut().insert(annotation.into(), value.into());
            })
        });
    }

    fn put_material(&self, material: Option<Material>) {
        let name = (SHOP.to_owned(), MATERIAL.to_owned());
        let content = material.map(|material| match material {
            Material::Bytes(byte) => vec![byte; 32],
            Material::Short => vec![1; 31],
        });
        self.server.etcd(|etcd| {
            etcd.delete::<Secret>(&name);
            if let Some(content) = content {
                let metadata = ObjectMeta { namespace: Some(name.0), name: Some(name.1), ..ObjectMeta::default() };
                let data = Some(BTreeMap::from([("key".to_owned(), ByteString(content))]));
                etcd.create(&Secret { metadata, data, ..Secret::default() }).expect("nothing is in the way");
            }
        });
    }

    fn put_data_key(&self, name: u8, refers: bool) {
        self.server.etcd(|etcd| {
            etcd.delete::<DataKey>(&full(name));
            if refers {
                let spec: DataKeySpec =
                    serde_json::from_value(json!({"keyRef": {"name": object_name(name)}, "secret": {"name": "s"}}))
                        .unwrap();
                let mut object = DataKey::new(&object_name(name), spec);
                object.metadata.namespace = Some(SHOP.into());
                etcd.create(&object).expect("nothing is in the way");
            }
        });
    }

    fn restore(&self, name: u8, annotation: bool, finalizer: bool) {
        self.server.etcd(|etcd| {
            let Some(old) = etcd.keys.get(&full(name)).cloned() else { return };
            // Whoever restores takes the old one out of the way, finalizers and all.
            etcd.delete::<CustomerMasterKey>(&full(name));
            etcd.edit(&full(name), |object: &mut CustomerMasterKey| object.metadata.finalizers = None);
            let mut restored = CustomerMasterKey::new(&object_name(name), old.spec.clone());
            restored.metadata.namespace = Some(SHOP.into());
            restored.metadata.annotations = old.metadata.annotations.clone();
            if !annotation {
                restored.annotations_mut().remove(metadata::KEY_ID);
            }
            restored.metadata.finalizers = old.metadata.finalizers.filter(|_| finalizer);
            etcd.create(&restored).expect("nothing is in the way");
        });
    }

    fn tamper(&mut self, name: u8) {
        let Some((secret, _)) = self.current(name) else { return };
        if self.tampered.contains_key(&secret.name_any()) {
            return;
        }
        self.server.etcd(|etcd| {
            etcd.edit(&(OPERATOR.into(), secret.name_any()), |secret: &mut Secret| {
                secret.data.as_mut().unwrap().get_mut("mac").unwrap().0[0] ^= 1;
            })
        });
        self.tampered.insert(secret.name_any(), secret);
    }

    fn mend(&mut self, name: u8) {
        let Some((secret, _)) = self.current(name) else { return };
        if let Some(sound) = self.tampered.remove(&secret.name_any()) {
            let name = (OPERATOR.into(), secret.name_any());
            self.server.etcd(|etcd| etcd.edit(&name, |secret: &mut Secret| secret.data.clone_from(&sound.data)));
        }
    }

    /// The namespace, which is empty now, is made anew.
    pub fn renew_namespace(&self) {
        self.server.etcd(|etcd| assert!(etcd.keys.is_empty(), "nothing keeps an object in a terminating namespace"));
        self.new_namespace(SHOP);
    }
}

fn operator(
    server: &MemoryCluster,
    clock: &Arc<ManualClock>,
    random: &Arc<Seeded>,
    ring: &Arc<RootKeyRing>,
) -> Context<MemoryCluster, Store> {
    let store = EmbeddedStore::new(OPERATOR, server.clone(), ring.clone(), clock.clone(), random.clone());
    Context {
        cluster: server.clone(),
        store: Arc::new(store),
        clock: clock.clone(),
        random: random.clone(),
        no_new_keys: false,
        purge_holds: Holds::default(),
        attempts: Attempts::default(),
        expectations: Expectations::default(),
        metrics: Arc::new(Metrics::default()),
    }
}

/// A declaration in the vocabulary of the API.
fn to_api(spec: &Spec) -> CustomerMasterKeySpec {
    CustomerMasterKeySpec {
        origin: spec.external.then_some(Origin::External),
        enabled: Some(spec.enabled),
        schedule_deletion: Some(spec.schedule),
        pending_deletion_days: spec.window,
        deletion_protection: Some(spec.protection),
        deletion_policy: spec.retain.then_some(DeletionPolicy::Retain),
        description: (spec.description > 0).then(|| spec.description.to_string()),
        tags: (spec.description > 0).then(|| BTreeMap::from([("tag".into(), spec.description.to_string())])),
        alias: spec.alias.map(alias_name),
        rotation_interval_days: spec.interval,
        imported_key_material: spec.material.map(|expires| ImportedKeyMaterial {
            secret_ref: SecretKeyRef { name: MATERIAL.into(), key: "key".into() },
            expire_time: expires.map(Time),
            wrapping: None,
        }),
        ..CustomerMasterKeySpec::default()
    }
}

fn spec_of(spec: &CustomerMasterKeySpec) -> Spec {
    Spec {
        external: spec.origin == Some(Origin::External),
        enabled: spec.enabled.unwrap_or(true),
        schedule: spec.schedule_deletion.unwrap_or(false),
        window: spec.pending_deletion_days,
        protection: spec.deletion_protection.unwrap_or(false),
        retain: spec.deletion_policy == Some(DeletionPolicy::Retain),
        description: spec.description.as_deref().map_or(0, |text| text.parse().unwrap()),
        alias: spec.alias.as_deref().map(|alias| alias.rsplit('-').next().unwrap().parse().unwrap()),
        interval: spec.rotation_interval_days,
        material: spec.imported_key_material.as_ref().map(|m| m.expire_time.as_ref().map(|t| t.0)),
    }
}
