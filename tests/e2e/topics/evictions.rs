//! More and fewer replicas, and a node that is drained, while an application encrypts and decrypts.

use super::install::pods;
use crate::steady::Steady;
use crate::user::{OPERATOR_NAMESPACE, Seen, User};

pub fn run(user: &mut User) -> Seen {
    let steady = Steady::start(user, "steady-drain", 2)?;
    for replicas in [3, 1, 2] {
        user.run(&format!(
            "helm upgrade cmk-operator charts/cmk-operator -n cmk-system --reset-then-reuse-values --wait --timeout 3m \\\n  \
             --set replicaCount={replicas} | grep -E '^(STATUS|REVISION)'"
        ))?;
        user.operator_rolled_out()?;
        let ready = pods(user)?.into_iter().filter(|pod| pod.ready).count();
        user.expect_equal("as many replicas are Ready", ready, replicas)?;
        steady.goes_on(user, 50)?;
    }
    drained(user, &steady)?;
    steady.finish(user).map(drop)
}

/// With nowhere to go, one replica is evicted, and the PodDisruptionBudget keeps the other one.
fn drained(user: &mut User, steady: &Steady) -> Seen {
    let nodes = user.look_up("kubectl get nodes -o name")?;
    let nodes: Vec<_> = nodes.lines().collect();
    let [node] = nodes[..] else {
        user.skip("draining a node", "the cluster has more than one");
        return Ok(());
    };
    let before = pods(user)?;
    let said = user.refused(&format!(
        "kubectl drain {node} --pod-selector app.kubernetes.io/name=cmk-operator --ignore-daemonsets --timeout=20s"
    ));
    let stays = pods(user);
    // Before anything is said about it, or the node stays closed.
    user.run(&format!("kubectl uncordon {node}"))?;
    user.expect("the disruption budget stops it", said?.contains("disruption budget"))?;
    let stays = stays?.into_iter().filter(|pod| pod.ready && before.iter().any(|old| old.uid == pod.uid)).count();
    user.expect_equal("one replica was evicted, and one stays", stays, 1)?;
    user.operator_rolled_out()?;
    user.run(&format!("kubectl get poddisruptionbudget,pods -n {OPERATOR_NAMESPACE}"))?;
    steady.goes_on(user, 50)
}
