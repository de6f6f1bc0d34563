//! The ClusterRole `cmk-gitops` is enough to apply, to compare, to wait and to prune; what it does not give is refused with a
//! sentence, and `docs/gitops.md` has the Role that gives it. By server-side apply, as Flux and Argo CD do it.

use std::process::Command;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::{
    examples::{NAMESPACE, bring_material, file, is_ours, kubectl, ready, with_operator},
    no_diff::{diff, settled},
    support::{
        eventually,
        world::{SOON, World, gone, succeed},
    },
    tools::REPOSITORY,
};

/// Documents that cmk-gitops alone does not let through.
fn needs_more(document: &Value) -> bool {
    document["kind"] == "AccessKey" || document["spec"]["importedKeyMaterial"].is_object()
}

/// A tool that applies from Git as a ServiceAccount.
struct Tool<'a> {
    world: &'a World,
    manager: &'a str,
    kubeconfig: String,
}

impl<'a> Tool<'a> {
    async fn new(world: &'a World, account: &str, manager: &'a str) -> Self {
        let object: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": account}})).unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), NAMESPACE);
        accounts.create(&PostParams::default(), &object).await.unwrap();
        let kubeconfig = world.bed.control_plane.kubeconfig_for_service_account(NAMESPACE, account).await;
        Self { world, manager, kubeconfig: kubeconfig.to_str().unwrap().to_owned() }
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = kubectl(self.world, &["--kubeconfig", &self.kubeconfig]);
        command.args(args);
        command
    }

    fn server_side(&self, verb: &str, wanted: impl Fn(&Value) -> bool) -> (Command, tempfile::NamedTempFile) {
        let file = file(wanted);
        let manager = format!("--field-manager={}", self.manager);
        let command = self.kubectl(&[verb, "--server-side", &manager, "-f", file.path().to_str().unwrap()]);
        (command, file)
    }

    fn apply(&self, wanted: impl Fn(&Value) -> bool) -> Result<String, String> {
        let (mut command, _file) = self.server_side("apply", wanted);
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        if output.status.success() { Ok(text) } else { Err(text) }
    }
}

/// Binds the ServiceAccount to the ClusterRole and nothing else.
fn bind(world: &World, kind: &str, account: &str) {
    let subject = format!("--serviceaccount={NAMESPACE}:{account}");
    succeed(&mut world.kubectl(&["create", kind, account, "--clusterrole=cmk-gitops", &subject]));
}

/// The Role in `docs/gitops.md`, for a ServiceAccount.
fn role_of_the_page(account: &str) -> String {
    let page = std::fs::read_to_string(format!("{REPOSITORY}/docs/gitops.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let role = blocks.into_iter().find(|block| block.contains("serviceaccounts/token")).expect("the Role in the page");
    role.replace("flux-keys", account)
}

#[tokio::test]
async fn rule_18_cmk_gitops_applies_what_it_should_and_no_more() {
    let (world, operator) = with_operator("gitops-role").await;
    let others = file(|document| !is_ours(document));
    succeed(&mut kubectl(&world, &["apply", "-f", others.path().to_str().unwrap()]));
    bring_material(&world).await;
    let tool = Tool::new(&world, "flux-keys", "kustomize-controller").await;
    let refused = tool.apply(is_ours).unwrap_err();
    assert!(refused.contains("is forbidden"), "{refused}");
    bind(&world, "clusterrolebinding", "flux-keys");

    // All but what takes a right of its own.
    let plain = |document: &Value| is_ours(document) && !needs_more(document);
    eventually("the binding to count", SOON, async || tool.apply(plain)).await;
    for (name, what) in [("orders-kms", "create on serviceaccounts/token"), ("imported", "get on this Secret")] {
        let refused = tool.apply(|document| is_ours(document) && document["metadata"]["name"] == name).unwrap_err();
        assert!(refused.contains("ValidatingAdmissionPolicy") && refused.contains(what), "{refused}");
    }
    for (verb, what) in [("get", "secrets"), ("create", "serviceaccounts/token"), ("decrypt", "customermasterkeys")] {
        let output = tool.kubectl(&["-n", NAMESPACE, "auth", "can-i", verb, what]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "no", "{verb} {what}");
    }
    let brought = json!({"spec": {"keyId": "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73"}}).to_string();
    let output =
        tool.kubectl(&["-n", NAMESPACE, "patch", "cmk", "orders", "--type=merge", "-p", &brought]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("adopt"), "adoption takes another right");

    // These, with the Role of the page.
    let role = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(role.path(), role_of_the_page("flux-keys")).unwrap();
    succeed(&mut kubectl(&world, &["apply", "-f", role.path().to_str().unwrap()]));
    eventually("the Role to count", SOON, async || tool.apply(is_ours)).await;
    let before = settled(&world).await;

    // Again, and as another tool: no difference.
    assert_eq!(diff(tool.server_side("diff", is_ours).0), "");
    tool.apply(is_ours).unwrap();
    assert_eq!(ready(&world).await, before, "not a byte of it");

    // Pruned.
    let deleted = tool.kubectl(&["-n", NAMESPACE, "delete", "dk", "carts-dek"]).output().unwrap();
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    gone(&world.data_keys(), "carts-dek").await;
    let kept = tool.kubectl(&["-n", NAMESPACE, "delete", "cmk", "ledger"]).output().unwrap();
    assert!(String::from_utf8(kept.stderr).unwrap().contains("deletionProtection"), "a protected key is not pruned");
    operator.stop().await.unwrap();
}

/// By a RoleBinding it is for the keys of that namespace, and not for key stores.
#[tokio::test]
async fn rule_18_cmk_gitops_in_one_namespace_is_for_that_namespace() {
    let (world, operator) = World::with_operator("gitops-one").await;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "keys"}})).unwrap();
    Api::namespaced(world.client.clone(), &world.namespace).create(&PostParams::default(), &account).await.unwrap();
    let kubeconfig = world.bed.control_plane.kubeconfig_for_service_account(&world.namespace, "keys").await;
    let subject = format!("--serviceaccount={}:keys", world.namespace);
    succeed(&mut world.kubectl(&["create", "rolebinding", "keys", "--clusterrole=cmk-gitops", &subject]));
    let (here, elsewhere) = (format!("--namespace={}", world.namespace), "--namespace=default");
    let can = |verb: &str, what: &str, scope: &str| {
        let arguments = ["--kubeconfig", kubeconfig.to_str().unwrap(), "auth", "can-i", verb, what, scope];
        String::from_utf8(kubectl(&world, &arguments).output().unwrap().stdout).unwrap().trim() == "yes"
    };
    eventually("the binding to count", SOON, async || {
        can("patch", "customermasterkeys.kms.cmk-operator.dev", &here).then_some(()).ok_or("not yet".to_owned())
    })
    .await;
    for kind in ["customermasterkeys", "datakeys", "accesskeys"] {
        let kind = format!("{kind}.kms.cmk-operator.dev");
        for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
            assert!(can(verb, &kind, &here), "{verb} {kind}");
            assert!(!can(verb, &kind, elsewhere), "{verb} {kind} elsewhere");
        }
        assert!(!can("deletecollection", &kind, &here), "{kind}");
    }
    assert!(can("generatedatakey", "customermasterkeys.kms.cmk-operator.dev", &here));
    for verb in ["encrypt", "decrypt", "importkeymaterial"] {
        assert!(!can(verb, "customermasterkeys.kms.cmk-operator.dev", &here), "{verb}");
    }
    for verb in ["get", "create", "patch", "delete", "adopt"] {
        assert!(!can(verb, "clusterkeystores.kms.cmk-operator.dev", "--all-namespaces"), "{verb}");
    }
    operator.stop().await.unwrap();
}
