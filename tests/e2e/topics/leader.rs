//! The leader dies without a word: another one goes on, and nothing is made twice or lost.

use std::time::{Duration, Instant};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::install::{HOLDER, LEASE, Pod, SUCCEEDED_WITHIN, leader, pods};
use crate::node::process_of;
use crate::screen::Failed;
use crate::steady::Steady;
use crate::user::{OPERATOR_NAMESPACE, Seen, User};

const READY_AGAIN_WITHIN: Duration = Duration::from_secs(60);

/// Keys that are made when the leader dies.
const KEYS: usize = 30;

/// Until the Service knows that a replica is gone, half of the attempts go there: one retry is not always enough.
const ATTEMPTS: u32 = 6;

pub fn run(user: &mut User) -> Seen {
    let steady = Steady::start(user, "steady-kill", ATTEMPTS)?;
    if user.cluster.node().is_some() {
        killed(user)?;
    } else {
        user.skip("kill -9 of the leader's process", "the node is not this machine");
    }
    deleted(user)?;
    steady.finish(user).map(drop)
}

/// `kill -9`: the process can't give its lease up.
fn killed(user: &mut User) -> Seen {
    let (dies, _) = leader_and_other(user)?;
    let (holder, transitions) = (leader(user)?, transitions(user)?);
    let Some(process) = process_of(&dies.container) else {
        return user.expect(&format!("a process of {}", dies.name), false);
    };
    user.screen.progress(format!("making {KEYS} keys; the leader is killed when the first one is there …"));
    user.screen.command(&format!("kill -9 {process}    # {}", dies.name));
    user.look_up(&format!(
        "{} >/dev/null & timeout 60 bash -c 'until kubectl get cmk made-at-the-kill-1 -n shop >/dev/null 2>&1; do :; done' && kill -9 {process} && wait $!",
        keys("made-at-the-kill", KEYS)
    ))?;
    let at = Instant::now();
    make_keys(user, "made-in-the-gap", 1)?;

    // The other replica, or the container that was started in place of the dead one: whoever saw the lease expire first.
    let next = user.wait_for("another process leads", SUCCEEDED_WITHIN, |cluster| {
        let now = cluster.shell(HOLDER);
        if now.success && !now.text.is_empty() && now.text != holder { Ok(now.text) } else { Err(now.text) }
    })?;
    user.screen.say(format!("{next} leads {:.1} s after the kill", at.elapsed().as_secs_f32()));
    let now = self::transitions(user)?;
    user.expect_equal("the Lease changed hands once", now, transitions + 1)?;
    made_once(user, &dies)
}

/// `kubectl delete --force`: another pod takes the place of the leader's.
fn deleted(user: &mut User) -> Seen {
    let (dies, other) = leader_and_other(user)?;
    user.run(&format!("kubectl delete pod {} -n {OPERATOR_NAMESPACE} --grace-period=0 --force", dies.name))?;
    make_keys(user, "made-after-deletion", 1)?;
    user.wait_for("another replica leads", SUCCEEDED_WITHIN, |cluster| {
        let now = cluster.shell(HOLDER);
        if now.success && !now.text.is_empty() && !dies.holds(&now.text) { Ok(()) } else { Err(now.text) }
    })?;
    user.operator_rolled_out()?;
    let now = pods(user)?;
    user.expect("the other one went on", now.iter().any(|pod| pod.uid == other.uid && pod.restarts == other.restarts))?;
    made_once(user, &dies)
}

fn leader_and_other(user: &mut User) -> Result<(Pod, Pod), Failed> {
    let (holder, pods) = (leader(user)?, pods(user)?);
    user.expect_equal("there are two replicas", pods.len(), 2)?;
    let (leading, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pod.holds(&holder));
    user.expect_equal(&format!("one of them leads ({holder})"), (leading.len(), others.len()), (1, 1))?;
    Ok((leading[0].clone(), others[0].clone()))
}

fn transitions(user: &mut User) -> Result<u64, Failed> {
    let lease = user.objects(&format!("{LEASE} -n {OPERATOR_NAMESPACE}"))?;
    Ok(lease[0]["spec"]["leaseTransitions"].as_u64().unwrap_or_default())
}

/// The command that makes these keys, on several lines.
fn keys(name: &str, count: usize) -> String {
    format!(
        "for i in $(seq {count}); do cat <<EOF\n\
         ---\n\
         apiVersion: kms.cmk-operator.dev/v1alpha1\n\
         kind: CustomerMasterKey\n\
         metadata: {{name: {name}-$i, namespace: shop, labels: {{e2e: leader}}}}\n\
         spec: {{alias: {name}-$i}}\n\
         EOF\n\
         done | kubectl apply -f -"
    )
}

fn make_keys(user: &mut User, name: &str, count: usize) -> Seen {
    user.screen.progress(format!("making {count} keys {name}-…"));
    user.look_up(&keys(name, count)).map(drop)
}

/// All keys are there, each has one record, and the record was not written more often than that of a key that nobody disturbed.
fn made_once(user: &mut User, died: &Pod) -> Seen {
    user.wait_for(&format!("two replicas are Ready without {}", died.container), READY_AGAIN_WITHIN, |cluster| {
        let line = format!(
            "kubectl get pods -n {OPERATOR_NAMESPACE} -l app.kubernetes.io/name=cmk-operator \
             -o jsonpath='{{range .items[*]}}{{.status.containerStatuses[0].containerID}} \
             {{.status.containerStatuses[0].ready}}{{\"\\n\"}}{{end}}'"
        );
        let text = cluster.shell(&line).text;
        let ready = text.lines().filter(|line| line.ends_with("true") && !line.contains(&died.container)).count();
        if ready == 2 { Ok(()) } else { Err(text) }
    })?;
    user.run("kubectl wait --for=condition=Ready --timeout=60s cmk -n shop -l e2e=leader | grep -c met")?;
    let calm = revisions(user, "undisturbed-")?;
    if calm.is_empty() {
        make_keys(user, "undisturbed", 1)?;
        user.run("kubectl wait --for=condition=Ready --timeout=60s cmk/undisturbed-1 -n shop")?;
    }
    let most = revisions(user, "undisturbed-")?.into_iter().map(|(_, revision)| revision).max().unwrap_or_default();
    let keys = user.objects("cmk -n shop -l e2e=leader")?.len();
    let mut owners: Vec<_> = revisions(user, "made-")?;
    user.expect("no record was written more often than an undisturbed one", owners.iter().all(|(_, r)| *r <= most))?;
    owners.extend(revisions(user, "undisturbed-")?);
    owners.sort();
    let records = owners.len();
    owners.dedup_by(|a, b| a.0 == b.0);
    user.expect_equal("each key has exactly one record", (records, owners.len()), (keys, keys))
}

/// The records of the keys whose names begin so: each with the name, and how often it was changed.
fn revisions(user: &mut User, prefix: &str) -> Result<Vec<(String, u64)>, Failed> {
    let secrets =
        user.objects(&format!("secrets -n {OPERATOR_NAMESPACE} --field-selector type=kms.cmk-operator.dev/key"))?;
    let records = secrets.iter().filter_map(|secret| {
        let record = BASE64_STANDARD.decode(secret["data"]["record"].as_str()?).ok()?;
        let record: Value = serde_json::from_slice(&record).ok()?;
        let name = record["owner"]["name"].as_str()?.to_owned();
        Some((name, record["revision"].as_u64()?))
    });
    Ok(records.filter(|(name, _)| name.starts_with(prefix)).collect())
}
