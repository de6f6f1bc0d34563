//! What a scraper gets, from a pod.

use crate::user::{Seen, User};

pub fn run(user: &mut User) -> Seen {
    let get = |path: &str| {
        format!(
            "kubectl exec -n shop deployment/orders-api -- /app get -url=http://cmk-operator-metrics.cmk-system.svc:8080{path}"
        )
    };
    let ready = user.run(&get("/readyz"))?;
    user.expect("a replica says that it is ready", ready.starts_with("200 OK"))?;
    let metrics = user.look_up(&get("/metrics"))?;
    user.expect("the metrics are OpenMetrics", {
        metrics.starts_with("200 OK application/openmetrics-text") && metrics.trim_end().ends_with("# EOF")
    })?;
    let expected = ["cmk_passes_total", "cmk_keys", "cmk_kms_requests_total", "cmk_kms_staleness_seconds"];
    let missing: Vec<_> = expected.iter().filter(|name| !metrics.contains(*name)).collect();
    user.expect_equal("passes, keys and requests are counted", missing, Vec::new())?;
    user.screen.say(metrics.lines().filter(|line| line.starts_with("cmk_keys{")).collect::<Vec<_>>().join("\n"));
    Ok(())
}
