use serde_json::{Value, json};

use super::*;
use crate::api::testing::check;

fn key(spec: &Value) -> CustomerMasterKey {
    CustomerMasterKey::new("orders", serde_json::from_value(spec.clone()).unwrap())
}

/// Limits are tried with ASCII: the API server counts characters, kube's evaluation counts bytes.
#[test]
fn spec_is_validated() {
    let tags = |key: &str, value: &str| json!({"tags": {key: value}});
    let (key_limit, value_limit) = ("a tag key must be 1 to 128", "a tag value must be at most 256");
    let table = [
        (json!({}), ""),
        (json!({"description": "d".repeat(8192)}), ""),
        (json!({"description": "d".repeat(8193)}), "spec.description must be at most 8192 characters"),
        (json!({"pendingDeletionDays": 6}), "spec.pendingDeletionDays must be 7 to 366 days"),
        (json!({"pendingDeletionDays": 7}), ""),
        (json!({"pendingDeletionDays": 366}), ""),
        (json!({"pendingDeletionDays": 367}), "spec.pendingDeletionDays must be 7 to 366 days"),
        (tags(&"k".repeat(128), &"v".repeat(256)), ""),
        (tags(&"k".repeat(129), ""), key_limit),
        (tags("", "v"), key_limit),
        (tags("k", &"v".repeat(257)), value_limit),
        (tags("aliyunteam", "v"), "must not begin with aliyun, acs: or aws:"),
        (tags("acs:team", "v"), "must not begin with aliyun, acs: or aws:"),
        (tags("aws:team", "v"), "must not begin with aliyun, acs: or aws:"),
        (tags("acs-team", "v"), ""),
    ];
    for (spec, expected) in table {
        let case: String = spec.to_string().chars().take(60).collect();
        check(key(&spec).validate_cel(), expected, &case);
    }
}

#[test]
fn origin_and_usage_are_immutable_and_absent_is_the_default() {
    let (absent, ali, aws) = (json!({}), json!({"origin": "Aliyun_KMS"}), json!({"origin": "AWS_KMS"}));
    let usage = json!({"keyUsage": "ENCRYPT/DECRYPT"});
    let refused = "spec.origin is immutable";
    let table = [
        (&absent, &ali, ""),
        (&ali, &absent, ""),
        (&absent, &aws, refused),
        (&aws, &absent, refused),
        (&ali, &aws, refused),
        (&aws, &aws, ""),
        (&absent, &usage, ""),
        (&usage, &absent, ""),
    ];
    for (old, new, expected) in table {
        check(key(new).validate_cel_update(&key(old)), expected, &format!("{old} -> {new}"));
    }
}
