//! Pods with data keys and with an access key.

use std::time::Duration;

use crate::user::{Seen, User};

/// `kubectl exec` in one of the application's pods.
fn in_pod(pod: &str, what: &str) -> String {
    format!("kubectl exec -n shop {pod} -- /app {what}")
}

pub fn run(user: &mut User) -> Seen {
    let pods = user.look_up("kubectl get pods -n shop -l app=orders-api -o name")?;
    let pods: Vec<_> = pods.lines().collect();
    user.expect_equal("the application has two pods", pods.len(), 2)?;
    let [one, other] = [pods[0], pods[1]];

    data_keys(user, one, other)?;
    for pod in [one, other] {
        let said = user.run(&in_pod(pod, "round-trip -key=alias/customers"))?;
        let id = user.key_id("customers")?;
        user.expect("the SDK encrypted and decrypted with that key, through the Service", said.contains(&id))?;
    }
    let orders = user.key_id("orders")?;
    user.run(&in_pod(one, &format!("round-trip -key={orders}")))?;
    disabled(user, one)
}

/// What one pod seals under its data key, the other one opens: both have the same 32 bytes.
fn data_keys(user: &mut User, one: &str, other: &str) -> Seen {
    let said = user.run(&in_pod(one, "data-key"))?;
    user.expect(
        "a mounted data key has exactly 32 bytes, and is what its ciphertext decrypts to",
        said.contains("32 bytes, which are what the ciphertext decrypts to"),
    )?;
    for (what, from) in [("mounted as a file (Raw)", ""), ("in the environment (Base64)", " -variable=BILLING_KEY")] {
        let sealed = user.run(&in_pod(one, &format!("seal -text='Ada Lovelace'{from}")))?;
        let opened = user.run(&in_pod(other, &format!("open -ciphertext={}{from}", sealed.trim())))?;
        user.expect_equal(&format!("two pods have the same data key {what}"), opened.trim(), "Ada Lovelace")?;
    }
    let sealed = user.look_up(&in_pod(one, "seal"))?;
    let refused = user.refused(&in_pod(other, &format!("open -variable=BILLING_KEY -ciphertext={}", sealed.trim())))?;
    user.expect("and the two data keys are different ones", refused.contains("message authentication failed"))
}

/// A key that is disabled stops at once, and goes on when it is enabled.
fn disabled(user: &mut User, pod: &str) -> Seen {
    let encrypt = in_pod(pod, "encrypt -key=alias/customers");
    for (enabled, state) in [(false, "Disabled"), (true, "Enabled")] {
        user.run(&format!(
            "kubectl patch cmk customers -n shop --type=merge -p '{{\"spec\":{{\"enabled\":{enabled}}}}}'"
        ))?;
        user.run(&format!(
            "kubectl wait cmk/customers -n shop --for=jsonpath='{{.status.keyMetadata.keyState}}'={state} --timeout=60s"
        ))?;
        // Every replica is asked: the Service takes any.
        for _ in 0..4 {
            user.wait_for(&format!("the endpoint knows that it is {state}"), Duration::from_secs(60), |cluster| {
                let ran = cluster.shell(&encrypt);
                let as_expected = if enabled { ran.success } else { ran.text.contains("DisabledException") };
                if as_expected { Ok(()) } else { Err(ran.text) }
            })?;
        }
    }
    Ok(())
}
