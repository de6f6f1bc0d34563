//! The Secret of an AccessKey: how it should be, and whether it is (pure).

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt};

pub use crate::controller::delivered::{Difference, SecretObject};
use crate::{
    access_keys::AccessKeySecret,
    api::{AccessKey, metadata},
    controller::delivered::{self, Declared, Mark, OPAQUE},
};

/// Where the CA certificate is to be mounted, for `AWS_CA_BUNDLE`.
const CA_BUNDLE_PATH: &str = "/etc/cmk-kms/ca.crt";

/// The KMS endpoint, as its clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub url: String,
    /// The region that they sign for. The endpoint takes any; the SDKs want one.
    pub region: String,
    /// The certificate (PEM) of the authority that its own is from, where that is a private one.
    pub ca: Option<String>,
}

/// What goes into the Secret.
pub struct Contents<'a> {
    /// The public half of the access key.
    pub access_key_id: &'a str,
    /// The secret half.
    pub secret: &'a AccessKeySecret,
    /// Where to use it.
    pub endpoint: &'a Endpoint,
}

/// What is on a Secret that was delivered for this AccessKey.
fn mark(object: &AccessKey) -> Mark {
    let identity = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    Mark { component: metadata::COMPONENT_ACCESS_KEY, annotation: metadata::ACCESS_KEY, identity }
}

/// Whether a Secret was delivered for this AccessKey.
pub fn is_of(secret: &SecretObject, object: &AccessKey) -> bool {
    mark(object).is_on(secret)
}

/// Compares what is there with what should be.
pub fn difference(object: &AccessKey, existing: Option<&SecretObject>, contents: &Contents<'_>) -> Difference {
    delivered::difference(existing, &mark(object), |metadata| desired(object, contents, metadata))
}

/// The Secret as it should be, given the metadata that it has.
fn desired(object: &AccessKey, contents: &Contents<'_>, existing: &ObjectMeta) -> SecretObject {
    let template = object.spec.secret.clone().unwrap_or_default();
    let declared = Declared {
        name: object.spec.secret_name(&object.name_any()).to_owned(),
        namespace: object.namespace(),
        labels: template.labels.unwrap_or_default(),
        annotations: template.annotations.unwrap_or_default(),
        owner_references: owner_references(object, existing),
    };
    SecretObject::from(Secret {
        metadata: declared.metadata(&mark(object), existing),
        type_: Some(OPAQUE.into()),
        data: Some(data(contents)),
        ..Secret::default()
    })
}

/// The variables that the SDKs of both clouds read, so that `envFrom` is all that a pod needs.
fn data(contents: &Contents<'_>) -> BTreeMap<String, ByteString> {
    let Contents { access_key_id, secret, endpoint } = contents;
    let mut entries = vec![
        ("AWS_ACCESS_KEY_ID", *access_key_id),
        ("AWS_SECRET_ACCESS_KEY", secret.expose()),
        ("AWS_ENDPOINT_URL_KMS", &endpoint.url),
        ("AWS_REGION", &endpoint.region),
        // boto3 and version 1 of the AWS CLI read this one only.
        ("AWS_DEFAULT_REGION", &endpoint.region),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", *access_key_id),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret.expose()),
    ];
    if let Some(ca) = &endpoint.ca {
        entries.extend([("AWS_CA_BUNDLE", CA_BUNDLE_PATH), ("ca.crt", ca)]);
    }
    entries.into_iter().map(|(name, value)| (name.to_owned(), ByteString(value.as_bytes().to_vec()))).collect()
}

/// The garbage collector removes the Secret with its AccessKey: what is in it is worth nothing then.
fn owner_references(object: &AccessKey, existing: &ObjectMeta) -> Option<Vec<OwnerReference>> {
    let kind = AccessKey::kind(&());
    let mut owners = existing.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.kind != kind);
    owners.extend(object.controller_owner_ref(&()));
    Some(owners)
}
