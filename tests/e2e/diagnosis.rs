//! What a person would look at when something failed.

use std::fs;
use std::path::Path;

use crate::cluster::Cluster;
use crate::screen::Screen;

const LOOKS: [&str; 8] = [
    "kubectl get nodes,pods,services,endpointslices -A -o wide",
    "helm list -A",
    "kubectl get cmk,dk,accesskeys,clusterkeystores -A",
    "kubectl get lease cmk-operator -n cmk-system -o yaml",
    "kubectl describe pods -n cmk-system",
    "kubectl describe pods -n shop",
    "kubectl logs -n cmk-system -l app.kubernetes.io/name=cmk-operator --prefix --tail=80",
    "kubectl get events -A --sort-by=.lastTimestamp | tail -50",
];

/// Lines of each of the node's logs.
const LOG_LINES: usize = 25;

pub fn show(screen: &mut Screen, cluster: &Cluster) {
    for line in LOOKS {
        screen.command(line);
        screen.say(cluster.shell(line).text.trim_end());
    }
    if let Some(node) = cluster.node() {
        logs(screen, node.directory());
    }
}

/// The ends of the node's logs, wherever under its directory they are.
fn logs(screen: &mut Screen, directory: &Path) {
    let listed =
        |path: &Path| fs::read_dir(path).map(|found| found.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    let mut paths: Vec<_> = listed(directory);
    paths.extend(listed(&directory.join("logs")));
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
        let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        screen.heading(&format!("the end of {}", path.display()));
        screen.say(lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"));
    }
}
