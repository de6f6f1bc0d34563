//! `helm uninstall` keeps the keys, and `helm install` finds them.

use super::install::{INSTALL, one_leads, pods};
use crate::screen::Failed;
use crate::user::{OPERATOR_NAMESPACE, Seen, User};

const RECORDS: &str = "kubectl get secrets -n cmk-system -o name | sort";
const KEY_IDS: &str = "kubectl get cmk -A \\\n  -o jsonpath='{range .items[*]}{.metadata.namespace}/{.metadata.name} {.status.keyMetadata.keyId}{\"\\n\"}{end}'";
const APP: &str = "kubectl exec -n shop deployment/orders-api -- /app";

pub fn run(user: &mut User) -> Seen {
    let encrypted = user.run(&format!("{APP} encrypt -key=alias/customers -text='from before'"))?;
    let sealed = user.look_up(&format!("{APP} seal -text='from before'"))?;
    let (ids, records) = (user.look_up(KEY_IDS)?, records(user)?);

    user.run(&format!("helm uninstall cmk-operator -n {OPERATOR_NAMESPACE} --wait --timeout 2m | grep -v '^\\['"))?;
    // The garbage collector deletes them, which can take it a minute after the API server was away.
    user.run(&format!(
        "kubectl wait --for=delete pod -l app.kubernetes.io/name=cmk-operator -n {OPERATOR_NAMESPACE} --timeout=180s"
    ))?;
    user.run("kubectl get crds,clusterkeystores")?;
    let kept = user.look_up(KEY_IDS)?;
    user.expect_equal("the kinds and the keys are kept", kept, ids.clone())?;
    let kept = self::records(user)?;
    user.expect_equal("so are the records and the root key", kept, records.clone())?;
    user.look_up("kubectl get clusterkeystore default")?;
    let refused = user.refused(&format!("{APP} encrypt"))?;
    user.expect("nobody answers the application", !refused.contains("AccessDenied"))?;

    user.run(
        "kubectl apply -f - <<EOF\n\
         apiVersion: kms.cmk-operator.dev/v1alpha1\n\
         kind: CustomerMasterKey\n\
         metadata: {name: made-meanwhile, namespace: shop}\n\
         spec: {}\n\
         EOF",
    )?;
    user.run(INSTALL)?;
    user.operator_rolled_out()?;
    let running = pods(user)?;
    user.expect_equal("two replicas run again", running.len(), 2)?;
    // The one before had no rights any more when it ended, so it could not give its lease up.
    one_leads(user, &running)?;
    user.run("kubectl wait --for=condition=Ready --timeout=90s --all -A cmk,dk,ak")?;
    let after = user.look_up(KEY_IDS)?;
    user.expect("the keys are the same", ids.lines().all(|id| after.lines().any(|line| line == id)))?;
    let after = self::records(user)?;
    user.expect("and so are their records", records.iter().all(|record| after.contains(record)))?;
    let decrypted = user.run(&format!("{APP} decrypt -ciphertext={}", encrypted.trim()))?;
    user.expect_equal("what was encrypted before decrypts", decrypted.trim(), "from before")?;
    let opened = user.run(&format!("{APP} open -ciphertext={}", sealed.trim()))?;
    user.expect_equal("and the data key is the same", opened.trim(), "from before")
}

/// The names of the operator's Secrets, without those that belong to the release.
fn records(user: &mut User) -> Result<Vec<String>, Failed> {
    let names = user.look_up(RECORDS)?;
    Ok(names.lines().filter(|name| !name.contains("helm.release")).map(str::to_owned).collect())
}
