//! Who leads, as a pure function of what was seen of the Lease, and when.
//!
//! A lease expires when it was not renewed for its duration *as this process saw it*: clocks of different machines are
//! never compared. So its times are written for people, and not read.

use std::time::{Duration, Instant};

/// How long things may take. As in client-go, with its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease holds that is not renewed.
    pub lease_duration: Duration,
    /// How long a leader goes on that can't renew. Shorter than the lease, so that it stops before another begins.
    pub renew_deadline: Duration,
    /// How long to wait between two tries.
    pub retry_period: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// Whether a leader stops before another can begin.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self) -> Result<(), String> {
        if self.lease_duration.subsec_nanos() != 0 {
            return Err("--leader-elect-lease-duration: whole seconds only, as the Lease holds no others".into());
        }
        if i32::try_from(self.lease_duration.as_secs()).is_err() {
            return Err(format!("--leader-elect-lease-duration: at most {} s, as the Lease holds no more", i32::MAX));
        }
        if self.retry_period.is_zero() {
            return Err("--leader-elect-retry-period: more than nothing".into());
        }
        if self.retry_period >= self.renew_deadline {
            return Err("--leader-elect-retry-period: less than --leader-elect-renew-deadline".into());
        }
        if self.renew_deadline + self.retry_period >= self.lease_duration {
            return Err("--leader-elect-lease-duration: more than --leader-elect-renew-deadline and \
                        --leader-elect-retry-period together, so that a leader stops before another begins"
                .into());
        }
        Ok(())
    }
}

/// What a Lease says, as far as it decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who holds it. Empty: it was given up.
    pub holder: String,
    /// How long it holds.
    pub duration: Duration,
    /// Its version: another one is another renewal.
    pub version: String,
}

/// What was seen of the Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    held: Option<(Held, Instant)>,
}

impl Seen {
    /// Takes note of the Lease as it is. None: there is none.
    pub fn note(&mut self, held: Option<Held>, now: Instant) {
        self.held = match (held, self.held.take()) {
            (Some(new), Some((known, since))) if known == new => Some((known, since)),
            (Some(new), _) => Some((new, now)),
            (None, _) => None,
        };
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no Lease: make it.
    Create,
    /// It is ours, or given up, or has expired: write it, at the version seen.
    Hold,
    /// Another one holds it.
    Wait,
}

/// Decides.
#[must_use]
pub fn decide(seen: &Seen, identity: &str, now: Instant) -> Step {
    match &seen.held {
        None => Step::Create,
        Some((held, _)) if held.holder == identity || held.holder.is_empty() => Step::Hold,
        Some((held, since)) if now.saturating_duration_since(*since) >= held.duration => Step::Hold,
        Some(_) => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn held(holder: &str, version: &str) -> Option<Held> {
        Some(Held { holder: holder.into(), duration: 15 * SECOND, version: version.into() })
    }

    #[test]
    fn a_lease_is_held_by_whoever_renews_it() {
        let start = Instant::now();
        let mut seen = Seen::default();
        assert_eq!(decide(&seen, "a", start), Step::Create);
        seen.note(held("b", "1"), start);
        assert_eq!(decide(&seen, "b", start), Step::Hold);
        assert_eq!(decide(&seen, "a", start), Step::Wait);
        assert_eq!(decide(&seen, "a", start + 14 * SECOND), Step::Wait);
        assert_eq!(decide(&seen, "a", start + 15 * SECOND), Step::Hold, "not renewed for its duration");

        // Seen again without a change: the time goes on. Renewed: it begins anew.
        seen.note(held("b", "1"), start + 10 * SECOND);
        assert_eq!(decide(&seen, "a", start + 15 * SECOND), Step::Hold);
        seen.note(held("b", "2"), start + 14 * SECOND);
        assert_eq!(decide(&seen, "a", start + 28 * SECOND), Step::Wait);
        assert_eq!(decide(&seen, "a", start + 29 * SECOND), Step::Hold);
    }

    #[test]
    fn one_that_was_given_up_or_deleted_is_free_at_once() {
        let start = Instant::now();
        let mut seen = Seen::default();
        seen.note(held("b", "1"), start);
        seen.note(held("", "2"), start + SECOND);
        assert_eq!(decide(&seen, "a", start + SECOND), Step::Hold);
        seen.note(None, start + 2 * SECOND);
        assert_eq!(decide(&seen, "a", start + 2 * SECOND), Step::Create);
    }

    #[test]
    fn the_defaults_fit_together() {
        assert_eq!(Timing::default().check(), Ok(()));
        let longest = |seconds| Timing { lease_duration: Duration::from_secs(seconds), ..Timing::default() }.check();
        assert_eq!(longest(2_147_483_647), Ok(()));
        assert!(longest(2_147_483_648).unwrap_err().contains("at most"), "a Lease can't say that");
    }
}
