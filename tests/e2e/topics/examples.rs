//! The manifests of `examples/`, and the application that the other topics use.

use crate::user::{Seen, User};

pub fn run(user: &mut User) -> Seen {
    user.run("kubectl apply -f examples/00-namespace.yaml")?;
    user.run(
        "head -c 32 /dev/urandom | \\\n  \
         kubectl create secret generic imported-material -n shop --from-file=material=/dev/stdin",
    )?;
    user.run("kubectl apply -f examples/")?;
    let all = "kubectl wait --for=condition=Ready --timeout=90s --all";
    user.run(&format!("{all} clusterkeystores"))?;
    user.run(&format!("{all} -A cmk,dk,ak"))?;
    keys(user)?;
    refusals(user)?;

    user.run("kubectl apply -f tests/e2e/manifests/orders-api.yaml")?;
    user.run("kubectl rollout status deployment/orders-api -n shop --timeout=120s")?;
    Ok(())
}

fn keys(user: &mut User) -> Seen {
    let table = user.run("kubectl get cmk -n shop")?;
    let row = |name: &str| -> Vec<&str> {
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row.first() == Some(&name)).unwrap_or_default()
    };
    let is = |name: &str, state: &str| row(name).contains(&state) && row(name).contains(&"True");
    user.expect("orders is Enabled", is("orders", "Enabled"))?;
    user.expect("archive is Disabled, as declared", is("archive", "Disabled"))?;
    user.expect("retired is PendingDeletion, as declared", is("retired", "PendingDeletion"))?;
    let id = user.key_id("customers")?;
    user.expect("customers shows its key id and its alias", {
        !id.is_empty() && row("customers").contains(&&*id) && row("customers").contains(&"alias/customers")
    })
}

fn refusals(user: &mut User) -> Seen {
    let key = |spec: &str| {
        format!(
            "kubectl apply -f - <<EOF\n\
             apiVersion: kms.cmk-operator.dev/v1alpha1\n\
             kind: CustomerMasterKey\n\
             metadata: {{name: careless, namespace: shop}}\n\
             spec: {spec}\n\
             EOF"
        )
    };
    let said = user.refused(&key("{pendingDeletionDays: 3}"))?;
    user.expect(
        "a sentence names the field and its limits",
        said.contains("spec.pendingDeletionDays must be 7 to 366 days"),
    )?;
    let said = user.refused(&key("{enabeld: true}"))?;
    user.expect("a field that does not exist is named", said.contains("spec.enabeld"))?;
    let said = user.refused("kubectl delete cmk ledger -n shop")?;
    user.expect("a protected key is not deleted", said.contains("deletionProtection"))
}
