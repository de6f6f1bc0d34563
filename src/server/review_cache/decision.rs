//! What to do with a question, given what is remembered.

use std::time::Duration;

use super::Answer;

/// How long before an answer is too old it is asked for again: a fifth of its time.
const AHEAD: u32 = 5;

/// An answer, and its dates, in uptime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered<V> {
    pub value: V,
    asked: Duration,
    /// From then on it is asked for again, while it still counts.
    refresh_at: Duration,
    fresh_until: Duration,
    usable_until: Duration,
    is_good: bool,
}

impl<V> Remembered<V> {
    /// The time counts from when it was asked for: what was changed meanwhile, the answer may not know yet.
    pub fn new(answer: Answer<V>, asked: Duration) -> Self {
        let Answer { value, fresh_for, usable_for, is_good } = answer;
        let fresh_until = asked.saturating_add(fresh_for);
        let refresh_at = if is_good { fresh_until.saturating_sub(fresh_for / AHEAD) } else { fresh_until };
        Self { value, asked, refresh_at, fresh_until, usable_until: asked.saturating_add(usable_for), is_good }
    }

    /// Whether it may be used while the API server does not answer.
    pub fn is_usable(&self, now: Duration, max_staleness: Duration) -> bool {
        now < self.usable_until && now < self.asked.saturating_add(max_staleness)
    }

    /// What it is worth keeping it: refusals go first, then what was asked for first.
    pub fn worth(&self) -> (bool, Duration) {
        (self.is_good, self.asked)
    }
}

/// Whether the API server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It did, the last time.
    Answers,
    /// It did not.
    Silent {
        /// It is time to try again, and nobody else does.
        may_try: bool,
    },
}

/// What to do with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Use what is remembered.
    Use,
    /// Use what is remembered, and ask without waiting for it.
    UseAndAsk,
    /// Ask, and wait for the answer. Where there is none, what is remembered may do.
    Ask,
    /// Nobody can tell.
    Refuse,
}

/// What to do with a question. `reach` is asked only where it matters, as it lets one caller a second try.
pub fn decide<V>(
    remembered: Option<&Remembered<V>>,
    now: Duration,
    max_staleness: Duration,
    reach: impl FnOnce() -> Reach,
) -> Decision {
    if let Some(answer) = remembered.filter(|answer| now < answer.fresh_until) {
        if now < answer.refresh_at {
            return Decision::Use;
        }
        return match reach() {
            Reach::Answers | Reach::Silent { may_try: true } => Decision::UseAndAsk,
            Reach::Silent { may_try: false } => Decision::Use,
        };
    }
    let is_usable = remembered.is_some_and(|answer| answer.is_usable(now, max_staleness));
    match (reach(), is_usable) {
        (Reach::Answers, _) | (Reach::Silent { may_try: true }, false) => Decision::Ask,
        (Reach::Silent { may_try: true }, true) => Decision::UseAndAsk,
        (Reach::Silent { may_try: false }, true) => Decision::Use,
        (Reach::Silent { may_try: false }, false) => Decision::Refuse,
    }
}
