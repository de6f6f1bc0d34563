//! What is the operator's: status, its records and its namespace (design, rules 7 and 18).

use super::{
    GROUP, Policy, PolicyOptions, VERSION,
    draft::{Draft, NAMESPACE_TERMINATING, cel_string, is_annotated, rule},
    metadata::{ALLOW_NAMESPACE_DELETION, ROOT_KEY_SECRET, SECRET_TYPE_PREFIX},
};

/// Whether the operator makes the request.
fn is_the_operator(options: &PolicyOptions) -> String {
    format!("request.userInfo.username == {}", cel_string(&options.user))
}

/// What to do if the policies are for another operator than the one that runs.
const OTHER_USER: &str =
    "if it runs as another user, apply the output of `cmk-operator policies --namespace NAMESPACE --user NAME`";

/// Status decides what the operator does next (a data key is restored from the ciphertext in it, rule 12; a store in
/// use can't be deleted), so nobody else writes it, whatever RBAC says.
pub fn status(options: &PolicyOptions) -> Policy {
    let resources = ["customermasterkeys/status", "datakeys/status", "clusterkeystores/status", "accesskeys/status"];
    Draft::new("status", rule(GROUP, VERSION, &resources, &["UPDATE"]))
        .require(is_the_operator(options), format!("only the operator ({}) writes status; {OTHER_USER}", options.user))
        .finish()
}

/// The fields of a Secret that matter to the operator, or to whether it is still there tomorrow.
const SECRET_FIELDS: [&str; 6] = [
    "?data",
    "?immutable",
    "metadata.?labels",
    "metadata.?annotations",
    "metadata.?ownerReferences",
    "metadata.?finalizers",
];

/// The records of keys and the root key are all that there is of every key (design, section 4), so the operator alone
/// changes and deletes them. Creating stays allowed: restoring a backup does that, and can't overwrite anything. So does
/// writing one back unchanged, as is done to encrypt Secrets anew (`kubectl get secrets -o json | kubectl replace -f -`).
/// And everything while the namespace is being deleted, which [`namespace`] guards: it would hang.
pub fn records(options: &PolicyOptions) -> Policy {
    let unchanged = SECRET_FIELDS.map(|field| format!("object.{field} == oldObject.{field}")).join(" && ");
    Draft::new("protect-records", rule("", "v1", &["secrets"], &["UPDATE", "DELETE"]))
        .in_namespace(&options.namespace)
        .when(
            "records",
            format!(
                "oldObject.?type.orValue('').startsWith('{SECRET_TYPE_PREFIX}') || \
                 oldObject.metadata.name == '{ROOT_KEY_SECRET}'"
            ),
        )
        .require(
            format!(
                "{} || {NAMESPACE_TERMINATING} || (request.operation == 'UPDATE' && {unchanged})",
                is_the_operator(options)
            ),
            "the Secret is one of the operator's records",
        )
        .saying(format!(
            "'Secret ' + oldObject.metadata.namespace + '/' + oldObject.metadata.name + ' (type ' + \
             oldObject.?type.orValue('') + ') holds keys: without it they are lost for good, so only the operator ' + \
             {} + ' changes or deletes it. Change the CustomerMasterKey or the AccessKey instead; ' + {}",
            cel_string(&options.user),
            cel_string(OTHER_USER),
        ))
        .finish()
}

/// Deleting the operator's namespace deletes every record and the root key.
pub fn namespace(options: &PolicyOptions) -> Policy {
    let mut rule = rule("", "v1", &["namespaces"], &["DELETE"]);
    rule.resource_names = Some(vec![options.namespace.clone()]);
    Draft::new("protect-operator-namespace", rule)
        .require(
            format!("has(oldObject.metadata.deletionTimestamp) || {}", is_annotated(ALLOW_NAMESPACE_DELETION)),
            format!(
                "deleting the namespace {} deletes the records and the root key, and with them every key of the \
                 cluster: if that is what you want, set the annotation {ALLOW_NAMESPACE_DELETION} on it first (any \
                 value)",
                options.namespace
            ),
        )
        .finish()
}

/// The operator's namespace holds the records and the root key as Secrets. A `DataKey` or an `AccessKey` there would have
/// Secrets made next to them, under names of its choice; and an access key there could be the operator's own identity.
/// Only CREATE: one from before can still be changed and deleted.
pub fn nothing_beside(options: &PolicyOptions) -> Policy {
    Draft::new("own-namespace", rule(GROUP, VERSION, &["datakeys", "accesskeys"], &["CREATE"]))
        .require(
            format!("request.namespace != {}", cel_string(&options.namespace)),
            format!(
                "DataKeys and AccessKeys are refused in {}, the operator's own namespace: make it in the namespace \
                 that uses the data key or the access key",
                options.namespace
            ),
        )
        .finish()
}

/// Who may create Secrets everywhere can have a token of any `ServiceAccount` written into one (type
/// `kubernetes.io/service-account-token`), so a stolen identity of the operator would be the whole cluster. The operator makes
/// three kinds of Secrets: what it delivers, its records, and the certificate of the endpoint.
pub fn secret_types(options: &PolicyOptions) -> Policy {
    Draft::new("secret-types", rule("", "v1", &["secrets"], &["CREATE"]))
        .when("operator", is_the_operator(options))
        .require(
            format!(
                "object.?type.orValue('Opaque') in ['Opaque', 'kubernetes.io/tls'] || \
                 object.type.startsWith('{SECRET_TYPE_PREFIX}')"
            ),
            "the operator makes Secrets of the types Opaque and kubernetes.io/tls and its own records, and no others: if \
             this was not a person who acts as the operator, its identity is in other hands",
        )
        .finish()
}
