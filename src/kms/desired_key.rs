//! From a declared key to the steps that bring the key there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    key_record::KeyRecord,
    key_state::{KeyState, Origin},
    key_step::KeyStep,
    limits::MAX_KEY_VERSIONS,
};

/// What is declared about a key, with all defaults filled in, but for its alias, which is claimed first, and its
/// imported material, which has to be read first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredKey {
    /// The description.
    pub description: String,
    /// All the tags.
    pub tags: BTreeMap<String, String>,
    /// Whether the key may be used.
    pub enabled: bool,
    /// Whether the key is protected from deletion.
    pub deletion_protection: bool,
    /// Days between automatic rotations.
    pub rotation_interval_days: Option<i32>,
    /// The request for a rotation that was made last.
    pub rotation_request: Option<String>,
    /// Whether the key is to be deleted.
    pub schedule_deletion: bool,
    /// The window of a deletion, in days.
    pub pending_deletion_days: i32,
}

/// A declared change that the key's state does not allow now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The state.
    pub state: KeyState,
    /// The fields whose declared value can't be reached, by their names in the spec.
    pub fields: Vec<&'static str>,
}

/// The steps from what a key is to what is declared, and what can't be reached now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// The steps, in the order in which the state machine allows them.
    pub steps: Vec<KeyStep>,
    /// What has to wait.
    pub blocked: Option<Blocked>,
}

impl DesiredKey {
    /// How to get from `record` to this at `now`; a rotation would make the version `new_version`.
    ///
    /// A deletion whose window was changed is cancelled and scheduled again, so its date counts from now
    /// (rule 4). Whether the key is enabled does not matter while it is to be deleted, or has no material: it is
    /// settled when the deletion is cancelled, or material imported.
    #[must_use]
    pub fn course_from(&self, record: &KeyRecord, new_version: Uuid, now: Timestamp) -> Course {
        let schedule = self.schedule_deletion && !self.deletion_protection;
        let mut course = Walk { record: record.clone(), steps: Vec::new(), now };
        course.step_if(record.has_expired(now), KeyStep::ExpireMaterial);
        if let Some(deletion) = &record.deletion {
            if schedule && deletion.pending_days == self.pending_deletion_days {
                let blocked = self.blocked_by(KeyState::PendingDeletion, &course.record);
                return Course { steps: course.steps, blocked };
            }
            course.step(KeyStep::CancelDeletion);
        }
        self.describe(&mut course);
        let protects = course.record.deletion_protection != self.deletion_protection;
        course.step_if(protects, KeyStep::SetDeletionProtection(self.deletion_protection));

        // Enabling comes first and disabling last, so that what only an enabled key takes goes between.
        let state = course.state();
        course.step_if(state == KeyState::Disabled && self.enabled, KeyStep::Enable);
        let reschedules = course.record.rotation_interval_days != self.rotation_interval_days;
        if reschedules && course.state() == KeyState::Enabled {
            course.step(KeyStep::SetRotationInterval(self.rotation_interval_days));
        }
        if course.state() == KeyState::Enabled && self.enabled && !schedule {
            self.rotate(&mut course, new_version);
        }
        course.step_if(course.state() == KeyState::Enabled && !self.enabled, KeyStep::Disable);
        let blocked = self.blocked_by(course.state(), &course.record);
        course.step_if(schedule, KeyStep::ScheduleDeletion { days: self.pending_deletion_days });
        Course { steps: course.steps, blocked }
    }

    fn describe(&self, course: &mut Walk) {
        if course.record.description != self.description {
            course.step(KeyStep::SetDescription(self.description.clone()));
        }
        if course.record.tags != self.tags {
            course.step(KeyStep::SetTags(self.tags.clone()));
        }
    }

    /// The rotation that was requested, or is due (rule 8). At the last version there is none any more.
    fn rotate(&self, course: &mut Walk, version_id: Uuid) {
        let record = &course.record;
        let request = self.rotation_request.clone().filter(|request| !record.has_handled(request));
        let due = record.next_rotation(course.now).is_some_and(|next| next <= course.now);
        let possible = record.origin != Origin::External && record.versions.len() < MAX_KEY_VERSIONS;
        course.step_if(possible && (request.is_some() || due), KeyStep::Rotate { version_id, request });
    }

    /// What differs still, and the state that keeps it from being changed.
    fn blocked_by(&self, state: KeyState, record: &KeyRecord) -> Option<Blocked> {
        let differs = [
            (record.description != self.description, "description"),
            (record.tags != self.tags, "tags"),
            (record.deletion_protection != self.deletion_protection, "deletionProtection"),
            (record.rotation_interval_days != self.rotation_interval_days, "rotationIntervalDays"),
        ];
        let fields: Vec<_> = differs.into_iter().filter_map(|(differs, field)| differs.then_some(field)).collect();
        (!fields.is_empty()).then_some(Blocked { state, fields })
    }
}

impl KeyRecord {
    /// Whether a request for a rotation was answered.
    #[must_use]
    pub fn has_handled(&self, request: &str) -> bool {
        self.last_handled_rotation.as_deref() == Some(request)
    }
}

/// A course under way: each step is tried on a copy of the record, so that the next is decided on what it makes of
/// it. A step that the state machine refuses is left out.
struct Walk {
    record: KeyRecord,
    steps: Vec<KeyStep>,
    now: Timestamp,
}

impl Walk {
    fn state(&self) -> KeyState {
        self.record.state(self.now)
    }

    fn step(&mut self, step: KeyStep) {
        if self.record.apply(&step, self.now).is_ok() {
            self.steps.push(step);
        }
    }

    fn step_if(&mut self, condition: bool, step: KeyStep) {
        if condition {
            self.step(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kms::key_record::tests::{at, record};

    fn desired() -> DesiredKey {
        DesiredKey {
            description: String::new(),
            tags: BTreeMap::new(),
            enabled: true,
            deletion_protection: false,
            rotation_interval_days: None,
            rotation_request: None,
            schedule_deletion: false,
            pending_deletion_days: 366,
        }
    }

    /// The version that a rotation makes.
    const NEW: Uuid = Uuid::from_u128(9);

    fn from(desired: &DesiredKey, record: &KeyRecord) -> Course {
        desired.course_from(record, NEW, at(2000))
    }

    #[test]
    fn nothing_to_do_is_no_step() {
        assert_eq!(from(&desired(), &record()), Course::default());
    }

    #[test]
    fn rule_4_the_date_does_not_move_at_later_passes() {
        let wanted = DesiredKey { schedule_deletion: true, pending_deletion_days: 30, ..desired() };
        let first = from(&wanted, &record());
        assert_eq!(first.steps, [KeyStep::ScheduleDeletion { days: 30 }]);
        let scheduled = record().apply_all(&first.steps, at(0)).unwrap();
        assert_eq!(from(&wanted, &scheduled), Course::default());
    }

    #[test]
    fn rule_4_a_changed_window_counts_from_now() {
        let scheduled = record().apply_all(&[KeyStep::ScheduleDeletion { days: 30 }], at(0)).unwrap();
        let wanted = DesiredKey { schedule_deletion: true, pending_deletion_days: 7, ..desired() };
        let course = from(&wanted, &scheduled);
        assert_eq!(course.steps, [KeyStep::CancelDeletion, KeyStep::ScheduleDeletion { days: 7 }]);
        let moved = scheduled.apply_all(&course.steps, at(500)).unwrap();
        assert_eq!(moved.deletion.unwrap().delete_date, at(500 + 7 * 86_400));
    }

    #[test]
    fn a_window_alone_triggers_nothing() {
        let wanted = DesiredKey { pending_deletion_days: 7, ..desired() };
        assert_eq!(from(&wanted, &record()), Course::default());
    }

    #[test]
    fn a_description_waits_until_the_deletion_is_cancelled() {
        let scheduled = record().apply_all(&[KeyStep::ScheduleDeletion { days: 366 }], at(0)).unwrap();
        let wanted = DesiredKey { schedule_deletion: true, description: "new".into(), ..desired() };
        let course = from(&wanted, &scheduled);
        assert_eq!(
            course,
            Course {
                steps: vec![],
                blocked: Some(Blocked { state: KeyState::PendingDeletion, fields: vec!["description"] })
            }
        );
        let cancelled = DesiredKey { schedule_deletion: false, ..wanted };
        assert_eq!(
            from(&cancelled, &scheduled).steps,
            [KeyStep::CancelDeletion, KeyStep::SetDescription("new".into())]
        );
    }

    #[test]
    fn cancelling_a_disabled_key_leaves_it_disabled() {
        let steps = [KeyStep::Disable, KeyStep::ScheduleDeletion { days: 366 }];
        let scheduled = record().apply_all(&steps, at(0)).unwrap();
        let wanted = DesiredKey { enabled: false, ..desired() };
        assert_eq!(from(&wanted, &scheduled).steps, [KeyStep::CancelDeletion, KeyStep::Disable]);
    }

    fn rotation(request: Option<&str>) -> KeyStep {
        KeyStep::Rotate { version_id: NEW, request: request.map(str::to_owned) }
    }

    #[test]
    fn rule_8_a_rotation_is_due_by_interval_or_by_request() {
        const DAY: i64 = 86_400;
        let weekly = DesiredKey { rotation_interval_days: Some(7), ..desired() };
        let record = record().apply_all(&[KeyStep::SetRotationInterval(Some(7))], at(1000)).unwrap();
        let due = at(1000 + 7 * DAY);
        assert_eq!(weekly.course_from(&record, NEW, at(999 + 7 * DAY)).steps, []);
        assert_eq!(weekly.course_from(&record, NEW, due).steps, [rotation(None)]);
        let rotated = record.apply_all(&[rotation(None)], due).unwrap();
        assert_eq!(weekly.course_from(&rotated, NEW, due).steps, [], "the next one counts from this one");

        let asked = DesiredKey { rotation_request: Some("a".into()), ..weekly.clone() };
        assert_eq!(asked.course_from(&record, NEW, at(1000)).steps, [rotation(Some("a"))]);
        let both = asked.course_from(&record, NEW, due);
        assert_eq!(both.steps, [rotation(Some("a"))], "one rotation answers both");
        let answered = record.apply_all(&both.steps, due).unwrap();
        assert_eq!(asked.course_from(&answered, NEW, due).steps, []);
    }

    #[test]
    fn rule_8_nothing_rotates_that_is_not_enabled() {
        let asked = DesiredKey { rotation_request: Some("a".into()), ..desired() };
        let disabling = DesiredKey { enabled: false, ..asked.clone() };
        assert_eq!(from(&disabling, &record()).steps, [KeyStep::Disable]);
        let scheduling = DesiredKey { schedule_deletion: true, ..asked.clone() };
        assert_eq!(from(&scheduling, &record()).steps, [KeyStep::ScheduleDeletion { days: 366 }]);
        let disabled = record().apply_all(&[KeyStep::Disable], at(0)).unwrap();
        assert_eq!(from(&asked, &disabled).steps, [KeyStep::Enable, rotation(Some("a"))]);
    }

    #[test]
    fn rule_8_the_interval_changes_while_the_key_is_enabled() {
        let wanted = |enabled, days| DesiredKey { enabled, rotation_interval_days: Some(days), ..desired() };
        let interval = |days| KeyStep::SetRotationInterval(Some(days));
        assert_eq!(from(&wanted(false, 7), &record()).steps, [interval(7), KeyStep::Disable], "before it is disabled");
        let disabled = record().apply_all(&[interval(7), KeyStep::Disable], at(0)).unwrap();
        assert_eq!(from(&wanted(true, 9), &disabled).steps, [KeyStep::Enable, interval(9)], "after it is enabled");
        let blocked = Blocked { state: KeyState::Disabled, fields: vec!["rotationIntervalDays"] };
        assert_eq!(from(&wanted(false, 9), &disabled), Course { steps: vec![], blocked: Some(blocked) });
    }

    #[test]
    fn rule_7_a_protected_key_is_not_scheduled() {
        let both = DesiredKey { deletion_protection: true, schedule_deletion: true, ..desired() };
        assert_eq!(from(&both, &record()).steps, [KeyStep::SetDeletionProtection(true)]);
        let pending = record().apply_all(&[KeyStep::ScheduleDeletion { days: 366 }], at(0)).unwrap();
        let course = from(&both, &pending);
        assert_eq!(course.steps, [KeyStep::CancelDeletion, KeyStep::SetDeletionProtection(true)]);
    }

    proptest! {
        /// Whatever the key went through, the course is allowed by the state machine, leads to what is
        /// declared unless it says what is blocked, and is empty the second time.
        #[test]
        fn a_course_leads_to_what_is_declared(declarations in proptest::collection::vec(
            (0..3_u8, any::<bool>(), any::<bool>(), 7..10_i32), 1..8)) {
            let mut record = record();
            for (i, (text, enabled, schedule_deletion, days)) in declarations.into_iter().enumerate() {
                let now = at(i64::try_from(i).unwrap() * 60);
                let wanted = DesiredKey {
                    description: text.to_string(), tags: BTreeMap::from([("t".into(), text.to_string())]),
                    enabled, schedule_deletion, pending_deletion_days: days, ..desired()
                };
                let course = from(&wanted, &record);
                record = record.apply_all(&course.steps, now).unwrap();
                let again = from(&wanted, &record);
                prop_assert_eq!(&again.steps, &vec![]);
                prop_assert_eq!(&again.blocked, &course.blocked);
                prop_assert_eq!(record.deletion.is_some(), schedule_deletion);
                if course.blocked.is_none() {
                    prop_assert_eq!(&record.description, &wanted.description);
                    prop_assert_eq!(&record.tags, &wanted.tags);
                }
                if !schedule_deletion {
                    prop_assert_eq!(record.enabled, enabled);
                    prop_assert!(course.blocked.is_none());
                }
            }
        }
    }
}
