//! Applied again, a manifest changes nothing, and no tool sees a difference: by three-way merge, as kubectl and Argo CD do it, and
//! by server-side apply, as Flux does (`role.rs`).

use std::process::Command;

use serde_json::Value;

use crate::{
    examples::{bring_material, documents, file, kubectl, ready, with_operator},
    support::world::{World, succeed},
    tools::{argo_cd, kstatus},
};

/// What `kubectl diff` prints. Its exit status is 0 without a difference, and 1 with one.
pub fn diff(mut command: Command) -> String {
    let output = command.env("KUBECTL_EXTERNAL_DIFF", "diff -u -N").output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!stdout.is_empty())), "{stdout}{stderr}");
    stdout
}

/// Every object is Ready, Flux and Argo CD agree, and what the operator adds is on it. Returns the objects.
pub async fn settled(world: &World) -> std::collections::BTreeMap<String, Value> {
    let objects = ready(world).await;
    for (name, object) in &objects {
        let verdicts = (kstatus(object).status, argo_cd(object).status);
        assert_eq!(verdicts, ("Current".to_owned(), "Healthy".to_owned()), "{name}");
        let annotations = &object["metadata"]["annotations"];
        match object["kind"].as_str().unwrap() {
            "CustomerMasterKey" => {
                assert!(annotations["cmk-operator.dev/key-id"].is_string(), "{name}");
                assert_eq!(
                    object["metadata"]["finalizers"],
                    serde_json::json!(["cmk-operator.dev/finalizer"]),
                    "{name}"
                );
            }
            "DataKey" => assert!(annotations["cmk-operator.dev/ciphertext-blob"].is_string(), "{name}"),
            _ => {}
        }
    }
    objects
}

#[tokio::test]
async fn rule_16_an_applied_manifest_is_applied_again_without_a_difference() {
    let (world, operator) = with_operator("no-diff").await;
    let all = file(|_| true);
    let path = all.path().to_str().unwrap();
    succeed(&mut kubectl(&world, &["apply", "-f", file(|d| d["kind"] == "Namespace").path().to_str().unwrap()]));
    bring_material(&world).await;
    succeed(&mut kubectl(&world, &["apply", "-f", path]));
    let before = settled(&world).await;

    assert_eq!(diff(kubectl(&world, &["diff", "-f", path])), "");
    let said = succeed(&mut kubectl(&world, &["apply", "-f", path]));
    assert!(said.lines().all(|line| line.ends_with(" unchanged")), "{said}");
    assert_eq!(said.lines().count(), documents().len());
    assert_eq!(ready(&world).await, before, "not a byte of it");

    // A change is a change, and takes nothing away that the operator wrote.
    let mut changed = documents();
    let key = changed.iter_mut().find(|d| d["metadata"]["name"] == "orders").unwrap();
    key["spec"]["description"] = "Another one".into();
    let changed_file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(changed_file.path(), key.to_string()).unwrap();
    let changed_path = changed_file.path().to_str().unwrap();
    let difference = diff(kubectl(&world, &["diff", "-f", changed_path]));
    let lines: Vec<_> = difference.lines().filter(|l| l.starts_with(['+', '-']) && l.contains("description")).collect();
    assert_eq!(lines, ["-  description: Orders database", "+  description: Another one"], "{difference}");
    succeed(&mut kubectl(&world, &["apply", "-f", changed_path]));
    succeed(&mut kubectl(&world, &["apply", "-f", path]));
    settled(&world).await;
    operator.stop().await.unwrap();
}
