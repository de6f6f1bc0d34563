//! How a policy and its binding are put together, and the pieces of CEL that several of them share.

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, ParamRef, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec,
        Validation, Variable,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::core::ObjectMeta;

use super::{Policy, metadata::MANAGER};

/// The label that the API server puts on every namespace, with its name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What differs from one policy to the next.
pub struct Draft {
    purpose: &'static str,
    resources: MatchResources,
    conditions: Vec<MatchCondition>,
    variables: Vec<Variable>,
    validations: Vec<Validation>,
    failure_policy: &'static str,
    parameters: Option<(ParamKind, ParamRef)>,
}

impl Draft {
    /// A policy about these requests. What fails to be evaluated is refused.
    pub fn new(purpose: &'static str, rule: NamedRuleWithOperations) -> Self {
        Self {
            purpose,
            resources: MatchResources { resource_rules: Some(vec![rule]), ..MatchResources::default() },
            conditions: Vec::new(),
            variables: Vec::new(),
            validations: Vec::new(),
            failure_policy: "Fail",
            parameters: None,
        }
    }

    /// Only in this namespace. The API server does not evaluate anything elsewhere.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        let labels = [(NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned())].into();
        let selector = LabelSelector { match_labels: Some(labels), ..LabelSelector::default() };
        self.resources.namespace_selector = Some(selector);
        self
    }

    /// Judged once for every object of `kind` in the namespace that the request is about, as `params`; not at all
    /// where there is none.
    pub fn for_every(mut self, api_version: &str, kind: &str) -> Self {
        let kind = ParamKind { api_version: Some(api_version.to_owned()), kind: Some(kind.to_owned()) };
        let all = ParamRef {
            selector: Some(LabelSelector::default()),
            parameter_not_found_action: Some("Allow".to_owned()),
            ..ParamRef::default()
        };
        self.parameters = Some((kind, all));
        self
    }

    /// What fails to be evaluated is allowed: for a policy that would stop the cluster otherwise.
    pub fn allowing_failures(mut self) -> Self {
        self.failure_policy = "Ignore";
        self
    }

    /// Requests for which this is not true are not judged.
    pub fn when(mut self, name: &str, expression: impl Into<String>) -> Self {
        self.conditions.push(MatchCondition { name: name.to_owned(), expression: expression.into() });
        self
    }

    /// A name for an expression, as `variables.NAME`.
    pub fn with(mut self, name: &str, expression: impl Into<String>) -> Self {
        self.variables.push(Variable { name: name.to_owned(), expression: expression.into() });
        self
    }

    /// What must be true of a request. Clients see a refusal as 403, as they would RBAC's. `message` is what they are
    /// told if there is no better one, from [`Self::saying`].
    pub fn require(mut self, expression: impl Into<String>, message: impl Into<String>) -> Self {
        self.validations.push(Validation {
            expression: expression.into(),
            message: Some(message.into()),
            reason: Some("Forbidden".to_owned()),
            ..Validation::default()
        });
        self
    }

    /// The message of the last requirement, as an expression.
    pub fn saying(mut self, message_expression: impl Into<String>) -> Self {
        if let Some(last) = self.validations.last_mut() {
            last.message_expression = Some(message_expression.into());
        }
        self
    }

    /// The two objects.
    pub fn finish(self) -> Policy {
        let metadata = ObjectMeta {
            name: Some(format!("{MANAGER}-{}.cmk-operator.dev", self.purpose)),
            labels: Some([("app.kubernetes.io/name".to_owned(), MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let (param_kind, param_ref) = self.parameters.unzip();
        let policy = ValidatingAdmissionPolicySpec {
            failure_policy: Some(self.failure_policy.to_owned()),
            param_kind,
            match_constraints: Some(self.resources),
            match_conditions: Some(self.conditions),
            variables: Some(self.variables),
            validations: Some(self.validations),
            ..ValidatingAdmissionPolicySpec::default()
        };
        let binding = ValidatingAdmissionPolicyBindingSpec {
            policy_name: metadata.name.clone(),
            param_ref,
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
pub fn rule(group: &str, version: &str, resources: &[&str], operations: &[&str]) -> NamedRuleWithOperations {
    let owned = |values: &[&str]| Some(values.iter().map(|&value| value.to_owned()).collect());
    NamedRuleWithOperations {
        api_groups: owned(&[group]),
        api_versions: owned(&[version]),
        operations: owned(operations),
        resources: owned(resources),
        ..NamedRuleWithOperations::default()
    }
}

/// The value of an annotation of `object` or `oldObject`, empty when absent.
pub fn annotation(object: &str, name: &str) -> String {
    format!("{object}.metadata.?annotations['{name}'].orValue('')")
}

/// Whether `oldObject` has an annotation, with whatever value.
pub fn is_annotated(name: &str) -> String {
    format!("oldObject.metadata.?annotations['{name}'].hasValue()")
}

/// Whether the namespace that the request is about is being deleted. Nothing may wait for a person then: it would hang.
pub const NAMESPACE_TERMINATING: &str = "has(namespaceObject.metadata.deletionTimestamp)";

/// A CEL string literal with this value.
pub fn cel_string(value: &str) -> String {
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
