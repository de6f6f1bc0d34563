//! Why a command did not do what it was asked, as a sentence that says what to do.

use std::{io, time::Duration};

use kube::core::Status;
use thiserror::Error;

use crate::api::GROUP;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// There is no cluster to talk to.
    #[error("no cluster: {0}")]
    NoCluster(String),
    /// The API server refused, or did not answer.
    #[error("{}", sentence(.0))]
    Api(#[from] kube::Error),
    /// There is no such object.
    #[error(
        "CustomerMasterKey {namespace}/{name} does not exist. If it was deleted, apply its manifest again within its \
         window to get its key back."
    )]
    NoSuchKey {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A field is somebody else's.
    #[error(
        "{field} of {object} is declared by {manager}{how}: change it in the manifest that {manager} applies, or it is \
         set back. --force changes it all the same."
    )]
    Owned {
        /// The object.
        object: String,
        /// The field.
        field: String,
        /// The field manager.
        manager: String,
        /// How it declares it: empty, or in brackets.
        how: &'static str,
    },
    /// What was asked for is not possible with this object.
    #[error("{0}")]
    Impossible(String),
    /// The object changed before every attempt.
    #[error("{0} is changed by others all the time: try again")]
    Contended(String),
    /// The operator answered that it can't.
    #[error("{object} is changed, but the operator can't go on: {answer}")]
    Refused {
        /// The object.
        object: String,
        /// What it answered.
        answer: String,
    },
    /// The operator did not answer in time.
    #[error(
        "{object} is changed, but its status does not say so within {} s{last}. It is done when the operator gets to \
         it; `kubectl cmk doctor` says whether it runs.", .within.as_secs()
    )]
    NotAnswered {
        /// The object.
        object: String,
        /// How long was waited.
        within: Duration,
        /// What status says: empty, or in brackets.
        last: String,
    },
    /// A file, or a stream.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        error: io::Error,
    },
    /// Key material has the wrong length.
    #[error("{path} has {length} bytes, and key material is exactly 32 bytes{hint}")]
    MaterialLength {
        /// Where it came from.
        path: String,
        /// How many bytes it has.
        length: usize,
        /// What may have happened: empty, or more of the sentence.
        hint: &'static str,
    },
    /// A manifest can't be read.
    #[error("{path}: {problem}")]
    Manifest {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Something does not serialize: a bug.
    #[error("it can't be written out: {0}")]
    Output(String),
}

impl Failure {
    /// Whether a right is missing, or a policy refuses.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 403)
    }
}

/// What the API server said, for a person.
pub fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => answer(status),
        kube::Error::Service(_) | kube::Error::HyperError(_) => {
            format!("the API server can't be reached: {}", root_cause(error))
        }
        kube::Error::Auth(_) => format!("the kubeconfig's credentials can't be used: {}", root_cause(error)),
        kube::Error::SerdeError(problem) => {
            format!("the API server's answer is not understood, as after a change of the kinds: {problem}")
        }
        other => other.to_string(),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn answer(status: &Status) -> String {
    let message = status.message.trim();
    match status.code {
        401 => "the API server does not know who you are: log in again".into(),
        403 => policy(message).or_else(|| missing_right(message)).unwrap_or_else(|| message.to_owned()),
        404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => format!(
            "the API server does not know this kind of {GROUP}. Install the kinds: `cmk-operator crds | kubectl apply \
             --server-side -f -`"
        ),
        _ => message.to_owned(),
    }
}

/// What a ValidatingAdmissionPolicy says, without which one says it.
fn policy(message: &str) -> Option<String> {
    let (_, said) = message.split_once("ValidatingAdmissionPolicy '")?;
    let (_, said) = said.split_once("denied request: ")?;
    Some(said.to_owned())
}

/// The right that RBAC misses: `… is forbidden: User "jane" cannot patch resource "customermasterkeys" in API group
/// "kms.cmk-operator.dev" in the namespace "shop"`.
fn missing_right(message: &str) -> Option<String> {
    let (object, said) = message.split_once(" is forbidden: User \"")?;
    let (user, said) = said.split_once("\" cannot ")?;
    let (verb, said) = said.split_once(" resource \"")?;
    let (resource, said) = said.split_once("\" in API group \"")?;
    let (group, place) = said.split_once('"')?;
    let namespace = place.split_once("in the namespace \"").and_then(|(_, rest)| rest.split('"').next());
    let place = namespace.map_or_else(|| "in all namespaces".to_owned(), |name| format!("in namespace {name}"));
    let of = if group.is_empty() { String::new() } else { format!(".{group}") };
    let named = object.rsplit_once(' ').map(|(_, name)| name.trim_matches('"')).filter(|name| !name.is_empty());
    let which = named.map(|name| format!(" ({name})")).unwrap_or_default();
    Some(format!(
        "{user} may not {verb} {resource}{of}{which} {place}: ask for the verb {verb} on {resource}{of}{}",
        role(verb, resource, group).map(|role| format!(", which the ClusterRole {role} gives")).unwrap_or_default()
    ))
}

/// The ClusterRole of ours that gives a right.
fn role(verb: &str, resource: &str, group: &str) -> Option<&'static str> {
    let is_namespaced = resource.starts_with("customermasterkeys") || resource.starts_with("datakeys");
    if group != GROUP {
        return None;
    }
    match verb {
        "get" | "list" | "watch" => Some("cmk-view"),
        _ if !is_namespaced => None,
        "create" | "update" | "patch" | "delete" => Some("cmk-edit"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u16, message: &str) -> String {
        let status = Status { code, ..Status::failure(message, "") };
        sentence(&kube::Error::Api(status.boxed()))
    }

    #[test]
    fn a_missing_right_is_named() {
        let table = [
            (
                "customermasterkeys.kms.cmk-operator.dev \"orders\" is forbidden: User \"jane\" cannot patch resource \
                 \"customermasterkeys\" in API group \"kms.cmk-operator.dev\" in the namespace \"shop\"",
                "jane may not patch customermasterkeys.kms.cmk-operator.dev (orders) in namespace shop: ask for the \
                 verb patch on customermasterkeys.kms.cmk-operator.dev, which the ClusterRole cmk-edit gives",
            ),
            (
                "datakeys.kms.cmk-operator.dev is forbidden: User \"jane\" cannot list resource \"datakeys\" in API \
                 group \"kms.cmk-operator.dev\" at the cluster scope",
                "jane may not list datakeys.kms.cmk-operator.dev in all namespaces: ask for the verb list on \
                 datakeys.kms.cmk-operator.dev, which the ClusterRole cmk-view gives",
            ),
            (
                "secrets is forbidden: User \"jane\" cannot create resource \"secrets\" in API group \"\" in the \
                 namespace \"shop\"",
                "jane may not create secrets in namespace shop: ask for the verb create on secrets",
            ),
            (
                "customermasterkeys.kms.cmk-operator.dev \"orders\" is forbidden: ValidatingAdmissionPolicy \
                 'cmk-operator-x' with binding 'cmk-operator-x' denied request: user jane may not do this",
                "user jane may not do this",
            ),
            ("something new", "something new"),
        ];
        for (message, expected) in table {
            assert_eq!(said(403, message), expected);
        }
    }

    #[test]
    fn kinds_that_are_not_installed_are_not_a_missing_object() {
        assert!(said(404, "404 page not found").contains("cmk-operator crds"));
        assert!(said(401, "Unauthorized").contains("log in"));
        assert_eq!(said(422, "spec.x is wrong"), "spec.x is wrong");
    }
}
