//! Everything goes, by the commands of docs/install.md as they stand there.

use std::fs;
use std::path::Path;

use crate::cluster::CHECKOUT;
use crate::user::{Seen, User};

/// The kinds of which something could be left, and in no namespace of its own. The API server's own lease is called after a hash.
const LEFT: &str = "kubectl get -A -o name crds,clusterroles,clusterrolebindings,roles,rolebindings,leases,priorityclasses,\
     namespaces,validatingadmissionpolicies,validatingadmissionpolicybindings | grep -v /apiserver- | grep cmk || true";

pub fn run(user: &mut User) -> Seen {
    let page = fs::read_to_string(Path::new(CHECKOUT).join("docs/install.md")).unwrap_or_default();
    let commands = page.split("\n## Remove everything\n").nth(1).and_then(|text| text.split("```sh\n").nth(1));
    let Some(commands) = commands.and_then(|text| text.split("\n```").next()) else {
        return user.expect("docs/install.md says how to remove everything", false);
    };
    let delivered = user.look_up("kubectl get secret orders-dek -n shop -o jsonpath='{.data.plaintext}'")?;
    user.run(&format!("timeout 180 bash -eu <<'EOF'\n{commands}\nEOF"))?;
    let left = user.look_up(LEFT)?;
    user.expect_equal("no kind, role, policy or namespace of the operator's is left", left.trim(), "")?;
    let kinds = user.look_up("kubectl api-resources --api-group=kms.cmk-operator.dev --no-headers")?;
    user.expect_equal("the API server knows none of its kinds", kinds.trim(), "")?;

    let stays = user.look_up("kubectl get secret orders-dek -n shop -o jsonpath='{.data.plaintext}'")?;
    user.expect("a delivered data key stays, as its deletionPolicy says", !stays.is_empty() && stays == delivered)?;
    user.run("kubectl delete namespace shop shop-reports --timeout=120s")?;
    user.expect("and its namespace can be deleted", true)
}
