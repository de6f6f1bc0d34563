//! `kubectl cmk plan`: what the reconciler would do to each key if manifests were applied. It asks the reconciler's own
//! pure plan, step by step, and carries the steps out on values; nothing is written.

mod manifests;
mod observe;
mod preview;
mod reconstruct;
mod report;
mod simulate;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    core::{ApiResource, DynamicObject},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    arguments::PlanArguments,
    failure::Failure,
    output::{note, print, serialized},
    refers_to,
    session::Session,
};
use crate::{
    api::{ClusterKeyStore, ClusterKeyStoreSpec, CustomerMasterKey, DataKey, GROUP},
    store::embedded::inspect::CAPABILITIES,
};
use manifests::Manifest;
use observe::{Declared, Observer, Sight};
use preview::{Applying, Preview, preview};
use report::{Action, Entry, Report, action, effects, not_ready};
use simulate::{World, simulate};

/// What is taken for granted about an object in a namespace that is only declared.
const NOT_ASKED: &str = "the admission policies allow it: its namespace is not there yet, so they could not be asked";

/// Plans manifests. The exit status is 0: nothing to do; 2: changes; 3: something is lost by them; 1: an error.
pub async fn plan(session: &Session, arguments: &PlanArguments) -> Result<ExitCode, Failure> {
    let manifests = manifests::read(&arguments.filenames, arguments.recursive)?;
    let mut planner = Planner {
        session,
        arguments,
        how: Applying { field_manager: arguments.field_manager.clone(), force_conflicts: arguments.force_conflicts },
        declared: Declared::default(),
        data_keys: OnceCell::new(),
        now: Timestamp::now(),
    };
    let report = planner.report(manifests).await;
    match arguments.output {
        Some(format) => print(&serialized(format, &report)?)?,
        None => print(&report.text(session.paint))?,
    };
    Ok(ExitCode::from(report.exit_status()))
}

/// Who might use a key. Not to know is no reason not to plan.
async fn data_keys(session: &Session) -> Vec<DataKey> {
    match session.data_keys_everywhere().await {
        Ok((data_keys, _)) => data_keys,
        Err(error) => {
            note(&format!("note: who uses a key is not known: {error}"));
            Vec::new()
        }
    }
}

struct Planner<'a> {
    session: &'a Session,
    arguments: &'a PlanArguments,
    how: Applying,
    declared: Declared,
    /// All that can be seen, once somebody asks.
    data_keys: OnceCell<Vec<DataKey>>,
    now: Timestamp,
}

/// A kind of ours.
#[derive(Clone, Copy)]
enum Kind {
    Store,
    Key,
    DataKey,
}

impl Planner<'_> {
    /// Plans each object, in the order in which they come into being: stores, keys, data keys.
    async fn report(&mut self, manifests: Vec<Manifest>) -> Report {
        let mut report = Report::default();
        let mut ours = Vec::new();
        for manifest in manifests {
            match kind_of(&manifest) {
                Some(kind) => ours.push((kind, manifest)),
                None => {
                    report.skipped += 1;
                    self.note_other(manifest);
                }
            }
        }
        ours.sort_by_key(|(kind, _)| *kind as u8);
        for (kind, manifest) in ours {
            let entry = match kind {
                Kind::Store => self.store(&manifest).await,
                Kind::Key => self.key(&manifest).await,
                Kind::DataKey => self.data_key(&manifest).await,
            };
            report.plan.push(entry.unwrap_or_else(|error| self.failed(&manifest, &error)));
        }
        report
    }

    /// Namespaces and Secrets are there before the keys that need them.
    fn note_other(&mut self, manifest: Manifest) {
        let Some(name) = manifest.metadata("name").map(ToOwned::to_owned) else { return };
        if manifest.is("", "Secret") {
            let namespace = manifest.metadata("namespace").unwrap_or(&self.session.namespace).to_owned();
            self.declared.secrets.push((namespace, name));
        } else if manifest.is("", "Namespace") {
            self.declared.namespaces.insert(name, manifest);
        }
    }

    /// The namespace that an object is applied in.
    fn namespace(&self, manifest: &Manifest) -> Result<String, Failure> {
        let given = self.session.namespace_given.then_some(self.session.namespace.as_str());
        match (manifest.metadata("namespace"), given) {
            (Some(of_object), Some(given)) if of_object != given => Err(manifest.problem(format!(
                "{} is in namespace {of_object}, and --namespace is {given}",
                manifest.metadata("name").unwrap_or_default()
            ))),
            (Some(of_object), _) => Ok(of_object.to_owned()),
            (None, _) => Ok(self.session.namespace.clone()),
        }
    }

    async fn preview<K>(&self, manifest: &Manifest) -> Result<Preview, Failure>
    where
        K: Resource<DynamicType = ()>,
    {
        let resource = ApiResource::erase::<K>(&());
        let client = self.session.client.clone();
        if manifest.is(GROUP, "ClusterKeyStore") {
            return preview(&Api::all_with(client, &resource), manifest, &self.how).await;
        }
        let namespace = self.namespace(manifest)?;
        let manifest = &in_namespace(manifest, &namespace);
        let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);
        match preview(&api, manifest, &self.how).await {
            Err(error) if is_missing_namespace(&error) && self.declared.namespaces.contains_key(&namespace) => {
                Ok(unseen(manifest))
            }
            answer => answer,
        }
    }

    /// An object that is only compared.
    fn compared(&self, manifest: &Manifest, preview: &Preview) -> Entry {
        let is_new = preview.live.is_none();
        let changed_fields = if is_new { Vec::new() } else { preview.changed_fields() };
        Entry { action: action(is_new, &[], &changed_fields), changed_fields, ..self.entry(manifest) }
    }

    async fn store(&mut self, manifest: &Manifest) -> Result<Entry, Failure> {
        let preview = self.preview::<ClusterKeyStore>(manifest).await?;
        let spec: ClusterKeyStoreSpec = read(manifest, &preview.after["spec"])?;
        let entry = self.compared(manifest, &preview);
        self.declared.stores.insert(entry.name.clone(), spec);
        Ok(entry)
    }

    async fn data_key(&self, manifest: &Manifest) -> Result<Entry, Failure> {
        let preview = self.preview::<DataKey>(manifest).await?;
        let data_key: DataKey = read(manifest, &preview.after)?;
        let entry = self.compared(manifest, &preview);
        if preview.asked {
            return Ok(entry);
        }
        data_key.validate_cel().map_err(|errors| manifest.problem(errors.to_string()))?;
        Ok(Entry { assumptions: vec![NOT_ASKED.into()], ..entry })
    }

    async fn key(&self, manifest: &Manifest) -> Result<Entry, Failure> {
        let preview = self.preview::<CustomerMasterKey>(manifest).await?;
        let is_new = preview.live.is_none();
        let live: Option<CustomerMasterKey> = preview.live.as_ref().map(|live| read(manifest, live)).transpose()?;
        let after: CustomerMasterKey = read(manifest, &preview.after)?;
        if !preview.asked {
            after.validate_cel().map_err(|errors| manifest.problem(errors.to_string()))?;
        }
        let not_asked = (!preview.asked).then(|| NOT_ASKED.to_owned());
        let changed_fields = if is_new { Vec::new() } else { preview.changed_fields() };
        let (namespace, name) = (after.namespace().unwrap_or_default(), after.name_any());
        let observer = Observer {
            session: self.session,
            operator_namespace: &self.arguments.operator.operator_namespace,
            declared: &self.declared,
        };
        let entry = Entry { changed_fields, ..self.entry(manifest) };
        match observer.look(live.as_ref(), after).await? {
            Sight::Hidden(why) => {
                let action = action(is_new, &[], &entry.changed_fields);
                Ok(Entry { action, unknown: Some(why), assumptions: not_asked.into_iter().collect(), ..entry })
            }
            Sight::Clear { observed, material_is_there, assumptions } => {
                let world = World { capabilities: CAPABILITIES, now: self.now, material_is_there };
                let course = simulate(*observed, world).map_err(|error| manifest.problem(error.to_string()))?;
                let effects = effects(&course, self.now);
                let action = action(is_new, &effects, &entry.changed_fields);
                let used_by = if action == Action::Destroy { self.users(&namespace, &name).await } else { Vec::new() };
                let assumptions = not_asked.into_iter().chain(assumptions).collect();
                Ok(Entry { action, effects, used_by, not_ready: not_ready(&course), assumptions, ..entry })
            }
        }
    }

    async fn users(&self, namespace: &str, name: &str) -> Vec<String> {
        let all = self.data_keys.get_or_init(|| data_keys(self.session)).await;
        let under = all.iter().filter(|data_key| refers_to(data_key, namespace, name));
        under.map(|d| format!("DataKey {}/{}", d.namespace().unwrap_or_default(), d.name_any())).collect()
    }

    fn entry(&self, manifest: &Manifest) -> Entry {
        let kind = manifest.text("kind").to_owned();
        Entry {
            namespace: if kind == "ClusterKeyStore" {
                String::new()
            } else {
                manifest.metadata("namespace").unwrap_or(&self.session.namespace).to_owned()
            },
            kind,
            name: manifest.metadata("name").unwrap_or_default().to_owned(),
            source: manifest.source.clone(),
            action: Action::Unchanged,
            effects: Vec::new(),
            changed_fields: Vec::new(),
            used_by: Vec::new(),
            not_ready: None,
            unknown: None,
            assumptions: Vec::new(),
            error: None,
        }
    }

    fn failed(&self, manifest: &Manifest, error: &Failure) -> Entry {
        Entry { action: Action::Error, error: Some(error.to_string()), ..self.entry(manifest) }
    }
}

fn kind_of(manifest: &Manifest) -> Option<Kind> {
    let kinds = [("ClusterKeyStore", Kind::Store), ("CustomerMasterKey", Kind::Key), ("DataKey", Kind::DataKey)];
    kinds.into_iter().find(|(kind, _)| manifest.is(GROUP, kind)).map(|(_, kind)| kind)
}

fn read<T: DeserializeOwned>(manifest: &Manifest, value: &Value) -> Result<T, Failure> {
    let value = if value.is_null() { json!({}) } else { value.clone() };
    serde_json::from_value(value).map_err(|error| manifest.problem(error.to_string()))
}

/// `namespaces "shop" not found`, which the API server says of an object to be made in it.
fn is_missing_namespace(error: &Failure) -> bool {
    let Failure::Api(kube::Error::Api(status)) = error else { return false };
    status.code == 404 && status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// The manifest, with its namespace.
fn in_namespace(manifest: &Manifest, namespace: &str) -> Manifest {
    let mut manifest = manifest.clone();
    manifest.object["metadata"]["namespace"] = json!(namespace);
    manifest
}

/// An object in a namespace that is declared but not there yet: as the manifest has it. No API server has looked at it.
fn unseen(manifest: &Manifest) -> Preview {
    let mut after = manifest.object.clone();
    // What the API server would give it.
    after["metadata"]["uid"] = json!("new");
    after["metadata"]["generation"] = json!(1);
    if after["spec"].is_null() {
        after["spec"] = json!({});
    }
    Preview { live: None, after, asked: false }
}
