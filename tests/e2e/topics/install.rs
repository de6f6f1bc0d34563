//! `helm install`, and what runs then.

use std::fs;
use std::time::Duration;

use crate::node::process_of;
use crate::screen::Failed;
use crate::user::{OPERATOR_NAMESPACE, Seen, User};

/// What the replicas elect a leader by.
pub const LEASE: &str = "lease/cmk-operator";

/// Answers the identity of the one that leads.
pub const HOLDER: &str = "kubectl get lease/cmk-operator -n cmk-system -o jsonpath='{.spec.holderIdentity}'";

/// The lease lasts 15 seconds, and is looked at every 2. The rest is the machine's.
pub const SUCCEEDED_WITHIN: Duration = Duration::from_secs(60);

/// On a machine that does everything itself it may take more than the usual 5 seconds until a Service sends nobody to a pod
/// that is going.
pub const INSTALL: &str =
    "helm install cmk-operator charts/cmk-operator -n cmk-system --wait --timeout 3m --set shutdownDelaySeconds=10";

pub fn run(user: &mut User) -> Seen {
    user.run(&format!("kubectl create namespace {OPERATOR_NAMESPACE}"))?;
    user.run(&format!("kubectl label namespace {OPERATOR_NAMESPACE} pod-security.kubernetes.io/enforce=restricted"))?;
    user.run(INSTALL)?;
    user.operator_rolled_out()?;
    user.run(&format!("kubectl get all -n {OPERATOR_NAMESPACE}"))?;
    let pods = pods(user)?;
    user.expect_equal("two replicas run", pods.len(), 2)?;
    user.expect("both are Ready, and were not restarted", pods.iter().all(|pod| pod.ready && pod.restarts == 0))?;
    one_leads(user, &pods)?;
    user.run(&format!("kubectl get {LEASE} -n {OPERATOR_NAMESPACE}"))?;
    // It says so after it has the lease, and the node passes it on.
    let said = format!("kubectl logs -n {OPERATOR_NAMESPACE} -l app.kubernetes.io/name=cmk-operator --tail=-1");
    let led = user.wait_for("a replica says that it leads", SUCCEEDED_WITHIN, |cluster| {
        let logs = cluster.shell(&said).text;
        let led = logs.matches("\"this replica leads\"").count();
        if led > 0 { Ok(led) } else { Err(logs) }
    })?;
    user.expect_equal("only one ever led", led, 1)?;
    for pod in &pods {
        confined(user, pod)?;
    }
    user.run("kubectl wait --for=condition=Ready --timeout=60s clusterkeystore/default").map(drop)
}

/// One of the operator's pods.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub container: String,
    pub image: String,
    pub ready: bool,
    pub restarts: u64,
}

impl Pod {
    /// Whether the identity of a Lease's holder is that of a process in this pod.
    pub fn holds(&self, identity: &str) -> bool {
        identity.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('_'))
    }
}

/// The operator's pods that are not being deleted.
pub fn pods(user: &mut User) -> Result<Vec<Pod>, Failed> {
    let found = user.objects(&format!("pods -n {OPERATOR_NAMESPACE} -l app.kubernetes.io/name=cmk-operator"))?;
    let alive = found.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(alive
        .map(|pod| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let container = &pod["status"]["containerStatuses"][0];
            Pod {
                name: text(&pod["metadata"]["name"]),
                uid: text(&pod["metadata"]["uid"]),
                container: text(&container["containerID"]).split("://").last().unwrap_or_default().to_owned(),
                image: text(&pod["spec"]["containers"][0]["image"]),
                ready: container["ready"] == true,
                restarts: container["restartCount"].as_u64().unwrap_or_default(),
            }
        })
        .collect())
}

/// Waits until one of these pods leads. After a leader that ended without giving its lease up this takes as long as a lease.
pub fn one_leads(user: &mut User, pods: &[Pod]) -> Seen {
    user.wait_for("one of them leads", SUCCEEDED_WITHIN, |cluster| {
        let holder = cluster.shell(HOLDER).text;
        if pods.iter().any(|pod| pod.holds(&holder)) { Ok(()) } else { Err(holder) }
    })
}

/// Who holds the Lease.
pub fn leader(user: &mut User) -> Result<String, Failed> {
    user.look_up(HOLDER)
}

/// The process runs as the kernel sees it: not as root, without capabilities, and can't write to its root file system.
fn confined(user: &mut User, pod: &Pod) -> Seen {
    if user.cluster.node().is_none() {
        user.skip("a look at the process", "the node is not this machine; the namespace enforces `restricted`");
        return Ok(());
    }
    let process = process_of(&pod.container);
    let read =
        |file: &str| process.and_then(|id| fs::read_to_string(format!("/proc/{id}/{file}")).ok()).unwrap_or_default();
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default()
    };
    user.expect_equal("its process runs as the user 65532", field("Uid:"), vec!["65532".to_owned(); 4])?;
    user.expect_equal("has no capabilities", field("CapEff:"), vec!["0000000000000000".to_owned()])?;
    user.expect_equal("can get no new privileges", field("NoNewPrivs:"), vec!["1".to_owned()])?;
    let mounts = read("mountinfo");
    let root =
        mounts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|line| line.get(4) == Some(&"/"));
    let options = root.and_then(|line| line.get(5).copied()).unwrap_or_default();
    user.expect("and its root file system is read-only", options.split(',').any(|option| option == "ro"))
}
