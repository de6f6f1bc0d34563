//! Rolling upgrades, while an application encrypts and decrypts: no request fails with one retry.

use super::install::{one_leads, pods};
use crate::steady::Steady;
use crate::user::{OPERATOR_NAMESPACE, Seen, User};

const UPGRADE: &str =
    "helm upgrade cmk-operator charts/cmk-operator -n cmk-system --reset-then-reuse-values --wait --timeout 3m";

/// Another name of the same image.
const TAG: &str = "e2e-next";

pub fn run(user: &mut User) -> Seen {
    let steady = Steady::start(user, "steady-upgrade", 2)?;
    rolled(user, &format!("{UPGRADE} --set-string podAnnotations.upgraded=once"))?;
    match user.cluster.node() {
        None => user.skip("an upgrade to another image", "the node is not this machine"),
        Some(node) => {
            let image = pods(user)?[0].image.clone();
            let repository = image.rsplit_once(':').map_or(&*image, |(repository, _)| repository);
            node.tag(user.screen, &image, &format!("{repository}:{TAG}"))?;
            rolled(user, &format!("{UPGRADE} --set image.tag={TAG}"))?;
            let images: Vec<_> = pods(user)?.into_iter().map(|pod| pod.image).collect();
            user.expect("both run the new image", images.iter().all(|image| image.ends_with(&format!(":{TAG}"))))?;
        }
    }
    rolled(user, "helm rollback cmk-operator 1 -n cmk-system --wait --timeout 3m")?;
    user.run(&format!("helm history cmk-operator -n {OPERATOR_NAMESPACE}"))?;
    let summary = steady.finish(user)?;
    user.expect("and it made many", summary.requests > 100)
}

/// Upgrades: all replicas are new ones, one of which leads and works.
fn rolled(user: &mut User, line: &str) -> Seen {
    let before = pods(user)?;
    user.run(&format!("{line} | grep -iE '^(status|revision|rollback)'"))?;
    user.operator_rolled_out()?;
    let after = pods(user)?;
    let all_new = after.iter().all(|pod| pod.ready && before.iter().all(|old| old.uid != pod.uid));
    user.expect("two new replicas are Ready", after.len() == 2 && all_new)?;
    // The old ones take a few seconds to end, and the one that leads does so to the last.
    one_leads(user, &after)?;
    user.run(
        "kubectl annotate cmk orders -n shop --overwrite cmk-operator.dev/rotate-requested-at=\"$(date +%s.%N)\"",
    )?;
    let requested = "kubectl get cmk orders -n shop \\\n  -o jsonpath='{.metadata.annotations.cmk-operator\\.dev/rotate-requested-at}'";
    let requested = user.look_up(requested)?;
    user.run(&format!(
        "kubectl wait cmk/orders -n shop --for=jsonpath='{{.status.lastHandledRotation}}'={requested} --timeout=60s"
    ))
    .map(drop)
}
