//! Who may not, is told what is missing.

use std::time::Duration;

use crate::user::{OPERATOR_NAMESPACE, Seen, User};

/// How long the authorizer of the API server may take to see a new role.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

pub fn run(user: &mut User) -> Seen {
    application(user)?;
    people(user)?;
    records(user)
}

/// An application that may encrypt only.
fn application(user: &mut User) -> Seen {
    user.run("kubectl apply -f tests/e2e/manifests/orders-intake.yaml")?;
    user.run("kubectl rollout status deployment/orders-intake -n shop --timeout=120s")?;
    let app = "kubectl exec -n shop deployment/orders-intake -- /app";
    let encrypted = user.run(&format!("{app} encrypt -key=alias/customers"))?;
    let decrypt = format!("{app} decrypt -ciphertext={}", encrypted.trim());
    let said = user.refused(&decrypt)?;
    user.expect("it is denied by name", said.contains("AccessDeniedException"))?;
    user.expect(
        "and told who lacks which verb",
        said.contains("system:serviceaccount:shop:orders-intake lacks the verb decrypt"),
    )?;
    user.run(
        "kubectl create rolebinding orders-intake-decrypts -n shop --clusterrole=cmk-decrypter \\\n  \
         --serviceaccount=shop:orders-intake",
    )?;
    user.wait_for("with the role it decrypts", Duration::from_secs(60), |cluster| {
        let ran = cluster.shell(&decrypt);
        if ran.text.trim() == "hello" { Ok(()) } else { Err(ran.text) }
    })?;
    user.run("kubectl delete rolebinding orders-intake-decrypts -n shop")?;
    user.wait_for("without it no more", Duration::from_secs(60), |cluster| {
        let ran = cluster.shell(&decrypt);
        if ran.text.contains("AccessDeniedException") { Ok(()) } else { Err(ran.text) }
    })?;
    user.run("kubectl delete accesskey intake-kms -n shop")?;
    user.wait_for("without its AccessKey it is nobody", Duration::from_secs(60), |cluster| {
        let ran = cluster.shell(&format!("{app} encrypt -key=alias/customers"));
        if !ran.success && !ran.text.contains("AccessDenied") { Ok(()) } else { Err(ran.text) }
    })?;
    user.run("kubectl delete -f tests/e2e/manifests/orders-intake.yaml --ignore-not-found --wait=false").map(drop)
}

/// A person with a role for some of it.
fn people(user: &mut User) -> Seen {
    let key = "kubectl create --as=alice -f - <<EOF\n\
         apiVersion: kms.cmk-operator.dev/v1alpha1\n\
         kind: CustomerMasterKey\n\
         metadata: {name: alices, namespace: shop}\n\
         spec: {}\n\
         EOF";
    let said = user.refused(key)?;
    user.expect("who has no role makes no key", said.contains("forbidden") && said.contains("alice"))?;

    user.run("kubectl create role data-keys -n shop --verb=get,create,patch --resource=datakeys.kms.cmk-operator.dev")?;
    user.run("kubectl create rolebinding alices-data-keys -n shop --role=data-keys --user=alice")?;
    let data_key = "kubectl create --as=alice -f - <<EOF\n\
         apiVersion: kms.cmk-operator.dev/v1alpha1\n\
         kind: DataKey\n\
         metadata: {name: alices, namespace: shop}\n\
         spec: {keyRef: {name: orders}}\n\
         EOF";
    // The API server's authorizer watches roles: it may take a moment to know.
    let told = "who may make DataKeys, and not use the key, is told the verb and a role";
    user.wait_for(told, KNOWN_WITHIN, |cluster| {
        let ran = cluster.shell(data_key);
        let parts = ["generatedatakey", "alice", "cmk-edit"];
        if !ran.success && parts.iter().all(|part| ran.text.contains(part)) { Ok(()) } else { Err(ran.text) }
    })?;
    user.run("kubectl create rolebinding alice-edits -n shop --clusterrole=edit --user=alice")?;
    user.wait_for("the role `edit` is all that it takes", KNOWN_WITHIN, |cluster| {
        let ran = cluster.shell(data_key);
        if ran.success { Ok(()) } else { Err(ran.text) }
    })?;
    user.run("kubectl wait --for=condition=Ready --timeout=60s dk/alices -n shop")?;
    let said = user.refused("kubectl get secrets -n cmk-system --as=alice")?;
    user.expect("and it shows nothing of the operator's", said.contains("forbidden"))?;
    user.run("kubectl delete dk/alices secret/alices rolebinding/alice-edits rolebinding/alices-data-keys role/data-keys -n shop")
        .map(drop)
}

/// Not even the administrator changes records or status.
fn records(user: &mut User) -> Seen {
    let records = format!("secrets -n {OPERATOR_NAMESPACE} --field-selector type=kms.cmk-operator.dev/key");
    let record = user.look_up(&format!("kubectl get {records} -o jsonpath='{{.items[0].metadata.name}}'"))?;
    for (what, line) in [
        ("a record is not deleted", format!("kubectl delete secret {record} -n {OPERATOR_NAMESPACE}")),
        (
            "nor changed",
            format!(
                "kubectl patch secret {record} -n {OPERATOR_NAMESPACE} --type=merge -p '{{\"data\":{{\"mac\":\"AAAA\"}}}}'"
            ),
        ),
        ("nor is the root key deleted", format!("kubectl delete secret cmk-root-key -n {OPERATOR_NAMESPACE}")),
    ] {
        let said = user.refused(&line)?;
        user.expect(what, said.contains("holds keys: without it they are lost for good"))?;
    }
    let said = user.refused(
        "kubectl patch cmk archive -n shop --subresource=status --type=merge \\\n  \
         -p '{\"status\":{\"keyMetadata\":{\"keyState\":\"Enabled\"}}}'",
    )?;
    user.expect("nobody but the operator writes status", said.contains("only the operator"))?;
    let said = user.refused(&format!("kubectl delete namespace {OPERATOR_NAMESPACE}"))?;
    user.expect("the operator's namespace is not deleted", said.contains("deletes the records and the root key"))
}
