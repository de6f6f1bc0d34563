//! What is logged, and changing that while the operator runs.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{Registry, filter::Targets, reload};

use crate::server::audit;

/// Where our own events come from.
const OURS: &str = "cmk_operator";

/// What libraries may say at most: their traces show parts of what they transport.
const LIBRARIES: LevelFilter = LevelFilter::DEBUG;

/// Of these less. kube's client logs the whole answer as a warning when it can't read one, and that may be a Secret.
const BOUNDED: [(&str, LevelFilter); 1] = [("kube_client::client", LevelFilter::ERROR)];

/// A level that is none.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLevels {
    /// It can't be read.
    #[error("{levels}: {problem}")]
    Malformed {
        /// What was asked for.
        levels: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Logging has ended.
    #[error("the levels can't be changed any more: {0}")]
    Ended(String),
}

/// The levels that are in force. Clones share them.
#[derive(Clone)]
pub struct LogLevels {
    handle: reload::Handle<Targets, Registry>,
    initial: Arc<str>,
    current: Arc<Mutex<String>>,
    /// The level of audit lines: nobody turns them off while the operator runs.
    audit: LevelFilter,
}

impl LogLevels {
    /// Begins with these levels, and answers the filter that they control.
    ///
    /// # Errors
    /// [`InvalidLevels::Malformed`]
    pub fn begin(initial: &str) -> Result<(Self, reload::Layer<Targets, Registry>), InvalidLevels> {
        let targets = filter(initial, None)?;
        let audit = effective(&targets, audit::TARGET);
        let (layer, handle) = reload::Layer::new(targets);
        Ok((Self { handle, initial: initial.into(), current: Arc::new(Mutex::new(initial.to_owned())), audit }, layer))
    }

    /// What is in force, as it was asked for.
    #[must_use]
    pub fn current(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it, but for audit lines.
    ///
    /// # Errors
    /// [`InvalidLevels`]; what was in force stays.
    pub fn change(&self, levels: &str) -> Result<(), InvalidLevels> {
        let targets = filter(levels, Some(self.audit))?;
        // Held until the end, so that what is said to be in force is.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.handle.reload(targets).map_err(|error| InvalidLevels::Ended(error.to_string()))?;
        let before = std::mem::replace(&mut *current, levels.to_owned());
        tracing::error!(before, now = levels, "the log level was changed");
        Ok(())
    }

    /// Goes back to what it was in the beginning.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub fn reset(&self) -> Result<(), InvalidLevels> {
        self.change(&self.initial.clone())
    }
}

/// The filter for these levels: within the bounds of what libraries may say, and never so that a change of levels goes
/// unseen. `audit`: the level of audit lines, whatever is asked for.
fn filter(levels: &str, audit: Option<LevelFilter>) -> Result<Targets, InvalidLevels> {
    let malformed = |problem: String| InvalidLevels::Malformed { levels: levels.to_owned(), problem };
    let asked: Targets =
        levels.parse().map_err(|e: tracing_subscriber::filter::ParseError| malformed(e.to_string()))?;
    let default = asked.default_level().unwrap_or(LevelFilter::OFF);
    let mut targets = Targets::new().with_default(default.min(LIBRARIES)).with_target(OURS, default);
    for (target, level) in asked.iter() {
        let is_ours = target == OURS || target.starts_with("cmk_operator::");
        targets = targets.with_target(target, if is_ours { level } else { level.min(LIBRARIES) });
    }
    for (target, bound) in BOUNDED {
        let parts: Vec<_> = asked.iter().filter(|(asked, _)| asked.starts_with(target)).collect();
        let level = effective(&asked, target);
        targets = parts.iter().fold(targets, |targets, (part, level)| targets.with_target(*part, (*level).min(bound)));
        targets = targets.with_target(target, level.min(bound));
    }
    if let Some(audit) = audit {
        targets = targets.with_target(audit::TARGET, audit);
    }
    let own = effective(&targets, module_path!()).max(LevelFilter::ERROR);
    Ok(targets.with_target(module_path!(), own))
}

/// The most that is shown of a target.
fn effective(targets: &Targets, target: &str) -> LevelFilter {
    let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
    levels
        .into_iter()
        .find(|level| targets.would_enable(target, level))
        .map_or(LevelFilter::OFF, LevelFilter::from_level)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBE: &str = "kube_client::client";

    /// (asked for, target, the most that is shown)
    const TABLE: [(&str, &str, LevelFilter); 17] = [
        ("info", "cmk_operator::runtime", LevelFilter::INFO),
        ("info", "hyper::proto", LevelFilter::INFO),
        ("info", KUBE, LevelFilter::ERROR),
        ("trace", "cmk_operator::runtime", LevelFilter::TRACE),
        ("trace", "hyper::proto", LevelFilter::DEBUG),
        ("trace", "rustls::client", LevelFilter::DEBUG),
        ("trace", KUBE, LevelFilter::ERROR),
        ("info,hyper=trace", "hyper::proto", LevelFilter::DEBUG),
        ("info,kube_client=trace", KUBE, LevelFilter::ERROR),
        ("info,kube_client=trace", "kube_client::config", LevelFilter::DEBUG),
        ("info,kube_client::client=trace", KUBE, LevelFilter::ERROR),
        ("info,kube_client::client::body=trace", "kube_client::client::body", LevelFilter::ERROR),
        ("off", KUBE, LevelFilter::OFF),
        ("warn,cmk_operator=debug", "cmk_operator::controller", LevelFilter::DEBUG),
        ("warn,cmk_operator=debug", "hyper", LevelFilter::WARN),
        ("warn,cmk_operator::controller=trace", "cmk_operator::server", LevelFilter::WARN),
        ("off", module_path!(), LevelFilter::ERROR),
    ];

    #[test]
    fn levels_stay_within_what_shows_no_secrets() {
        for (asked, target, expected) in TABLE {
            let target = if target == module_path!() { "cmk_operator::runtime::log_levels" } else { target };
            assert_eq!(effective(&filter(asked, None).unwrap(), target), expected, "{asked}, {target}");
        }
        assert!(matches!(filter("info,x=!", None), Err(InvalidLevels::Malformed { .. })));
    }

    #[test]
    fn audit_lines_stay_what_they_were_in_the_beginning() {
        let audited = |initial: &str, changed: &str| {
            let (levels, _layer) = LogLevels::begin(initial).unwrap();
            effective(&filter(changed, Some(levels.audit)).unwrap(), audit::TARGET)
        };
        assert_eq!(audited("info", "error"), LevelFilter::INFO);
        assert_eq!(audited("info", "info,cmk_operator::audit=off"), LevelFilter::INFO);
        assert_eq!(audited("info,cmk_operator::audit=off", "trace"), LevelFilter::OFF);
        assert_eq!(audited("warn", "info"), LevelFilter::WARN, "it was off in the beginning");
    }

    #[test]
    fn levels_change_and_go_back() {
        let (levels, layer) = LogLevels::begin("info").unwrap();
        levels.change("debug").unwrap();
        assert_eq!(levels.current(), "debug");
        assert!(levels.change("x=!").is_err());
        assert_eq!(levels.current(), "debug", "what was in force stays");
        levels.reset().unwrap();
        assert_eq!(levels.current(), "info");
        drop(layer);
        assert!(matches!(levels.change("debug"), Err(InvalidLevels::Ended(_))));
        assert_eq!(levels.current(), "info");
    }
}
