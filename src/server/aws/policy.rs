//! The key policy that every key shows: AWS's way to say that the account's own rules decide, which here is Kubernetes
//! RBAC. It is shown for tools that read it; nothing evaluates it, and it can't be changed.

use serde_json::{Value, json};

use crate::server::Failure;

/// The one name that a key's policy has.
pub(super) const NAME: &str = "default";

const SERVICE: &str = "arn:aws:iam::";
const ROOT: &str = ":root";

/// The policy of the keys of an account. AWS's default policy has the same one statement under another name.
pub(super) fn document(account_id: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Id": "kubernetes-rbac",
        "Statement": [{
            "Sid": "Kubernetes RBAC decides",
            "Effect": "Allow",
            "Principal": {"AWS": format!("{SERVICE}{account_id:0>12}{ROOT}")},
            "Action": "kms:*",
            "Resource": "*",
        }],
    })
}

/// Whether a key may be made with a policy: only with the one that it gets anyway. Any other would promise what nobody
/// keeps.
pub(super) fn check(text: &str) -> Result<(), Failure> {
    let given: Option<Value> = serde_json::from_str(text).ok();
    let account = given.as_ref().and_then(account_of);
    if account.is_some_and(|account| given.as_ref() == Some(&document(account))) {
        return Ok(());
    }
    Err(Failure::Unsupported(
        "Policy is not supported, but for the one that GetKeyPolicy answers: Kubernetes RBAC decides who may use a key. \
         Leave it out, and bind a Role instead."
            .into(),
    ))
}

fn account_of(policy: &Value) -> Option<&str> {
    let principal = policy.pointer("/Statement/0/Principal/AWS")?.as_str()?;
    principal.strip_prefix(SERVICE)?.strip_suffix(ROOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_policy_that_is_shown_may_be_given() {
        assert_eq!(document("123456")["Statement"][0]["Principal"]["AWS"], "arn:aws:iam::000000123456:root");
        assert_eq!(check(&document("123456").to_string()), Ok(()));
        assert_eq!(check(&serde_json::to_string_pretty(&document("1")).unwrap()), Ok(()));
        let mut deny = document("123456");
        deny["Statement"][0]["Effect"] = "Deny".into();
        let mut more = document("123456");
        let statement = more["Statement"][0].clone();
        more["Statement"].as_array_mut().unwrap().push(statement);
        for refused in [deny.to_string(), more.to_string(), "{}".into(), "no policy".into(), String::new()] {
            assert!(matches!(check(&refused), Err(Failure::Unsupported(_))), "{refused}");
        }
    }
}
