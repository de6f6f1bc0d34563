//! The API server restarts, and is away for a while: cryptography goes on, and everything else comes back by itself.

use std::thread;
use std::time::Duration;

use super::install::pods;
use crate::steady::Steady;
use crate::user::{Seen, User};

/// Longer than the lease lasts, and shorter than `--max-staleness`, and than the time after which a silent node's pods count
/// as not Ready: the controllers of `tests/node/up` give it five minutes, as the API server may take its time to start.
const AWAY: Duration = Duration::from_secs(20);
const BACK_WITHIN: Duration = Duration::from_secs(120);

pub fn run(user: &mut User) -> Seen {
    let Some(node) = user.cluster.node() else {
        user.skip("restarting the API server", "the node is not this machine");
        return Ok(());
    };
    let steady = Steady::start(user, "steady-outage", 2)?;
    let before = pods(user)?;
    node.api_server(user.screen, "restart")?;
    back(user, "made-after-restart")?;
    steady.goes_on(user, 50)?;

    let answered = steady.so_far(user)?.requests;
    node.api_server(user.screen, "stop")?;
    user.screen.progress(format!("no API server for {} s …", AWAY.as_secs()));
    // This is the outage, not a wait for something.
    thread::sleep(AWAY);
    node.api_server(user.screen, "start")?;
    back(user, "made-after-outage")?;
    let answered = steady.so_far(user)?.requests - answered;
    user.screen.say(format!("{answered} requests were answered since it stopped"));
    user.expect("requests were answered all the time", answered > 20 * AWAY.as_secs())?;

    let summary = steady.finish(user)?;
    user.expect(
        &format!("none waited for the API server (the longest: {} ms)", summary.longest_ms),
        u128::from(summary.longest_ms) < AWAY.as_millis(),
    )?;
    let after = pods(user)?;
    let same = after.len() == 2
        && after
            .iter()
            .all(|pod| pod.ready && before.iter().any(|old| old.uid == pod.uid && old.restarts == pod.restarts));
    user.expect("the same two replicas run, and none was restarted", same)
}

/// The API server answers, and a new key becomes Ready.
fn back(user: &mut User, name: &str) -> Seen {
    let key = format!(
        "kubectl apply -f - <<EOF\n\
         apiVersion: kms.cmk-operator.dev/v1alpha1\n\
         kind: CustomerMasterKey\n\
         metadata: {{name: {name}, namespace: shop}}\n\
         spec: {{}}\n\
         EOF"
    );
    user.wait_for("the API server takes a new key", BACK_WITHIN, |cluster| {
        let ran = cluster.shell(&key);
        if ran.success { Ok(()) } else { Err(ran.text) }
    })?;
    user.run(&format!("kubectl wait --for=condition=Ready --timeout=90s cmk/{name} -n shop"))?;
    user.operator_rolled_out()
}
