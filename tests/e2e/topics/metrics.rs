//! What a scraper gets, from a pod: through the Service, and from each replica.

use super::install::pods;
use crate::user::{OPERATOR_NAMESPACE, Seen, User};

pub fn run(user: &mut User) -> Seen {
    let ready = user.run(&get("cmk-operator-metrics.cmk-system.svc", "/readyz"))?;
    user.expect("a replica says that it is ready", ready.starts_with("200 OK"))?;

    // Something to be counted, where this topic is run alone.
    user.run("kubectl exec -n shop deployment/orders-api -- /app encrypt -key=alias/customers")?;

    let mut all = String::new();
    for pod in pods(user)? {
        let address = format!("kubectl get pod {} -n {OPERATOR_NAMESPACE} -o jsonpath='{{.status.podIP}}'", pod.name);
        let address = user.look_up(&address)?;
        user.screen.command(&get(&address, "/metrics"));
        let metrics = user.look_up(&get(&address, "/metrics"))?;
        user.expect("the metrics are OpenMetrics", {
            metrics.starts_with("200 OK application/openmetrics-text") && metrics.trim_end().ends_with("# EOF")
        })?;
        all += &metrics;
    }
    let lines = |name: &str| all.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    let expected =
        ["cmk_keys{", "cmk_key_state{", "cmk_passes_total{", "cmk_kms_requests_total{", "cmk_kms_staleness_seconds "];
    let missing: Vec<_> = expected.into_iter().filter(|name| lines(name).is_empty()).collect();
    user.expect_equal("keys, passes and requests are counted", missing, Vec::new())?;
    let mut leaders = lines("cmk_leader ");
    leaders.sort_unstable();
    user.expect_equal("one replica says that it leads", leaders, vec!["cmk_leader 0", "cmk_leader 1"])
}

fn get(host: &str, path: &str) -> String {
    format!("kubectl exec -n shop deployment/orders-api -- /app get -url=http://{host}:8080{path}")
}
