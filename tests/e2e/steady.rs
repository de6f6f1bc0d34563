//! An application that encrypts and decrypts all the time through the Service, while things happen to the operator.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::screen::Failed;
use crate::user::{Seen, User};

/// How long the application may take to say that it made requests.
const COUNTED_WITHIN: Duration = Duration::from_secs(60);

/// What it has seen since its start. It prints one of these a second: see app/steady.go.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub requests: u64,
    pub retried: u64,
    pub failed: u64,
    pub longest_ms: u64,
    pub errors: Vec<String>,
    pub reasons: Vec<String>,
}

/// The application, from its start on.
pub struct Steady {
    pod: &'static str,
    started: Instant,
}

impl Steady {
    /// Starts it, and waits until it makes requests. Each is tried `attempts` times: 2 is one retry.
    pub fn start(user: &mut User, pod: &'static str, attempts: u32) -> Result<Self, Failed> {
        user.run(&format!(
            "sed 's/NAME/{pod}/; s/ATTEMPTS/{attempts}/' tests/e2e/manifests/steady.yaml | kubectl apply -f -"
        ))?;
        let steady = Self { pod, started: Instant::now() };
        user.wait_for("the application makes requests", COUNTED_WITHIN, |cluster| {
            let text = cluster.shell(&steady.last_line()).text;
            let summary = parse(&text)?;
            if summary.requests > 20 { Ok(()) } else { Err(text) }
        })?;
        Ok(steady)
    }

    fn last_line(&self) -> String {
        format!("kubectl logs {} -n shop --tail=1", self.pod)
    }

    /// What it has seen so far.
    pub fn so_far(&self, user: &mut User) -> Result<Summary, Failed> {
        let text = user.look_up(&self.last_line())?;
        match parse(&text) {
            Ok(summary) => Ok(summary),
            Err(error) => {
                user.expect(&format!("a summary from {}: {error}", self.pod), false)?;
                Err(Failed)
            }
        }
    }

    /// Waits until it made `requests` more than it had made, so that it has seen what is the case now.
    pub fn goes_on(&self, user: &mut User, requests: u64) -> Seen {
        let before = self.so_far(user)?.requests;
        user.wait_for(&format!("{requests} more requests are answered"), COUNTED_WITHIN, |cluster| {
            let text = cluster.shell(&self.last_line()).text;
            let summary = parse(&text)?;
            if summary.requests >= before + requests { Ok(()) } else { Err(text) }
        })
    }

    /// Ends it. No request has failed, with the retries that it was given.
    pub fn finish(self, user: &mut User) -> Result<Summary, Failed> {
        self.goes_on(user, 20)?;
        let summary = self.so_far(user)?;
        user.screen.say(format!(
            "{}: {} requests in {} s, {} of them retried, {} failed; the longest took {} ms",
            self.pod,
            summary.requests,
            self.started.elapsed().as_secs(),
            summary.retried,
            summary.failed,
            summary.longest_ms,
        ));
        for line in summary.reasons.iter().map(|reason| format!("  retried: {reason}")) {
            user.screen.say(line);
        }
        user.expect_equal("none of its requests failed", summary.errors.clone(), Vec::new())?;
        user.run(&format!("kubectl delete pod {} -n shop --wait=false", self.pod))?;
        Ok(summary)
    }
}

fn parse(line: &str) -> Result<Summary, String> {
    serde_json::from_str(line.trim()).map_err(|error| format!("{error}: {line}"))
}
