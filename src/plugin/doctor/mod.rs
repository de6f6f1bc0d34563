//! `kubectl cmk doctor`: looks over the cluster, and says what is wrong and what to do.

pub mod findings;

use std::{
    collections::BTreeSet,
    fmt::Debug,
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::{Pod, Secret},
};
use kube::{Api, Resource, ResourceExt, api::ListParams, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    arguments::DoctorArguments,
    failure::Failure,
    output::{Paint, print, serialized},
    session::{Session, list_all, list_with},
};
use crate::{
    api::{
        ClusterKeyStore, CustomerMasterKey, DataKey, GROUP, VERSION, crds, metadata,
        policies::{self, PolicyOptions},
    },
    cluster::Guarded,
    store::embedded::inspect,
};
use findings::{Finding, Horizon, Severity, about_data_key, about_key, about_key_store, orphaned, unreadable};

/// How long to wait between two looks at what the operator has yet to answer.
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// How many objects that wait for an answer are named.
const NAMED: usize = 5;

/// What was looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// What was looked at, and found in order as a whole or not.
    checks: Vec<Check>,
    /// What was found.
    findings: Vec<Finding>,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Check {
    /// What.
    about: &'static str,
    /// What was seen.
    seen: String,
    /// None: it could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
}

impl Report {
    /// Notes a check, and what it found.
    fn add(&mut self, about: &'static str, seen: impl Into<String>, found: Vec<Finding>) {
        let ok = Some(found.iter().all(|finding| finding.severity == Severity::Note));
        self.checks.push(Check { about, seen: seen.into(), ok });
        self.findings.extend(found);
    }

    /// Notes that something could not be looked at.
    fn skip(&mut self, about: &'static str, why: &Failure) {
        self.checks.push(Check { about, seen: format!("not looked at: {why}"), ok: None });
    }

    fn wrong(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Wrong).count()
    }
}

/// Looks over the cluster. The exit status is 1 if something is wrong.
pub async fn doctor(session: &Session, arguments: &DoctorArguments) -> Result<ExitCode, Failure> {
    let horizon = Horizon { now: Timestamp::now(), expiring_within: arguments.expiring_within };
    let mut report = Report { checks: Vec::new(), findings: Vec::new() };
    if kinds(session, &mut report).await? {
        policies(session, &arguments.operator.operator_namespace, &mut report).await;
        let objects = Objects::read(session, arguments).await?;
        operator(session, arguments, &objects, &mut report).await;
        let told = key_stores(session, &mut report).await;
        records(session, arguments, &objects, &told, &mut report).await;
        judge(&objects, horizon, &mut report);
    }
    match arguments.output {
        Some(format) => print(&serialized(format, &report)?)?,
        None => print(&text(&report, session.paint))?,
    };
    Ok(if report.wrong() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the API server knows our kinds.
async fn kinds(session: &Session, report: &mut Report) -> Result<bool, Failure> {
    let wanted: Vec<_> = crds::crds().into_iter().map(|crd| (crd.spec.names.kind, crd.spec.names.plural)).collect();
    let served = match session.client.list_api_group_resources(&format!("{GROUP}/{VERSION}")).await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect(),
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let (there, missing): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, plural)| served.contains(plural));
    let found = missing.iter().map(|(kind, _)| {
        Finding::wrong("kinds", "KindMissing", format!("The API server does not know {kind}."))
            .remedied("cmk-operator crds | kubectl apply --server-side -f -")
    });
    let seen: Vec<_> = there.iter().map(|(kind, _)| kind.as_str()).collect();
    report.add("kinds", if seen.is_empty() { "none".into() } else { seen.join(", ") }, found.collect());
    Ok(!there.is_empty())
}

/// Whether our policies are there, and in force, for an operator in `namespace`.
async fn policies(session: &Session, namespace: &str, report: &mut Report) {
    let names = |listed: Vec<String>| listed.into_iter().collect::<BTreeSet<_>>();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(session.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(session.client.clone());
    let listed = async {
        let policies = list_all(&policies).await?.iter().map(ResourceExt::name_any).collect();
        let bindings = list_all(&bindings).await?;
        let bound = bindings.into_iter().filter_map(|binding| binding.spec?.policy_name).collect();
        Ok::<_, Failure>((names(policies), names(bound)))
    };
    let (there, bound) = match listed.await {
        Ok(listed) => listed,
        Err(error) => return report.skip("policies", &error),
    };
    let wanted = policies::policies(&PolicyOptions::default());
    let wanted: Vec<_> = wanted.iter().map(|policy| policy.policy.name_any()).collect();
    let missing: Vec<_> = wanted.iter().filter(|name| !there.contains(*name) || !bound.contains(*name)).collect();
    let remedy = if missing.is_empty() { String::new() } else { policies_command(session, namespace).await };
    let found = missing.iter().map(|name| {
        let message = if there.contains(*name) {
            format!("The ValidatingAdmissionPolicy {name} has no binding, so it is not in force.")
        } else {
            format!("The ValidatingAdmissionPolicy {name} is not installed.")
        };
        Finding::wrong("policies", "PolicyMissing", message).remedied(&remedy)
    });
    let seen = format!("{} of {} in force", wanted.len() - missing.len(), wanted.len());
    report.add("policies", seen, found.collect());
}

/// What installs the policies for the operator in `namespace`: for the ServiceAccount of its pods or, where none is seen,
/// the usual one. Policies for another user refuse every status that the operator writes.
async fn policies_command(session: &Session, namespace: &str) -> String {
    let pods = operator_pods(session, namespace).await.unwrap_or_default();
    let account = pods.into_iter().find_map(|pod| pod.spec?.service_account_name);
    let account = account.unwrap_or_else(|| metadata::MANAGER.to_owned());
    format!(
        "cmk-operator policies --namespace {namespace} --user system:serviceaccount:{namespace}:{account} | kubectl apply \
         --server-side -f - (--user: whom the operator runs as)"
    )
}

/// The operator's pods, as far as they are called so.
async fn operator_pods(session: &Session, namespace: &str) -> Result<Vec<Pod>, kube::Error> {
    let api: Api<Pod> = Api::namespaced(session.client.clone(), namespace);
    let labelled = ListParams::default().labels("app.kubernetes.io/name=cmk-operator");
    Ok(api.list(&labelled).await?.items)
}

/// The objects that are looked at.
struct Objects {
    keys: Vec<Guarded<CustomerMasterKey>>,
    data_keys: Vec<Guarded<DataKey>>,
    /// The namespace, if not all.
    namespace: Option<String>,
}

impl Objects {
    /// Those of all namespaces, or of the one that was given, or that may be seen.
    async fn read(session: &Session, arguments: &DoctorArguments) -> Result<Self, Failure> {
        let only_one = session.namespace_given && !arguments.all_namespaces;
        let all = if only_one { None } else { Some(session.list(None).await) };
        let (keys, namespace) = match all {
            Some(Ok(keys)) => (keys, None),
            Some(Err(error)) if !error.is_forbidden() || arguments.all_namespaces => return Err(error),
            _ => (session.list(Some(&session.namespace)).await?, Some(session.namespace.clone())),
        };
        let data_keys = session.list(namespace.as_deref()).await?;
        Ok(Self { keys, data_keys, namespace })
    }

    /// Whether all objects of a namespace are among them.
    fn covers(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|only| only == namespace)
    }

    fn place(&self) -> String {
        self.namespace.as_ref().map_or_else(|| "all namespaces".into(), |name| format!("namespace {name}"))
    }

    fn readable_data_keys(&self) -> Vec<DataKey> {
        self.data_keys.iter().filter_map(|object| object.0.as_ref().ok()).cloned().collect()
    }
}

/// Whether somebody answers the objects.
async fn operator(session: &Session, arguments: &DoctorArguments, objects: &Objects, report: &mut Report) {
    let mut found = Vec::new();
    let pods = operator_pods(session, &arguments.operator.operator_namespace).await.unwrap_or_default();
    found.extend(pods.iter().filter_map(not_running));
    let seen_pods = pods.len();
    let unanswered = |object: &(String, String, bool)| object.2;
    let keys = objects.keys.iter().filter_map(|key| key.0.as_ref().ok()).map(|key| waiting(key, answered_key(key)));
    let data_keys =
        objects.data_keys.iter().filter_map(|d| d.0.as_ref().ok()).map(|d| waiting(d, answered_data_key(d)));
    let (keys, data_keys): (Vec<_>, Vec<_>) = (keys.collect(), data_keys.collect());
    let count = keys.len() + data_keys.len();
    let deadline = Instant::now() + arguments.timeout;
    let mut silent = still_silent::<CustomerMasterKey>(session, keys, unanswered, answered_key, deadline).await;
    silent.extend(still_silent::<DataKey>(session, data_keys, unanswered, answered_data_key, deadline).await);
    if !silent.is_empty() {
        let named: Vec<_> = silent.iter().take(NAMED).cloned().collect();
        let more = silent.len().saturating_sub(NAMED);
        let others = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("Nobody answers {}{others}: their status is not about their spec.", named.join(", "));
        found.push(Finding::wrong("operator", "NotAnswered", message).remedied(format!(
            "See whether the operator runs in namespace {}, watches this namespace (--watch-namespaces), and what its \
             log says.",
            arguments.operator.operator_namespace
        )));
    }
    let seen = match (count, seen_pods) {
        (0, 0) => "no objects and no pod to tell by".to_owned(),
        (_, 0) => format!("{} of {count} objects answered", count - silent.len()),
        _ => format!("{} of {count} objects answered, {seen_pods} pods", count - silent.len()),
    };
    report.add("operator", seen, found);
}

/// A pod of the operator that does not run.
fn not_running(pod: &Pod) -> Option<Finding> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref())?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    (ready.status != "True").then(|| {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let why = ready.message.clone().unwrap_or_default();
        Finding::wrong(format!("Pod {namespace}/{name}"), "NotReady", format!("The operator's pod is not ready. {why}"))
            .remedied(format!("kubectl logs -n {namespace} {name}"))
    })
}

/// Namespace and name of an object, and whether its answer is missing.
fn waiting<K: Resource>(object: &K, answered: bool) -> (String, String, bool) {
    (object.namespace().unwrap_or_default(), object.name_any(), !answered)
}

fn answered_key(key: &CustomerMasterKey) -> bool {
    key.status.as_ref().and_then(|status| status.observed_generation) >= key.metadata.generation
}

fn answered_data_key(data_key: &DataKey) -> bool {
    data_key.status.as_ref().and_then(|status| status.observed_generation) >= data_key.metadata.generation
}

/// Those that have no answer at the deadline either, of the first few: one that is answered shows that somebody does.
async fn still_silent<K>(
    session: &Session,
    objects: Vec<(String, String, bool)>,
    unanswered: impl Fn(&(String, String, bool)) -> bool,
    answered: impl Fn(&K) -> bool,
    deadline: Instant,
) -> Vec<String>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let mut silent: Vec<_> = objects.into_iter().filter(unanswered).collect();
    while !silent.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let mut left = Vec::new();
        for (namespace, name, _) in silent {
            let api: Api<K> = Api::namespaced(session.client.clone(), &namespace);
            // Gone, or unreadable since: others speak about that.
            if let Ok(Some(object)) = api.get_opt(&name).await
                && !answered(&object)
            {
                left.push((namespace, name, true));
            }
        }
        silent = left;
    }
    let kind = K::kind(&()).into_owned();
    silent.into_iter().map(|(namespace, name, _)| format!("{kind} {namespace}/{name}")).collect()
}

/// Answers the stores that say themselves which of their keys have no object, as `KIND/NAME`.
async fn key_stores(session: &Session, report: &mut Report) -> Vec<String> {
    let api: Api<Guarded<ClusterKeyStore>> = Api::all(session.client.clone());
    let stores = match list_all(&api).await {
        Err(error) => {
            report.skip("key stores", &error);
            return Vec::new();
        }
        Ok(stores) => stores,
    };
    let found = stores.iter().flat_map(|store| match &store.0 {
        Ok(store) => about_key_store(store),
        Err(error) => vec![unreadable(format!("ClusterKeyStore {}", store.name_any()), &error.problem)],
    });
    report.add("key stores", stores.len().to_string(), found.collect());
    let tells = |store: &ClusterKeyStore| store.status.as_ref().is_some_and(|status| status.orphaned_keys.is_some());
    let readable = stores.iter().filter_map(|store| store.0.as_ref().ok());
    readable.filter(|store| tells(store)).map(|store| format!("ClusterKeyStore/{}", store.name_any())).collect()
}

/// Looks for key records without an object, in the stores that do not tell: the one that is there without an object has
/// no status to say it in.
async fn records(
    session: &Session,
    arguments: &DoctorArguments,
    objects: &Objects,
    told: &[String],
    report: &mut Report,
) {
    let api: Api<Secret> = Api::namespaced(session.client.clone(), &arguments.operator.operator_namespace);
    let of_type = ListParams::default().fields(&format!("type={}", metadata::KEY_RECORD_TYPE));
    let records: Vec<_> = match list_with(&api, of_type).await {
        Ok(secrets) => secrets.iter().filter_map(|secret| inspect::record(secret).ok()).collect(),
        Err(error) => return report.skip("records", &error),
    };
    let there: BTreeSet<_> =
        objects.keys.iter().map(|key| (key.namespace().unwrap_or_default(), key.name_any())).collect();
    let orphans: Vec<_> = records
        .iter()
        .map(|key| &key.record)
        .filter(|record| !record.owner.released && !record.abandoned && !record.is_tombstone())
        .filter(|record| !told.contains(&record.store) && objects.covers(&record.owner.namespace))
        .filter(|record| !there.contains(&(record.owner.namespace.clone(), record.owner.name.clone())))
        .map(|record| (record.key_id.to_string(), record.owner.namespace.clone(), record.owner.name.clone()))
        .collect();
    let about = format!("records in {}", arguments.operator.operator_namespace);
    report.add("records", records.len().to_string(), orphaned(&about, orphans.len(), &orphans).into_iter().collect());
}

/// What there is to say about the keys and data keys.
fn judge(objects: &Objects, horizon: Horizon, report: &mut Report) {
    let data_keys = objects.readable_data_keys();
    let of_keys = objects.keys.iter().flat_map(|key| match &key.0 {
        Ok(object) => about_key(object, &data_keys, horizon),
        Err(error) => vec![unreadable(named("CustomerMasterKey", key), &error.problem)],
    });
    report.add("keys", format!("{} in {}", objects.keys.len(), objects.place()), of_keys.collect());
    let of_data_keys = objects.data_keys.iter().flat_map(|data_key| match &data_key.0 {
        Ok(object) => about_data_key(object),
        Err(error) => vec![unreadable(named("DataKey", data_key), &error.problem)],
    });
    report.add("data keys", format!("{} in {}", objects.data_keys.len(), objects.place()), of_data_keys.collect());
}

fn named(kind: &str, object: &impl Resource) -> String {
    format!("{kind} {}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn text(report: &Report, paint: Paint) -> String {
    let width = report.checks.iter().map(|check| check.about.len()).max().unwrap_or_default();
    let mut out: String = report
        .checks
        .iter()
        .map(|check| {
            let mark = match check.ok {
                Some(true) => paint.good("ok     "),
                Some(false) => paint.bad("wrong  "),
                None => paint.careful("unknown"),
            };
            format!("{mark}  {:width$}  {}\n", check.about, check.seen)
        })
        .collect();
    for finding in &report.findings {
        let about = match finding.severity {
            Severity::Wrong => paint.bad(&finding.about),
            Severity::Note => paint.careful(&finding.about),
        };
        out += &format!("\n{about}  {}\n  {}\n", finding.reason, finding.message);
        out.extend(finding.remedy.iter().map(|remedy| format!("  -> {remedy}\n")));
    }
    let verdict = match report.wrong() {
        0 => paint.good("Nothing is wrong."),
        1 => paint.bad("1 thing is wrong."),
        count => paint.bad(&format!("{count} things are wrong.")),
    };
    out + &format!("\n{verdict}\n")
}
