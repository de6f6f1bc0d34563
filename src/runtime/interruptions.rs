//! What is logged of a watch that fails: the first failure, any other failure, the same one once a minute, and the end of it.
//! A watch is tried again within two seconds, so that what changed meanwhile is seen soon, and all of them fail together.

use std::time::{Duration, Instant};

/// How often the same failure is logged.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// A watch, and how long it has been failing.
#[derive(Debug, Default)]
pub struct Interruptions(Option<Interruption>);

#[derive(Debug)]
struct Interruption {
    /// How often it failed in a row.
    failures: u64,
    /// What was logged last, and when.
    said: (String, Instant),
}

impl Interruptions {
    /// It failed. Whether that is to be logged as a warning.
    pub fn failed(&mut self, error: &str, now: Instant) -> bool {
        let failures = self.0.as_ref().map_or(0, |interruption| interruption.failures) + 1;
        let known = self.0.take().map(|interruption| interruption.said);
        let known = known.filter(|(said, at)| said == error && now.saturating_duration_since(*at) < SAY_AGAIN);
        let is_news = known.is_none();
        self.0 = Some(Interruption { failures, said: known.unwrap_or_else(|| (error.to_owned(), now)) });
        is_news
    }

    /// It showed something. How often it had failed before, if it had.
    pub fn went_on(&mut self) -> Option<u64> {
        self.0.take().map(|interruption| interruption.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_said_once_a_minute() {
        let (mut watch, began) = (Interruptions::default(), Instant::now());
        let mut said = |second, error| watch.failed(error, began + Duration::from_secs(second));
        assert_eq!((0..180).filter(|second| said(*second, "gone")).collect::<Vec<_>>(), [0, 60, 120]);
        assert!(said(181, "refused"), "another failure");
        assert!(!said(182, "refused"));
        assert_eq!(watch.went_on(), Some(182));
        assert_eq!(watch.went_on(), None);
        assert!(watch.failed("refused", began + Duration::from_secs(183)), "it is another interruption");
    }
}
