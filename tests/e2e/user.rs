//! What a user does: types commands, and sees what becomes of them.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, Ran};
use crate::screen::{Failed, Screen};

/// What a topic answers.
pub type Seen = Result<(), Failed>;

/// Where the operator is installed.
pub const OPERATOR_NAMESPACE: &str = "cmk-system";

/// Between two looks at something that is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How many lines of a command's output are shown.
const LINES_SHOWN: usize = 40;

pub struct User<'a> {
    pub screen: &'a mut Screen,
    pub cluster: &'a Cluster,
}

impl User<'_> {
    /// Types a command, which has to succeed.
    pub fn run(&mut self, line: &str) -> Result<String, Failed> {
        let Ran { text, success } = self.type_in(line);
        if !success {
            self.screen.expect("the command to succeed", false)?;
        }
        Ok(text)
    }

    /// Types a command, which has to be refused.
    pub fn refused(&mut self, line: &str) -> Result<String, Failed> {
        let Ran { text, success } = self.type_in(line);
        if success {
            self.screen.expect("the command to be refused", false)?;
        }
        Ok(text)
    }

    fn type_in(&mut self, line: &str) -> Ran {
        self.screen.command(line);
        let ran = self.cluster.shell(line);
        let lines: Vec<_> = ran.text.trim_end().lines().collect();
        for line in lines.iter().take(LINES_SHOWN) {
            self.screen.say(line);
        }
        if lines.len() > LINES_SHOWN {
            self.screen.say(format!("… and {} more lines", lines.len() - LINES_SHOWN));
        }
        ran
    }

    /// Something that is looked up without being shown.
    pub fn look_up(&mut self, line: &str) -> Result<String, Failed> {
        let Ran { text, success } = self.cluster.shell(line);
        if !success {
            self.screen.expect(format!("{line} to succeed: {text}"), false)?;
        }
        Ok(text)
    }

    /// Objects, as `kubectl get … -o json` answers them: the items of a list, or the one object.
    pub fn objects(&mut self, what: &str) -> Result<Vec<Value>, Failed> {
        let text = self.look_up(&format!("kubectl get {what} -o json"))?;
        let Ok(mut found) = serde_json::from_str::<Value>(&text) else {
            self.screen.expect(format!("JSON from kubectl get {what}: {text}"), false)?;
            return Err(Failed);
        };
        match found["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(vec![found]),
        }
    }

    pub fn expect(&mut self, what: &str, seen: bool) -> Seen {
        self.screen.expect(what, seen)
    }

    /// The same for two values, of which the one that was seen is shown if it is another.
    pub fn expect_equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, seen: T, expected: T) -> Seen {
        if seen == expected {
            self.screen.expect(what, true)
        } else {
            self.screen.expect(format!("{what}: {expected:?}, not {seen:?}"), false)
        }
    }

    /// Looks until something is there, and answers it. `attempt` gets the cluster to look at.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut attempt: impl FnMut(&Cluster) -> Result<T, String>,
    ) -> Result<T, Failed> {
        let started = Instant::now();
        loop {
            match attempt(self.cluster) {
                Ok(found) => {
                    self.screen.expect(format!("{what} ({:.1} s)", started.elapsed().as_secs_f32()), true)?;
                    return Ok(found);
                }
                Err(error) if started.elapsed() >= within => {
                    self.screen.expect(format!("{what}, within {} s: {error}", within.as_secs()), false)?;
                    return Err(Failed);
                }
                Err(_) => thread::sleep(POLL_INTERVAL),
            }
        }
    }

    /// Says why a step is not made.
    pub fn skip(&mut self, what: &str, why: &str) {
        self.screen.say(format!("skipped: {what}: {why}"));
    }

    /// The id of a key in the namespace of the examples.
    pub fn key_id(&mut self, name: &str) -> Result<String, Failed> {
        self.look_up(&format!("kubectl get cmk {name} -n shop -o jsonpath='{{.status.keyMetadata.keyId}}'"))
    }

    /// Waits until the operator's Deployment is rolled out.
    pub fn operator_rolled_out(&mut self) -> Seen {
        self.run(&format!("kubectl rollout status deployment/cmk-operator -n {OPERATOR_NAMESPACE} --timeout=120s"))
            .map(drop)
    }
}
