//! The ValidatingAdmissionPolicies that go with our kinds: what must not be deleted, what is the operator's, and who
//! may do what that RBAC on the kinds alone does not say (design, rules 7 and 18). They run in the API server, so
//! nothing here has to be up for them to hold.
//!
//! What depends on the spec alone is CEL in the CustomResourceDefinitions instead, and holds without these.

mod draft;
mod operators_own;
mod protection;
mod rights;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use serde::Serialize;

use super::{GROUP, VERSION, metadata};

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
        protection::keys(),
        protection::namespaces(),
        protection::crds(),
        protection::stores(),
        operators_own::records(options),
        operators_own::namespace(options),
        operators_own::status(options),
        operators_own::nothing_beside(options),
        operators_own::secret_types(options),
        rights::use_a_key(),
        rights::bring_a_ciphertext(),
        rights::import_material(),
        rights::make_an_access_key(),
        rights::adopt_a_key(),
        rights::adopt_keys(),
    ]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::admissionregistration::v1::ValidatingAdmissionPolicySpec, apimachinery::pkg::apis::meta::v1::LabelSelector,
    };

    use super::*;

    /// The spec of the policy for this purpose.
    fn spec_of(options: &PolicyOptions, purpose: &str) -> ValidatingAdmissionPolicySpec {
        let name = Some(format!("cmk-operator-{purpose}.cmk-operator.dev"));
        let found = policies(options).into_iter().find(|p| p.policy.metadata.name == name);
        found.unwrap_or_else(|| panic!("no policy {purpose}")).policy.spec.unwrap()
    }

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
            ("protect-key", "DELETE", "customermasterkeys"),
            ("protect-namespace", "DELETE", "namespaces"),
            ("protect-crd", "DELETE", "customresourcedefinitions"),
            ("protect-store", "DELETE", "clusterkeystores"),
            ("protect-records", "UPDATE DELETE", "secrets"),
            ("protect-operator-namespace", "DELETE", "namespaces"),
            ("status", "UPDATE", "customermasterkeys/status datakeys/status clusterkeystores/status accesskeys/status"),
            ("own-namespace", "CREATE", "datakeys accesskeys"),
            ("secret-types", "CREATE", "secrets"),
            ("use-key", "CREATE UPDATE", "datakeys"),
            ("bring-ciphertext", "CREATE UPDATE", "datakeys"),
            ("import-material", "CREATE UPDATE", "customermasterkeys"),
            ("make-access-key", "CREATE UPDATE", "accesskeys"),
            ("adopt-key", "CREATE UPDATE", "customermasterkeys"),
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
            assert_eq!(spec.param_kind.is_some(), bound.param_ref.is_some());
            let validations = spec.validations.unwrap();
            assert!(!validations.is_empty());
            for validation in validations {
                assert!(validation.message.is_some_and(|message| !message.contains('\n')));
                assert_eq!(validation.reason.unwrap(), "Forbidden");
            }
        }
    }

    /// Only the policy that could stop the whole cluster when our kinds are gone lets pass what it can't evaluate.
    #[test]
    fn rule_7_what_can_not_be_evaluated_is_refused() {
        let policies = policies(&PolicyOptions::default());
        let ignoring =
            policies.iter().filter(|p| p.policy.spec.as_ref().unwrap().failure_policy.as_deref() == Some("Ignore"));
        let names: Vec<_> = ignoring.map(|p| p.policy.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["cmk-operator-protect-namespace.cmk-operator.dev"]);

        let with_parameters = policies.iter().filter(|p| p.policy.spec.as_ref().unwrap().param_kind.is_some());
        let names: Vec<_> = with_parameters.map(|p| p.policy.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["cmk-operator-protect-namespace.cmk-operator.dev"]);
        let bound = policies[1].binding.spec.as_ref().unwrap().param_ref.as_ref().unwrap();
        assert_eq!(bound.parameter_not_found_action.as_deref(), Some("Allow"));
        assert_eq!(bound.selector, Some(LabelSelector::default()), "every key");
        assert_eq!(bound.namespace, None, "of the namespace that is deleted");
    }

    #[test]
    fn rule_18_user_and_namespace_are_the_given_ones() {
        let options = PolicyOptions { user: r"o'brien\x".to_owned(), namespace: "keys".to_owned() };
        let expression = |purpose| spec_of(&options, purpose).validations.unwrap().remove(0).expression;
        assert_eq!(expression("status"), r"request.userInfo.username == 'o\'brien\\x'");
        assert!(expression("protect-records").starts_with(r"request.userInfo.username == 'o\'brien\\x' || "));
        assert_eq!(expression("own-namespace"), "request.namespace != 'keys'");

        let constraints = |purpose| spec_of(&options, purpose).match_constraints.unwrap();
        let selector = constraints("protect-records").namespace_selector.unwrap();
        assert_eq!(selector.match_labels.unwrap()["kubernetes.io/metadata.name"], "keys");
        let rule = constraints("protect-operator-namespace").resource_rules.unwrap().remove(0);
        assert_eq!(rule.resource_names.unwrap(), ["keys"]);
    }

    /// A Namespace write that does not set the annotation never gets as far as the policy.
    #[test]
    fn rule_5_other_namespace_writes_are_left_alone() {
        let policy = spec_of(&PolicyOptions::default(), "adopt-keys");
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
