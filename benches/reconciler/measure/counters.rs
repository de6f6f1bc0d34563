//! What the API server counted.

use std::collections::BTreeMap;

use crate::support::ControlPlane;

/// Resources that nobody but the operator and this program touches, apart from watches. Not leases and the like,
/// which the control plane renews for itself.
const RESOURCES: [&str; 5] = ["secrets", "customermasterkeys", "datakeys", "namespaces", "events"];

/// Answered requests, by `VERB resource` or `VERB resource/subresource`. A watch counts when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Requests(pub BTreeMap<String, u64>);

impl Requests {
    /// All so far.
    pub async fn so_far(control_plane: &ControlPlane) -> Self {
        Self::parse(&control_plane.apiserver_metrics().await)
    }

    fn parse(metrics: &str) -> Self {
        let mut requests = BTreeMap::new();
        for line in metrics.lines() {
            let Some((labels, count)) =
                line.strip_prefix("apiserver_request_total{").and_then(|line| line.rsplit_once("} "))
            else {
                continue;
            };
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value)
            };
            let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
            // `resource=` is part of `subresource=` too; labels are sorted, and `resource` comes first.
            let name = match label("subresource").unwrap_or_default() {
                "" => format!("{verb} {resource}"),
                subresource => format!("{verb} {resource}/{subresource}"),
            };
            if RESOURCES.contains(&resource) && label("dry_run") == Some("") {
                *requests.entry(name).or_default() += count.parse::<f64>().unwrap_or(0.0) as u64;
            }
        }
        Self(requests)
    }

    /// What was added since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let added = |(name, count): (&String, &u64)| {
            let added = count.saturating_sub(before.of(name));
            (added > 0).then(|| (name.clone(), added))
        };
        Self(self.0.iter().filter_map(added).collect())
    }

    /// Without `count` requests of ours.
    pub fn without(mut self, name: &str, count: u64) -> Self {
        let left = self.of(name).saturating_sub(count);
        self.0.remove(name);
        if left > 0 {
            self.0.insert(name.to_owned(), left);
        }
        self
    }

    /// Without watches, and the lists that begin them.
    pub fn without_watches(mut self) -> Self {
        self.0.retain(|name, _| !name.starts_with("WATCH ") && !name.starts_with("LIST "));
        self
    }

    /// How many of one name.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// How many changed something.
    pub fn writes(&self) -> u64 {
        let reads = ["GET ", "LIST ", "WATCH "];
        self.0.iter().filter(|(name, _)| !reads.iter().any(|read| name.starts_with(read))).map(|(_, count)| count).sum()
    }
}

/// As in `POST secrets 200, GET namespaces 1`.
impl std::fmt::Display for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let all: Vec<_> = self.0.iter().map(|(name, count)| format!("{name} {count}")).collect();
        f.write_str(&all.join(", "))
    }
}
