//! What a plan says: lines for people, data for programs, and the exit status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::simulate::Course;
use crate::{
    api::conditions::{self, READY},
    controller::customer_master_key::plan::Step,
    kms::{KeyRecord, KeyStep, Origin},
    plugin::output::Paint,
    store::NewKey,
};

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing.
    Unchanged,
    /// It changes.
    Change,
    /// It is made.
    Create,
    /// Something is lost, or can't be used any more.
    Destroy,
    /// It can't be planned.
    Error,
}

impl Action {
    fn mark(self) -> char {
        match self {
            Self::Unchanged => '=',
            Self::Change => '~',
            Self::Create => '+',
            Self::Destroy => '!',
            Self::Error => 'x',
        }
    }
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// What, in a few words.
    pub what: String,
    /// Something is lost by it, or can't be used any more.
    pub destructive: bool,
}

impl Effect {
    fn harmless(what: impl Into<String>) -> Self {
        Self { what: what.into(), destructive: false }
    }

    fn destructive(what: impl Into<String>) -> Self {
        Self { what: what.into(), destructive: true }
    }
}

/// What is planned for one object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The kind.
    pub kind: String,
    /// Empty for one of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The file of the manifest.
    pub source: String,
    /// What becomes of it, on the whole.
    pub action: Action,
    /// What is done to the key, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// What changes in the object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed_fields: Vec<String>,
    /// Who uses what is lost: DataKeys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
    /// Why the object is not as declared in the end: reason and message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<(String, String)>,
    /// Why what becomes of the key is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// What was not looked at, but taken to be so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumptions: Vec<String>,
    /// Why it can't be planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is planned.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// For each object.
    pub plan: Vec<Entry>,
    /// How many objects of other kinds were passed over.
    pub skipped: usize,
}

/// What a course of steps does to a key. What is only written down about it (finalizer, status) is not among it.
pub fn effects(course: &Course, now: Timestamp) -> Vec<Effect> {
    // An import that fails is no effect; why it fails is said.
    let fails = |step: &Step| matches!(step, Step::ImportMaterial { .. }) && course.end.import_problem.is_some();
    course.steps.iter().filter(|step| !fails(step)).flat_map(|step| of_step(step, now)).collect()
}

fn of_step(step: &Step, now: Timestamp) -> Vec<Effect> {
    match step {
        Step::LookAgain | Step::TakeOn { .. } | Step::WriteStatus(_) | Step::Rest => Vec::new(),
        // The claim of an alias is part of setting or removing it.
        Step::ClaimAlias { .. } | Step::ReleaseAlias(_) => Vec::new(),
        Step::CreateKey(new) => created(new),
        Step::UpdateKey { key, steps } => updated(&key.record, steps, now),
        Step::ImportMaterial { import, .. } => {
            vec![Effect::harmless(format!("import the material in Secret {}", import.source.secret))]
        }
        Step::Release => vec![Effect::harmless("let the object go")],
    }
}

/// A new key that is disabled, or to be deleted, takes nothing from anybody.
fn created(new: &NewKey) -> Vec<Effect> {
    let desired = &new.desired;
    let external = if new.origin == Origin::External { " without material" } else { "" };
    let disabled = (!desired.enabled).then(|| Effect::harmless("disabled"));
    let days = desired.pending_deletion_days;
    let deleted = desired.schedule_deletion.then(|| Effect::harmless(format!("to be deleted in {days} days")));
    std::iter::once(Effect::harmless(format!("create key{external}"))).chain(disabled).chain(deleted).collect()
}

fn updated(record: &KeyRecord, steps: &[KeyStep], now: Timestamp) -> Vec<Effect> {
    let after = record.apply_all(steps, now).unwrap_or_else(|_| record.clone());
    let was_scheduled = record.deletion.as_ref().map(|deletion| deletion.delete_date);
    let date = after.deletion.as_ref().map(|deletion| deletion.delete_date.to_string()).unwrap_or_default();
    // Cancelling comes before scheduling anew.
    let moved = was_scheduled.is_some() && after.deletion.is_some();
    steps
        .iter()
        .filter_map(|step| match step {
            KeyStep::Claim(_) if record.owner.released => {
                Some(Effect::harmless(format!("take back key {}", record.key_id)))
            }
            KeyStep::Claim(_) => Some(Effect::harmless(format!("adopt key {}", record.key_id))),
            KeyStep::Release => Some(Effect::harmless("let the key go")),
            KeyStep::Abandon => Some(Effect::destructive(format!("abandon key {}", record.key_id))),
            KeyStep::SetDescription(_) => Some(Effect::harmless("set description")),
            KeyStep::SetTags(_) => Some(Effect::harmless("set tags")),
            KeyStep::SetAlias(Some(alias)) => Some(Effect::harmless(format!("set {alias}"))),
            KeyStep::SetAlias(None) => {
                Some(Effect::harmless(format!("give up {}", record.alias.as_deref().unwrap_or("alias"))))
            }
            KeyStep::SetDeletionProtection(true) => Some(Effect::harmless("protect from deletion")),
            KeyStep::SetDeletionProtection(false) => Some(Effect::harmless("remove deletion protection")),
            KeyStep::SetRotationInterval(Some(days)) => Some(Effect::harmless(format!("rotate every {days} days"))),
            KeyStep::SetRotationInterval(None) => Some(Effect::harmless("stop rotating")),
            KeyStep::Rotate { .. } => Some(Effect::harmless("rotate")),
            KeyStep::ImportMaterial { .. } => Some(Effect::harmless("import material")),
            KeyStep::DeleteMaterial => Some(Effect::destructive("delete material")),
            KeyStep::ExpireMaterial => Some(Effect::destructive("delete expired material")),
            KeyStep::Enable => Some(Effect::harmless("enable")),
            KeyStep::Disable => Some(Effect::destructive("disable")),
            KeyStep::ScheduleDeletion { .. } if moved => {
                Some(Effect::destructive(format!("move the deletion to {date}")))
            }
            KeyStep::ScheduleDeletion { .. } => Some(Effect::destructive(format!("schedule deletion at {date}"))),
            KeyStep::CancelDeletion if moved => None,
            KeyStep::CancelDeletion => Some(Effect::harmless("cancel deletion")),
            KeyStep::Erase => Some(Effect::destructive("erase")),
        })
        .collect()
}

/// Reason and message of Ready at the end of a course, if it is not True.
pub fn not_ready(course: &Course) -> Option<(String, String)> {
    let status = course.end.object.status.as_ref()?;
    let ready = conditions::find(&status.conditions, READY).filter(|ready| ready.status != "True")?;
    Some((ready.reason.clone(), ready.message.clone()))
}

/// What becomes of an object on the whole.
pub fn action(is_new: bool, effects: &[Effect], changed_fields: &[String]) -> Action {
    if effects.iter().any(|effect| effect.destructive) {
        Action::Destroy
    } else if is_new {
        Action::Create
    } else if effects.is_empty() && changed_fields.is_empty() {
        Action::Unchanged
    } else {
        Action::Change
    }
}

impl Report {
    /// 0: nothing to do. 2: changes. 3: something is lost by them. 1: something can't be planned.
    pub fn exit_status(&self) -> u8 {
        match self.plan.iter().map(|entry| entry.action).max() {
            None | Some(Action::Unchanged) => 0,
            Some(Action::Error) => 1,
            Some(Action::Change | Action::Create) => 2,
            Some(Action::Destroy) => 3,
        }
    }

    /// For a person.
    pub fn text(&self, paint: Paint) -> String {
        let width = self.plan.iter().map(|entry| entry.title().chars().count()).max().unwrap_or_default();
        let lines: String =
            self.plan.iter().map(|entry| entry.text(&format!("{:width$}", entry.title()), paint)).collect();
        let gap = if lines.is_empty() { "" } else { "\n" };
        format!("{lines}{gap}{}{}\n", self.assumptions(paint), self.summary())
    }

    /// What was taken for granted, once each, and about which objects.
    fn assumptions(&self, paint: Paint) -> String {
        let mut about: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for entry in &self.plan {
            entry.assumptions.iter().for_each(|a| about.entry(a.as_str()).or_default().push(entry.title()));
        }
        if about.is_empty() {
            return String::new();
        }
        let line = |(assumption, titles): (&str, Vec<String>)| {
            let of = if titles.len() == self.plan.len() { String::new() } else { format!(" ({})", some_of(&titles)) };
            paint.faint(&format!("  {assumption}{of}")) + "\n"
        };
        format!("{}\n{}\n", paint.faint("Taken for granted:"), about.into_iter().map(line).collect::<String>())
    }

    fn summary(&self) -> String {
        let count = |action| self.plan.iter().filter(|entry| entry.action == action).count();
        let parts = [
            (count(Action::Create), "to create"),
            (count(Action::Change), "to change"),
            (count(Action::Destroy), "with loss"),
            (count(Action::Unchanged), "unchanged"),
            (count(Action::Error), "not planned"),
            (self.skipped, "of other kinds passed over"),
        ];
        let said: Vec<_> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(c, what)| format!("{c} {what}")).collect();
        if said.is_empty() { "Plan: there are no objects.".into() } else { format!("Plan: {}.", said.join(", ")) }
    }
}

impl Entry {
    /// The object, for a line: a key is what this is about, and has no kind.
    fn title(&self) -> String {
        match (self.kind.as_str(), self.namespace.as_str()) {
            ("CustomerMasterKey", namespace) => format!("{namespace}/{}", self.name),
            (kind, "") => format!("{kind} {}", self.name),
            (kind, namespace) => format!("{kind} {namespace}/{}", self.name),
        }
    }

    fn text(&self, title: &str, paint: Paint) -> String {
        let painted = |text: &str| match self.action {
            Action::Unchanged => paint.faint(text),
            Action::Change => paint.careful(text),
            Action::Create => paint.good(text),
            Action::Destroy | Action::Error => paint.bad(text),
        };
        let mut out = format!("{} {title}  {}\n", painted(&self.action.mark().to_string()), painted(&self.outcome()));
        if !self.used_by.is_empty() {
            out += &format!("    used by {}\n", some_of(&self.used_by));
        }
        if let Some((reason, message)) = &self.not_ready {
            out += &format!("    {}: {message}\n", paint.careful(&format!("then not Ready, {reason}")));
        }
        out.extend(self.unknown.iter().map(|why| format!("    {}: {why}\n", paint.careful("not known"))));
        out
    }

    /// What is done, in words.
    fn outcome(&self) -> String {
        if let Some(error) = &self.error {
            return error.clone();
        }
        if !self.effects.is_empty() {
            return self.effects.iter().map(|effect| effect.what.as_str()).collect::<Vec<_>>().join(", ");
        }
        let fields = self.changed_fields.join(", ");
        match self.action {
            Action::Create => "create".into(),
            Action::Unchanged => "unchanged".into(),
            _ if self.kind == "CustomerMasterKey" => {
                format!("change {fields} of the object; nothing to do for its key")
            }
            _ => format!("change {fields}"),
        }
    }
}

fn some_of(names: &[String]) -> String {
    const NAMED: usize = 5;
    let more = names.len().saturating_sub(NAMED);
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ") + &others
}
