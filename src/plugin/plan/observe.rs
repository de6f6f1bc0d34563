//! Gathers what a reconciler would observe, as far as the user may see it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::{ObjectMeta, PartialObjectMeta},
};
use uuid::Uuid;

use super::{manifests::Manifest, reconstruct};
use crate::{
    api::{
        ClusterKeyStore, ClusterKeyStoreSpec, CustomerMasterKey,
        cluster_key_store::{DEFAULT_STORE, KeyStoreRef},
        metadata,
    },
    cluster::{KeyStoreView, NamespaceView},
    controller::{
        customer_master_key::{AliasFacts, plan::Observed, slot},
        purge::Held,
    },
    kms::KeyRecord,
    plugin::{
        failure::Failure,
        refers_to,
        session::{Session, list_with},
    },
    store::{
        AliasClaim, AliasSlot, Freshness, KeySlot, Revision, SlotView, StoreError, StoredKey,
        embedded::inspect::{self, CAPABILITIES},
    },
};

/// What is declared beside the keys, and comes before them.
#[derive(Debug, Default)]
pub struct Declared {
    /// Namespaces, by name.
    pub namespaces: BTreeMap<String, Manifest>,
    /// Key stores, by name: as they would be.
    pub stores: BTreeMap<String, ClusterKeyStoreSpec>,
    /// Secrets: namespaces and names.
    pub secrets: Vec<(String, String)>,
}

/// Where to look.
pub struct Observer<'a> {
    /// The cluster.
    pub session: &'a Session,
    /// Where the key records are.
    pub operator_namespace: &'a str,
    /// What is declared as well.
    pub declared: &'a Declared,
}

/// What can be seen of a key.
#[derive(Debug)]
pub enum Sight {
    /// Enough to plan.
    Clear {
        /// What a reconciler would observe.
        observed: Box<Observed>,
        /// Whether the Secret with the declared material is there.
        material_is_there: bool,
        /// What was not looked at, but taken to be so.
        assumptions: Vec<String>,
    },
    /// Not enough, and why.
    Hidden(String),
}

impl Observer<'_> {
    /// Looks at everything about an object. `live` is as it is, `after` as it would be.
    pub async fn look(&self, live: Option<&CustomerMasterKey>, after: CustomerMasterKey) -> Result<Sight, Failure> {
        let mut assumptions = Vec::new();
        let slot = slot(&after);
        let store = self.key_store(&after.key_store_ref(), &mut assumptions).await?;
        let seen = self.namespace(&slot.namespace).await;
        let namespace = match seen {
            Ok(namespace) => namespace,
            Err(error) if error.is_forbidden() => None,
            Err(error) => return Err(error),
        };
        let (key, from_status) = match self.key(&slot, after.spec.key_id.as_deref()).await {
            Ok(found) => (found, false),
            Err(error) if error.is_forbidden() => {
                let uid = namespace.as_ref().map(|n| n.uid.clone()).unwrap_or_default();
                match self.by_status(live, &after, &uid) {
                    Ok(view) => {
                        assumptions.push(format!(
                            "the key is as its status says: its record, a Secret in {}, could not be read",
                            self.operator_namespace
                        ));
                        (Ok(view), true)
                    }
                    Err(why) => return Ok(Sight::Hidden(why)),
                }
            }
            Err(error) => return Err(error),
        };
        let current = key.as_ref().ok().and_then(|view| view.current.clone());
        let namespace = namespace.or_else(|| {
            let uid = current.as_ref().map(|key| key.record.owner.namespace_uid.clone()).unwrap_or_default();
            assumptions.push("the namespace is the one that the key was made in: it could not be read".into());
            Some(NamespaceView { uid, terminating: false, adopt_keys: false, labels: BTreeMap::new() })
        });
        let owner_is_gone = self.owner_is_gone(&slot, current.as_ref()).await?;
        let alias = self.aliases(&slot, &after, current.as_ref(), from_status, &mut assumptions).await?;
        let material_is_there = self.material_is_there(&slot, &after, &mut assumptions).await?;
        let data_keys = match after.metadata.deletion_timestamp {
            Some(_) => self.data_keys(&slot).await?,
            None => Vec::new(),
        };
        let observed = Observed {
            object: after,
            namespace,
            store,
            key,
            freshness: Freshness::Live,
            // The operator alone knows.
            held: Held::Unknown,
            alias,
            owner_is_gone,
            data_keys,
            import_problem: None,
        };
        Ok(Sight::Clear { observed: Box::new(observed), material_is_there, assumptions })
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.session.client.clone(), self.operator_namespace)
    }

    /// The namespace, as it is or is declared.
    async fn namespace(&self, name: &str) -> Result<Option<NamespaceView>, Failure> {
        let api: Api<Namespace> = Api::all(self.session.client.clone());
        let read = api.get_metadata_opt(name).await?;
        Ok(Some(match (read, self.declared.namespaces.get(name)) {
            (Some(namespace), _) => NamespaceView::from(&namespace),
            (None, Some(manifest)) => {
                let metadata: ObjectMeta = serde_json::from_value(manifest.object["metadata"].clone())
                    .map_err(|e| manifest.problem(e.to_string()))?;
                NamespaceView::from(&PartialObjectMeta::<Namespace> { metadata, ..PartialObjectMeta::default() })
            }
            (None, None) => {
                return Err(Failure::Impossible(format!("namespace {name} does not exist")));
            }
        }))
    }

    async fn key_store(
        &self,
        store: &KeyStoreRef,
        assumptions: &mut Vec<String>,
    ) -> Result<Option<KeyStoreView>, Failure> {
        if let Some(declared) = self.declared.stores.get(&store.name) {
            return Ok(Some(KeyStoreView::from(declared)));
        }
        let by_default = || KeyStoreView::from(&ClusterKeyStoreSpec::default());
        let api: Api<ClusterKeyStore> = Api::all(self.session.client.clone());
        match api.get_opt(&store.name).await.map_err(Failure::from) {
            Ok(Some(object)) => Ok(Some(KeyStoreView::from(&object.spec))),
            Ok(None) => Ok((store.name == DEFAULT_STORE).then(by_default)),
            Err(error) if error.is_forbidden() => {
                assumptions.push(format!("{store} is there and takes keys of this namespace: it could not be read"));
                Ok(Some(by_default()))
            }
            Err(error) => Err(error),
        }
    }

    /// The key that the store holds for an object, from the records.
    async fn key(&self, slot: &KeySlot, adopts: Option<&str>) -> Result<Result<SlotView, StoreError>, Failure> {
        if let Some(id) = adopts {
            let current = self.key_with_id(&slot.store, id.parse().unwrap_or_default()).await?;
            return Ok(Ok(SlotView { current, ..SlotView::default() }));
        }
        let mut view = SlotView::default();
        for generation in 0.. {
            let Some(secret) = self.secrets().get_opt(&inspect::record_name(slot, generation)).await? else { break };
            match inspect::record(&secret) {
                Ok(key) => {
                    if view.take_in(slot, key) {
                        break;
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(view))
    }

    async fn key_with_id(&self, store: &str, id: Uuid) -> Result<Option<StoredKey>, Failure> {
        let of_type = ListParams::default().fields(&format!("type={}", metadata::KEY_RECORD_TYPE));
        let records = list_with(&self.secrets(), of_type).await?;
        let mut keys = records.iter().filter_map(|secret| inspect::record(secret).ok());
        Ok(keys.find(|key| key.record.key_id == id && key.record.store == store))
    }

    /// The key, from the status of its object. An error says why that is not enough.
    fn by_status(
        &self,
        live: Option<&CustomerMasterKey>,
        after: &CustomerMasterKey,
        namespace_uid: &str,
    ) -> Result<SlotView, String> {
        let record = live.and_then(|live| reconstruct::record(live, namespace_uid, CAPABILITIES.pending_deletion_days));
        match record {
            Some(record) => Ok(SlotView { current: Some(stored(record)), ..SlotView::default() }),
            None if after.spec.key_id.is_some() || after.annotations().contains_key(metadata::KEY_ID) => Err(format!(
                "what becomes of it depends on its key record, which you may not read (get on secrets in namespace {})",
                self.operator_namespace
            )),
            None => Ok(SlotView::default()),
        }
    }

    /// Whether a key that is to be adopted belongs to an object that does not exist.
    async fn owner_is_gone(&self, slot: &KeySlot, current: Option<&StoredKey>) -> Result<bool, Failure> {
        let Some(key) = current else { return Ok(false) };
        let owner = &key.record.owner;
        if owner.released || KeySlot::of_owner(&key.record) == *slot {
            return Ok(false);
        }
        let api: Api<CustomerMasterKey> = Api::namespaced(self.session.client.clone(), &owner.namespace);
        match api.get_metadata_opt(&owner.name).await.map_err(Failure::from) {
            Ok(found) => Ok(found.is_none()),
            Err(error) if error.is_forbidden() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn aliases(
        &self,
        slot: &KeySlot,
        after: &CustomerMasterKey,
        current: Option<&StoredKey>,
        from_status: bool,
        assumptions: &mut Vec<String>,
    ) -> Result<AliasFacts, Failure> {
        let named = |alias: String| AliasSlot { store: slot.store.clone(), namespace: slot.namespace.clone(), alias };
        let own = current.and_then(|key| Some(claim(named(key.record.alias.clone()?), key.record.key_id)));
        let claims: Vec<_> = own.clone().into_iter().collect();
        let Some(declared) = after.spec.full_alias().map(named) else {
            return Ok(AliasFacts { claims, ..AliasFacts::default() });
        };
        let read = if from_status { None } else { Some(self.secrets().get_opt(&inspect::alias_name(&declared)).await) };
        match read.map(|read| read.map_err(Failure::from)) {
            Some(Ok(None)) => Ok(AliasFacts { claims, ..AliasFacts::default() }),
            Some(Ok(Some(secret))) => match inspect::claim(&secret) {
                Ok(claim) => {
                    let is_void = self.is_void(&claim).await?;
                    Ok(AliasFacts { holder: Some((claim, is_void)), claims, damaged: None })
                }
                Err(_) => Ok(AliasFacts { damaged: Some(secret.name_any()), ..AliasFacts::default() }),
            },
            Some(Err(error)) if !error.is_forbidden() => Err(error),
            // Without the claims, status tells whose the alias is.
            _ => {
                assumptions.push("aliases are whose the objects' status says".into());
                let holder = match own.filter(|own| own.slot == declared) {
                    Some(own) => Some(own),
                    None => self.holder_by_status(&declared, &slot.name).await?,
                };
                Ok(AliasFacts { holder: holder.map(|claim| (claim, false)), claims, damaged: None })
            }
        }
    }

    async fn holder_by_status(&self, alias: &AliasSlot, but: &str) -> Result<Option<AliasClaim>, Failure> {
        let keys: Vec<CustomerMasterKey> = self.session.list(Some(&alias.namespace)).await?;
        let holds = |key: &CustomerMasterKey| {
            let status = key.status.as_ref()?;
            let same_store = key.key_store_ref().to_string() == alias.store;
            let is_it = key.name_any() != but && same_store && status.alias.as_deref() == Some(&alias.alias);
            is_it.then(|| status.key_metadata.as_ref()?.key_id.parse::<Uuid>().ok())?
        };
        Ok(keys.iter().find_map(holds).map(|key_id| claim(alias.clone(), key_id)))
    }

    /// Whether the key that has an alias has no use for it any more.
    async fn is_void(&self, claim: &AliasClaim) -> Result<bool, Failure> {
        match self.key_with_id(&claim.slot.store, claim.key_id).await {
            Ok(key) => {
                Ok(key
                    .is_some_and(|key| key.record.owner.released || key.record.abandoned || key.record.is_tombstone()))
            }
            Err(error) if error.is_forbidden() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn material_is_there(
        &self,
        slot: &KeySlot,
        after: &CustomerMasterKey,
        assumptions: &mut Vec<String>,
    ) -> Result<bool, Failure> {
        let Some(material) = &after.spec.imported_key_material else { return Ok(true) };
        let secret = (slot.namespace.clone(), material.secret_ref.name.clone());
        if self.declared.secrets.contains(&secret) {
            return Ok(true);
        }
        // Without what is in it.
        let api: Api<Secret> = Api::namespaced(self.session.client.clone(), &slot.namespace);
        match api.get_metadata_opt(&secret.1).await.map_err(Failure::from) {
            Ok(found) => Ok(found.is_some()),
            Err(error) if error.is_forbidden() => {
                assumptions.push(format!("Secret {} holds the material: it could not be looked for", secret.1));
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    async fn data_keys(&self, slot: &KeySlot) -> Result<Vec<(String, String)>, Failure> {
        let (all, _) = self.session.data_keys_everywhere().await?;
        let under = all.iter().filter(|data_key| refers_to(data_key, &slot.namespace, &slot.name));
        Ok(under.map(|data_key| (data_key.namespace().unwrap_or_default(), data_key.name_any())).collect())
    }
}

fn stored(record: KeyRecord) -> StoredKey {
    StoredKey { record: Arc::new(record), revision: Revision { uid: String::new(), version: String::new() } }
}

fn claim(slot: AliasSlot, key_id: Uuid) -> AliasClaim {
    AliasClaim { slot, key_id, revision: Revision { uid: String::new(), version: String::new() } }
}
