//! `kubectl cmk describe`: everything about a key at a glance, and what to do when something is wrong.

use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{core::v1::ObjectReference, events::v1::Event};
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use super::{
    arguments::DescribeArguments,
    doctor::findings::{Finding, Horizon, about_key},
    failure::Failure,
    output::{Paint, fields, note, print, serialized, table},
    session::Session,
    times::{age, when},
    tree::{Branch, branch, leaves},
};
use crate::api::{
    CustomerMasterKey, CustomerMasterKeyStatus, DataKey,
    allowed_namespaces::FromNamespaces,
    conditions::{self, READY},
    customer_master_key::{DeletionPolicy, KeyMetadata},
};

/// How many Events are shown: the newest.
const EVENTS_SHOWN: usize = 10;

/// Everything about a key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    key: CustomerMasterKey,
    tree: Branch,
    findings: Vec<Finding>,
    events: Vec<Happening>,
}

/// An Event.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Happening {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    #[serde(rename = "type")]
    type_: String,
    reason: String,
    count: i32,
    message: String,
}

/// Describes a key.
pub async fn describe(session: &Session, arguments: &DescribeArguments) -> Result<ExitCode, Failure> {
    let mut key = session.key(&arguments.name).await?;
    key.metadata.managed_fields = None;
    let (data_keys, all) = session.data_keys_everywhere().await.unwrap_or_else(|error| {
        note(&format!("note: the DataKeys are not shown: {error}"));
        (Vec::new(), true)
    });
    if !all {
        note(&format!("note: the DataKeys of namespace {} only, as you may not list all", session.namespace));
    }
    let events = events(session, &key).await.unwrap_or_else(|error| {
        note(&format!("note: the Events are not shown: {error}"));
        Vec::new()
    });
    let horizon = Horizon { now: Timestamp::now(), expiring_within: SignedDuration::from_hours(24 * 14) };
    let description =
        Description { tree: branch(&key, &data_keys), findings: about_key(&key, &data_keys, horizon), events, key };
    match arguments.output {
        Some(format) => print(&serialized(format, &description)?),
        None => print(&text(&description, &data_keys, session.paint, horizon.now)),
    }
}

/// The Events about a key, the newest last.
async fn events(session: &Session, key: &CustomerMasterKey) -> Result<Vec<Happening>, Failure> {
    let api: Api<Event> = Api::namespaced(session.client.clone(), &session.namespace);
    let uid = key.uid().unwrap_or_default();
    let found = api.list(&ListParams::default().fields(&format!("regarding.uid={uid}"))).await?;
    let is_about = |regarding: Option<&ObjectReference>| regarding.and_then(|r| r.uid.as_deref()) == Some(&uid);
    let mut all: Vec<_> =
        found.items.iter().filter(|event| is_about(event.regarding.as_ref())).map(happening).collect();
    all.sort_by_key(|happening| happening.time);
    Ok(all.split_off(all.len().saturating_sub(EVENTS_SHOWN)))
}

fn happening(event: &Event) -> Happening {
    let series = event.series.as_ref();
    let last = series.map(|series| series.last_observed_time.0).or_else(|| event.event_time.as_ref().map(|t| t.0));
    Happening {
        time: last.or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0)),
        type_: event.type_.clone().unwrap_or_default(),
        reason: event.reason.clone().unwrap_or_default(),
        count: series.map_or(1, |series| series.count),
        message: event.note.clone().unwrap_or_default(),
    }
}

fn text(description: &Description, data_keys: &[DataKey], paint: Paint, now: Timestamp) -> String {
    let Description { key, tree, findings, events } = description;
    let status = key.status.clone().unwrap_or_default();
    let mut out = heading(key, &status, paint);
    out += &fields(0, &rows(key, &status, now));
    let section = |title: &str, body: String| {
        if body.is_empty() { String::new() } else { format!("\n{}\n{body}", paint.strong(title)) }
    };
    let wrong = findings.iter().map(|finding| advice(finding, paint)).collect();
    out += &section("What to look at", wrong);
    let title = if data_keys.is_empty() { "Data keys" } else { "Data keys and Secrets" };
    out += &section(title, leaves(&tree.data_keys, paint));
    out += &section("Versions", versions(&status, now));
    out += &section("Conditions", conditions_table(&status, now));
    out + &section("Events", happenings(events, now))
}

fn heading(key: &CustomerMasterKey, status: &CustomerMasterKeyStatus, paint: Paint) -> String {
    let name = paint.strong(&format!("{}/{}", key.namespace().unwrap_or_default(), key.name_any()));
    let standing = match conditions::find(&status.conditions, READY) {
        _ if key.metadata.deletion_timestamp.is_some() => paint.careful("being deleted"),
        None => paint.careful("not answered by the operator yet"),
        Some(ready) if status.observed_generation != key.metadata.generation => {
            paint.careful(&format!("changed; before: {}", ready.message))
        }
        Some(ready) if ready.status == "True" => paint.good(&ready.message),
        Some(ready) => paint.bad(&format!("not as declared: {}", ready.reason)),
    };
    format!("{name}  {standing}\n\n")
}

/// One line each, and none about what is not.
fn rows(key: &CustomerMasterKey, status: &CustomerMasterKeyStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let spec = &key.spec;
    let mut rows = Vec::new();
    if let Some(metadata) = &status.key_metadata {
        rows.extend(identity(metadata, status, now));
    }
    rows.push(("Key store", key.key_store_ref().to_string()));
    if let Some(metadata) = &status.key_metadata {
        rows.extend(rotation(metadata, status, now));
    }
    if let Some(material) = &spec.imported_key_material {
        let expires = status.key_metadata.as_ref().and_then(|m| m.material_expire_time.as_ref());
        let expires = expires.map(|time| format!(", expires {}", when(time.0, now))).unwrap_or_default();
        rows.push((
            "Material",
            format!("Secret {}, entry {}{expires}", material.secret_ref.name, material.secret_ref.key),
        ));
    }
    let protection = if spec.deletion_protection.unwrap_or(false) { ", protected from deletion" } else { "" };
    let deletion = match (spec.effective_deletion_policy(), spec.pending_deletion_days) {
        (DeletionPolicy::Retain, _) => "the key stays when this object is deleted".to_owned(),
        (DeletionPolicy::ScheduleDeletion, Some(days)) => format!("{days} days after this object is deleted"),
        (DeletionPolicy::ScheduleDeletion, None) => "after the key store's window, when this object is deleted".into(),
    };
    rows.push(("Deletion", deletion + protection));
    if let Some(allowed) = &spec.allowed_namespaces {
        let who = match allowed.from {
            Some(FromNamespaces::All) => "all namespaces",
            Some(FromNamespaces::Selector) => "namespaces with the labels of spec.allowedNamespaces.selector",
            Some(FromNamespaces::Same) | None => "its own namespace",
        };
        rows.push(("Shared with", who.to_owned()));
    }
    let tags: Vec<_> = spec.tags.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    if !tags.is_empty() {
        rows.push(("Tags", tags.join(", ")));
    }
    if let Some(description) = spec.description.as_ref().filter(|text| !text.is_empty()) {
        rows.push(("Description", description.clone()));
    }
    rows
}

fn identity(metadata: &KeyMetadata, status: &CustomerMasterKeyStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut rows = vec![("State", metadata.key_state.to_string())];
    if let Some(date) = &metadata.delete_date {
        rows.push(("Deletes", when(date.0, now)));
    }
    rows.extend([("Key ID", metadata.key_id.clone()), ("ARN", metadata.arn.clone())]);
    rows.extend(status.alias.iter().map(|alias| ("Alias", alias.clone())));
    rows.extend([
        ("Origin", format!("{}, {}", metadata.origin.as_str(), metadata.key_spec)),
        ("Created", when(metadata.creation_date.0, now)),
    ]);
    rows
}

fn rotation(metadata: &KeyMetadata, status: &CustomerMasterKeyStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let (Some(interval), Some(automatic)) = (&metadata.rotation_interval, metadata.automatic_rotation) {
        let next = metadata.next_rotation_date.as_ref().map(|time| format!(", next {}", when(time.0, now)));
        let interval = days(interval).map_or_else(|| interval.clone(), |days| format!("{days} days"));
        rows.push(("Rotation", format!("{automatic:?}, every {interval}{}", next.unwrap_or_default())));
    }
    if let Some(last) = &metadata.last_rotation_date {
        rows.push(("Rotated", when(last.0, now)));
    }
    rows.extend(status.last_handled_rotation.iter().map(|request| ("Answered", format!("the request {request}"))));
    rows
}

/// Whole days in an interval such as `31536000s`.
fn days(interval: &str) -> Option<i64> {
    const DAY: i64 = 86_400;
    let seconds: i64 = interval.strip_suffix('s')?.parse().ok()?;
    (seconds % DAY == 0).then_some(seconds / DAY)
}

fn versions(status: &CustomerMasterKeyStatus, now: Timestamp) -> String {
    let primary = status.key_metadata.as_ref().and_then(|metadata| metadata.primary_key_version.clone());
    let rows: Vec<_> = status
        .key_versions
        .iter()
        .rev()
        .map(|version| {
            let encrypts = if primary.as_ref() == Some(&version.id) { "encrypts" } else { "decrypts" };
            vec![version.id.clone(), age(version.creation_date.0, now), encrypts.to_owned()]
        })
        .collect();
    table(2, &rows)
}

fn conditions_table(status: &CustomerMasterKeyStatus, now: Timestamp) -> String {
    let rows: Vec<_> = status
        .conditions
        .iter()
        .map(|c| {
            let since = age(c.last_transition_time.0, now);
            vec![c.type_.clone(), c.status.clone(), since, c.reason.clone(), c.message.clone()]
        })
        .collect();
    table(2, &rows)
}

fn happenings(events: &[Happening], now: Timestamp) -> String {
    let rows: Vec<_> = events
        .iter()
        .map(|event| {
            let times = if event.count > 1 { format!(" (x{})", event.count) } else { String::new() };
            let since = event.time.map(|time| age(time, now)).unwrap_or_default();
            vec![since + &times, event.type_.clone(), event.reason.clone(), event.message.clone()]
        })
        .collect();
    table(2, &rows)
}

/// A finding, as lines.
pub fn advice(finding: &Finding, paint: Paint) -> String {
    let remedy = finding.remedy.iter().map(|remedy| format!("    {remedy}\n")).collect::<String>();
    format!("  {}: {}\n{remedy}", paint.bad(&finding.reason), finding.message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_as_new_as_its_last_repetition() {
        let event: Event = serde_json::from_value(json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "type": "Warning", "reason": "AliasConflict", "note": "taken",
            "series": {"count": 3, "lastObservedTime": "2026-01-02T00:00:00.000000Z"},
        }))
        .unwrap();
        let happening = happening(&event);
        assert_eq!((happening.count, happening.time), (3, Some("2026-01-02T00:00:00Z".parse().unwrap())));
    }
}
