//! What must not be deleted while it is needed (design, rule 7). Deleting by accident is what these prevent: who may
//! change an object may lift its protection first, and is told how.

use super::{
    GROUP, Policy, VERSION,
    draft::{Draft, NAMESPACE_TERMINATING, is_annotated, rule},
    metadata::ALLOW_CRD_DELETION,
};

/// Whether `object`, a `CustomerMasterKey`, is declared protected.
fn is_protected(object: &str) -> String {
    format!("{object}.spec.?deletionProtection.orValue(false)")
}

/// Whether `object`, a `CustomerMasterKey`, is the operator's own key.
fn is_service_managed(object: &str) -> String {
    format!("{object}.spec.?alias.orValue('').matches('^(alias/)?acs/')")
}

/// A protected key's object can't be deleted, nor a service-managed key's. Both go with their namespace: that it
/// holds a protected key is what [`namespaces`] looks at, and once it is being deleted, refusing would only leave it
/// half deleted. (The operator retains a protected key whose object is deleted, however that came about.)
pub fn keys() -> Policy {
    let key = "'CustomerMasterKey ' + oldObject.metadata.namespace + '/' + oldObject.metadata.name";
    Draft::new("protect-key", rule(GROUP, VERSION, &["customermasterkeys"], &["DELETE"]))
        .require(
            format!("{NAMESPACE_TERMINATING} || !{}", is_protected("oldObject")),
            "spec.deletionProtection is true: set it to false before deleting the CustomerMasterKey",
        )
        .saying(format!("{key} + ' has spec.deletionProtection: true, so it cannot be deleted: set it to false first'"))
        .require(
            format!("{NAMESPACE_TERMINATING} || !{}", is_service_managed("oldObject")),
            "spec.alias begins with alias/acs/: the key is service-managed, and goes with its namespace only",
        )
        .saying(format!(
            "{key} + ' is service-managed (spec.alias is ' + oldObject.spec.alias + '), so it cannot be deleted: leave \
             it, it goes with its namespace'"
        ))
        .finish()
}

/// A namespace with a protected key in it can't be deleted. A policy on keys alone would come too late: everything
/// else in the namespace would be gone, and the namespace hang.
///
/// Ignore: it is asked of every namespace's deletion, and with Fail none could be deleted in a cluster from which our
/// kinds are gone. A service key blocks nothing (rule 7), whatever its spec says.
pub fn namespaces() -> Policy {
    let [protected, service_managed] = [is_protected("params"), is_service_managed("params")];
    Draft::new("protect-namespace", rule("", "v1", &["namespaces"], &["DELETE"]))
        .for_every(&format!("{GROUP}/{VERSION}"), "CustomerMasterKey")
        .allowing_failures()
        .require(
            format!("has(oldObject.metadata.deletionTimestamp) || !{protected} || {service_managed}"),
            "a CustomerMasterKey in this namespace has spec.deletionProtection: true: set it to false first",
        )
        .saying(
            "'namespace ' + oldObject.metadata.name + ' cannot be deleted: CustomerMasterKey ' + \
             params.metadata.namespace + '/' + params.metadata.name + ' in it has spec.deletionProtection: true; set \
             it to false first, or keep the namespace'",
        )
        .finish()
}

/// Deleting one of our CustomResourceDefinitions deletes all objects of its kind, and no policy is asked about those.
pub fn crds() -> Policy {
    let rule = rule("apiextensions.k8s.io", "v1", &["customresourcedefinitions"], &["DELETE"]);
    Draft::new("protect-crd", rule)
        .when("ours", format!("oldObject.spec.group == '{GROUP}'"))
        .require(
            is_annotated(ALLOW_CRD_DELETION),
            format!("deleting this CustomResourceDefinition needs the annotation {ALLOW_CRD_DELETION} on it"),
        )
        .saying(format!(
            "'deleting CustomResourceDefinition ' + oldObject.metadata.name + ' deletes every ' + \
             oldObject.spec.names.kind + ' of the cluster, also protected ones: if that is what you want, set the \
             annotation {ALLOW_CRD_DELETION} on it first (any value)'"
        ))
        .finish()
}

/// A key store with keys in it can't be deleted. The operator says in status whether there are any. Deleting the
/// CustomResourceDefinition passes it by, so an uninstall never hangs on it.
pub fn stores() -> Policy {
    Draft::new("protect-store", rule(GROUP, VERSION, &["clusterkeystores"], &["DELETE"]))
        .require(
            "!oldObject.?status.?conditions.orValue([]).exists(c, c.type == 'InUse' && c.status == 'True')",
            "the key store is in use (status condition InUse): delete or move its keys first",
        )
        .saying(
            "'ClusterKeyStore ' + oldObject.metadata.name + ' is in use (see its status condition InUse): delete or \
             move its keys first'",
        )
        .finish()
}
