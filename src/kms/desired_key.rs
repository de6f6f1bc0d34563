//! From a declared key to the steps that bring the key there.

use std::collections::BTreeMap;

use super::key_record::{KeyRecord, KeyStep};

/// What is declared about a key, with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredKey {
    /// The description.
    pub description: String,
    /// All the tags.
    pub tags: BTreeMap<String, String>,
    /// Whether the key may be used.
    pub enabled: bool,
    /// Whether the key is to be deleted.
    pub schedule_deletion: bool,
    /// The window of a deletion, in days.
    pub pending_deletion_days: i32,
}

/// A declared change that the key's state does not allow now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
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
    /// How to get from `record` to this.
    ///
    /// A deletion whose window was changed is cancelled and scheduled again, so its date counts from now
    /// (rule 4). Whether the key is enabled does not matter while it is to be deleted: it is settled when the
    /// deletion is cancelled.
    #[must_use]
    pub fn course_from(&self, record: &KeyRecord) -> Course {
        let mut steps = Vec::new();
        let mut pending = record.deletion.as_ref();
        let mut enabled = record.enabled;
        if let Some(deletion) = pending
            && !(self.schedule_deletion && deletion.pending_days == self.pending_deletion_days)
        {
            steps.push(KeyStep::CancelDeletion);
            pending = None;
            enabled = true;
        }

        let description_differs = record.description != self.description;
        let tags_differ = record.tags != self.tags;
        if pending.is_some() {
            let fields: Vec<_> = [(description_differs, "description"), (tags_differ, "tags")]
                .into_iter()
                .filter_map(|(differs, field)| differs.then_some(field))
                .collect();
            return Course { steps, blocked: (!fields.is_empty()).then_some(Blocked { fields }) };
        }

        if description_differs {
            steps.push(KeyStep::SetDescription(self.description.clone()));
        }
        if tags_differ {
            steps.push(KeyStep::SetTags(self.tags.clone()));
        }
        match (enabled, self.enabled) {
            (true, false) => steps.push(KeyStep::Disable),
            (false, true) => steps.push(KeyStep::Enable),
            _ => {}
        }
        if self.schedule_deletion {
            steps.push(KeyStep::ScheduleDeletion { days: self.pending_deletion_days });
        }
        Course { steps, blocked: None }
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
            schedule_deletion: false,
            pending_deletion_days: 366,
        }
    }

    #[test]
    fn nothing_to_do_is_no_step() {
        assert_eq!(desired().course_from(&record()), Course::default());
    }

    #[test]
    fn rule_4_the_date_does_not_move_at_later_passes() {
        let wanted = DesiredKey { schedule_deletion: true, pending_deletion_days: 30, ..desired() };
        let first = wanted.course_from(&record());
        assert_eq!(first.steps, [KeyStep::ScheduleDeletion { days: 30 }]);
        let scheduled = record().apply_all(&first.steps, at(0)).unwrap();
        assert_eq!(wanted.course_from(&scheduled), Course::default());
    }

    #[test]
    fn rule_4_a_changed_window_counts_from_now() {
        let scheduled = record().apply_all(&[KeyStep::ScheduleDeletion { days: 30 }], at(0)).unwrap();
        let wanted = DesiredKey { schedule_deletion: true, pending_deletion_days: 7, ..desired() };
        let course = wanted.course_from(&scheduled);
        assert_eq!(course.steps, [KeyStep::CancelDeletion, KeyStep::ScheduleDeletion { days: 7 }]);
        let moved = scheduled.apply_all(&course.steps, at(500)).unwrap();
        assert_eq!(moved.deletion.unwrap().delete_date, at(500 + 7 * 86_400));
    }

    #[test]
    fn a_window_alone_triggers_nothing() {
        let wanted = DesiredKey { pending_deletion_days: 7, ..desired() };
        assert_eq!(wanted.course_from(&record()), Course::default());
    }

    #[test]
    fn a_description_waits_until_the_deletion_is_cancelled() {
        let scheduled = record().apply_all(&[KeyStep::ScheduleDeletion { days: 366 }], at(0)).unwrap();
        let wanted = DesiredKey { schedule_deletion: true, description: "new".into(), ..desired() };
        let course = wanted.course_from(&scheduled);
        assert_eq!(course, Course { steps: vec![], blocked: Some(Blocked { fields: vec!["description"] }) });
        let cancelled = DesiredKey { schedule_deletion: false, ..wanted };
        assert_eq!(
            cancelled.course_from(&scheduled).steps,
            [KeyStep::CancelDeletion, KeyStep::SetDescription("new".into())]
        );
    }

    #[test]
    fn cancelling_a_disabled_key_leaves_it_disabled() {
        let steps = [KeyStep::Disable, KeyStep::ScheduleDeletion { days: 366 }];
        let scheduled = record().apply_all(&steps, at(0)).unwrap();
        let wanted = DesiredKey { enabled: false, ..desired() };
        assert_eq!(wanted.course_from(&scheduled).steps, [KeyStep::CancelDeletion, KeyStep::Disable]);
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
                    enabled, schedule_deletion, pending_deletion_days: days,
                };
                let course = wanted.course_from(&record);
                record = record.apply_all(&course.steps, now).unwrap();
                let again = wanted.course_from(&record);
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
