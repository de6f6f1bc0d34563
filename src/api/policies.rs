//! The ValidatingAdmissionPolicies that go with our kinds: who may do what that RBAC on the kinds alone does not
//! say (design, rule 18). They run in the API server, so nothing here has to be up for them to hold.
//!
//! What depends on the spec alone is CEL in the CustomResourceDefinitions instead, and holds without these.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
};
use kube::core::ObjectMeta;
use serde::Serialize;

use super::metadata::{ADOPT_KEYS, CIPHERTEXT_BLOB, MANAGER};
use super::{GROUP, VERSION};

/// The operator that the policies are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyOptions {
    /// The user it runs as.
    pub user: String,
    /// The namespace it runs in.
    pub namespace: String,
}

impl PolicyOptions {
    /// The operator's usual namespace.
    pub const DEFAULT_NAMESPACE: &str = "cmk-system";
    /// The user behind its usual ServiceAccount.
    pub const DEFAULT_USER: &str = "system:serviceaccount:cmk-system:cmk-operator";
}

impl Default for PolicyOptions {
    fn default() -> Self {
        Self { user: Self::DEFAULT_USER.to_owned(), namespace: Self::DEFAULT_NAMESPACE.to_owned() }
    }
}

/// A policy, and the binding that puts it in force. Both have the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What is refused, and with which message.
    pub policy: ValidatingAdmissionPolicy,
    /// Puts it in force everywhere.
    pub binding: ValidatingAdmissionPolicyBinding,
}

/// One of the two objects of a [`Policy`], to be written out.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum PolicyManifest<'a> {
    /// The policy.
    Policy(&'a ValidatingAdmissionPolicy),
    /// Its binding.
    Binding(&'a ValidatingAdmissionPolicyBinding),
}

impl Policy {
    /// Both objects, for [`to_yaml`](super::crds::to_yaml).
    #[must_use]
    pub fn manifests(&self) -> [PolicyManifest<'_>; 2] {
        [PolicyManifest::Policy(&self.policy), PolicyManifest::Binding(&self.binding)]
    }
}

/// All policies, in a stable order.
#[must_use]
pub fn policies(options: &PolicyOptions) -> Vec<Policy> {
    vec![
        status_is_the_operators(options),
        use_a_key(),
        bring_a_ciphertext(),
        no_data_keys_beside_the_operator(options),
        adopt_keys(),
    ]
}

/// Status decides what the operator does next (a data key is restored from the ciphertext in it, rule 12), so
/// nobody else writes it, whatever RBAC says.
fn status_is_the_operators(options: &PolicyOptions) -> Policy {
    Draft {
        purpose: "status",
        rules: vec![rule(GROUP, VERSION, &["customermasterkeys/status", "datakeys/status"], &["UPDATE"])],
        conditions: Vec::new(),
        validation: Validation {
            expression: format!("request.userInfo.username == {}", cel_string(&options.user)),
            message: Some(format!(
                "only the operator ({}) writes status; if it runs as another user, apply the output of \
                 `cmk-operator policies --user NAME`",
                options.user
            )),
            ..forbidden()
        },
    }
    .finish()
}

/// A `DataKey` makes the operator generate a data key and hand it out, so whoever makes or changes one needs the
/// right to generate data keys under that key. Metadata may change without it.
fn use_a_key() -> Policy {
    Draft {
        purpose: "use-key",
        rules: vec![rule(GROUP, VERSION, &["datakeys"], &["CREATE", "UPDATE"])],
        conditions: vec![("spec-changes", "oldObject == null || object.spec != oldObject.spec".to_owned())],
        validation: Validation {
            expression: key_check("generatedatakey"),
            message: Some("generatedatakey on the CustomerMasterKey in spec.keyRef is missing".to_owned()),
            message_expression: Some(key_message("may not use the key", "generatedatakey", "cmk-edit")),
            ..forbidden()
        },
    }
    .finish()
}

/// Whoever brings a ciphertext gets its plaintext in a Secret: that is decryption. It can be brought in the spec
/// or, where status is gone, in the annotation (rule 12); moving it from one to the other counts, taking it
/// away does not.
fn bring_a_ciphertext() -> Policy {
    let annotation = |object: &str| annotation(object, CIPHERTEXT_BLOB);
    let spec = |object: &str| format!("{object}.spec.?ciphertextBlob.orValue('')");
    let brought = |of: &dyn Fn(&str) -> String| {
        let (new, old) = (of("object"), of("oldObject"));
        format!("({new} != '' && (oldObject == null || {new} != {old}))")
    };
    Draft {
        purpose: "bring-ciphertext",
        rules: vec![rule(GROUP, VERSION, &["datakeys"], &["CREATE", "UPDATE"])],
        conditions: vec![("brings-a-ciphertext", format!("{} || {}", brought(&annotation), brought(&spec)))],
        validation: Validation {
            expression: key_check("decrypt"),
            message: Some("decrypt on the CustomerMasterKey in spec.keyRef is missing".to_owned()),
            message_expression: Some(key_message(
                "may not bring a ciphertext (spec.ciphertextBlob, or the annotation cmk-operator.dev/ciphertext-blob) \
                 of the key",
                "decrypt",
                "cmk-decrypter",
            )),
            ..forbidden()
        },
    }
    .finish()
}

/// The operator's namespace holds the records and the root key as Secrets. A `DataKey` there would have Secrets
/// made next to them, under names of its choice. Only CREATE: one from before can still be changed and deleted.
fn no_data_keys_beside_the_operator(options: &PolicyOptions) -> Policy {
    Draft {
        purpose: "own-namespace",
        rules: vec![rule(GROUP, VERSION, &["datakeys"], &["CREATE"])],
        conditions: Vec::new(),
        validation: Validation {
            expression: format!("request.namespace != {}", cel_string(&options.namespace)),
            message: Some(format!(
                "DataKeys are refused in {}, the operator's own namespace: make it in the namespace that uses the \
                 data key",
                options.namespace
            )),
            ..forbidden()
        },
    }
    .finish()
}

/// The annotation on a Namespace hands it the keys of an earlier namespace of the same name (rule 5).
///
/// Fail, although it matches Namespaces: the condition lets all writes pass that do not newly set the annotation,
/// before anything else is evaluated. It reads nothing but optional metadata, has no parameter, and is tried in
/// a cluster, so it does not fail; and with Ignore, what does fail would hand over the keys. The subresources are
/// there because writing them can change annotations, too.
fn adopt_keys() -> Policy {
    let is_set = |object: &str| format!("{} == 'true'", annotation(object, ADOPT_KEYS));
    Draft {
        purpose: "adopt-keys",
        rules: vec![rule("", "v1", &["namespaces", "namespaces/finalize", "namespaces/status"], &["CREATE", "UPDATE"])],
        conditions: vec![(
            "newly-set",
            format!("{} && (oldObject == null || !({}))", is_set("object"), is_set("oldObject")),
        )],
        validation: Validation {
            expression: format!("authorizer.group('{GROUP}').resource('clusterkeystores').check('adopt').allowed()"),
            message: Some(format!("adopt on clusterkeystores ({GROUP}) is missing")),
            message_expression: Some(format!(
                "'user ' + request.userInfo.username + ' may not set the annotation {ADOPT_KEYS} on the namespace ' + \
                 object.metadata.name + ': it takes over the keys of an earlier namespace of that name, which needs \
                 the verb adopt on clusterkeystores.{GROUP} (ask a cluster administrator)'"
            )),
            ..forbidden()
        },
    }
    .finish()
}

/// What differs from one policy to the next.
struct Draft {
    /// Names the policy.
    purpose: &'static str,
    /// The requests that it is for.
    rules: Vec<NamedRuleWithOperations>,
    /// Name and expression of what must be true of a request for it to be judged at all.
    conditions: Vec<(&'static str, String)>,
    /// What must be true of a request that is judged.
    validation: Validation,
}

impl Draft {
    fn finish(self) -> Policy {
        let metadata = ObjectMeta {
            name: Some(format!("{MANAGER}-{}.cmk-operator.dev", self.purpose)),
            labels: Some([("app.kubernetes.io/name".to_owned(), MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let conditions = self.conditions.into_iter();
        let policy = ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".to_owned()),
            match_constraints: Some(MatchResources { resource_rules: Some(self.rules), ..MatchResources::default() }),
            match_conditions: Some(
                conditions.map(|(name, expression)| MatchCondition { name: name.to_owned(), expression }).collect(),
            ),
            validations: Some(vec![self.validation]),
            ..ValidatingAdmissionPolicySpec::default()
        };
        let binding = ValidatingAdmissionPolicyBindingSpec {
            policy_name: metadata.name.clone(),
            validation_actions: Some(vec!["Deny".to_owned()]),
            ..ValidatingAdmissionPolicyBindingSpec::default()
        };
        Policy {
            policy: ValidatingAdmissionPolicy { metadata: metadata.clone(), spec: Some(policy), status: None },
            binding: ValidatingAdmissionPolicyBinding { metadata, spec: Some(binding) },
        }
    }
}

/// Requests of these operations on these resources.
fn rule(group: &str, version: &str, resources: &[&str], operations: &[&str]) -> NamedRuleWithOperations {
    let owned = |values: &[&str]| Some(values.iter().map(|&value| value.to_owned()).collect());
    NamedRuleWithOperations {
        api_groups: owned(&[group]),
        api_versions: owned(&[version]),
        operations: owned(operations),
        resources: owned(resources),
        ..NamedRuleWithOperations::default()
    }
}

/// A refusal that clients see as 403, as they would RBAC's.
fn forbidden() -> Validation {
    Validation { reason: Some("Forbidden".to_owned()), ..Validation::default() }
}

/// The value of an annotation of `object` or `oldObject`, empty when absent.
fn annotation(object: &str, name: &str) -> String {
    format!("{object}.metadata.?annotations['{name}'].orValue('')")
}

/// Whether the user may do `verb` with the key that the `DataKey` refers to.
fn key_check(verb: &str) -> String {
    format!(
        "authorizer.group('{GROUP}').resource('customermasterkeys').namespace(request.namespace)\
         .name(object.spec.keyRef.name).check('{verb}').allowed()"
    )
}

/// Says who lacks which verb on which key, and which of our roles has it.
fn key_message(refusal: &str, verb: &str, role: &str) -> String {
    format!(
        "'user ' + request.userInfo.username + ' {refusal} ' + request.namespace + '/' + object.spec.keyRef.name + \
         ': that needs the verb {verb} on customermasterkeys.{GROUP}, which the ClusterRole {role} gives'"
    )
}

/// A CEL string literal with this value.
fn cel_string(value: &str) -> String {
    let escaped: String = value
        .chars()
        .flat_map(|c| match c {
            '\'' | '\\' => vec!['\\', c],
            '\n' => vec!['\\', 'n'],
            c => vec![c],
        })
        .collect();
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_18_names_and_matched_requests() {
        let table: Vec<_> = policies(&PolicyOptions::default())
            .into_iter()
            .map(|Policy { policy, .. }| {
                let spec = policy.spec.unwrap();
                let rule = spec.match_constraints.unwrap().resource_rules.unwrap().remove(0);
                let list = |values: Option<Vec<String>>| values.unwrap().join(" ");
                (policy.metadata.name.unwrap(), list(rule.operations), list(rule.resources))
            })
            .collect();
        let expected = [
            ("status", "UPDATE", "customermasterkeys/status datakeys/status"),
            ("use-key", "CREATE UPDATE", "datakeys"),
            ("bring-ciphertext", "CREATE UPDATE", "datakeys"),
            ("own-namespace", "CREATE", "datakeys"),
            ("adopt-keys", "CREATE UPDATE", "namespaces namespaces/finalize namespaces/status"),
        ];
        let expected = expected.map(|(purpose, operations, resources)| {
            (format!("cmk-operator-{purpose}.cmk-operator.dev"), operations.to_owned(), resources.to_owned())
        });
        assert_eq!(table, expected);
    }

    #[test]
    fn rule_18_every_policy_is_bound_and_refuses_with_a_message() {
        for Policy { policy, binding } in policies(&PolicyOptions::default()) {
            let (spec, bound) = (policy.spec.unwrap(), binding.spec.unwrap());
            assert_eq!(bound.policy_name, policy.metadata.name);
            assert_eq!(bound.validation_actions.unwrap(), ["Deny"]);
            assert_eq!(spec.failure_policy.unwrap(), "Fail");
            for validation in spec.validations.unwrap() {
                assert!(validation.message.is_some_and(|message| !message.contains('\n')));
                assert_eq!(validation.reason.unwrap(), "Forbidden");
            }
        }
    }

    #[test]
    fn rule_18_user_and_namespace_are_the_given_ones() {
        let options = PolicyOptions { user: r"o'brien\x".to_owned(), namespace: "keys".to_owned() };
        let expressions: Vec<_> = policies(&options)
            .into_iter()
            .flat_map(|p| p.policy.spec.unwrap().validations.unwrap())
            .map(|validation| validation.expression)
            .collect();
        assert_eq!(expressions[0], r"request.userInfo.username == 'o\'brien\\x'");
        assert_eq!(expressions[3], "request.namespace != 'keys'");
    }

    /// A Namespace write that does not set the annotation never gets as far as the policy.
    #[test]
    fn rule_5_other_namespace_writes_are_left_alone() {
        let policy = policies(&PolicyOptions::default()).pop().unwrap().policy.spec.unwrap();
        let condition = &policy.match_conditions.unwrap()[0].expression;
        assert!(
            condition.starts_with("object.metadata.?annotations['cmk-operator.dev/adopt-keys'].orValue('') == 'true'")
        );
    }

    #[test]
    fn yaml_has_both_objects_of_every_policy() {
        let policies = policies(&PolicyOptions::default());
        let manifests: Vec<_> = policies.iter().flat_map(Policy::manifests).collect();
        let yaml = super::super::crds::to_yaml("policies", &manifests).unwrap();
        assert_eq!(yaml.matches("\nkind: ValidatingAdmissionPolicy\n").count(), policies.len());
        assert_eq!(yaml.matches("\nkind: ValidatingAdmissionPolicyBinding\n").count(), policies.len());
    }
}
