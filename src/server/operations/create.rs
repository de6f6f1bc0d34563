//! CreateKey.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::{
    EndpointCluster, KeyDescription, Kms, answer, change::described, find::from_store, live::from_api, tags::check_tags,
};
use crate::{
    api::{CustomerMasterKey, CustomerMasterKeySpec, KeyStoreRef, metadata},
    cluster::ApiError,
    crypto::random_array,
    kms::Origin,
    server::{Call, Failure, permission::Verb},
    store::{Freshness, KeySlot, KeyStore, StoredKey},
};

/// A key to be made. What is not said is as the `CustomerMasterKey` has it by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewKeyDeclaration {
    /// Where the material comes from.
    pub origin: Origin,
    /// The description.
    pub description: Option<String>,
    /// The tags.
    pub tags: BTreeMap<String, String>,
    /// Days between automatic rotations.
    pub rotation_interval_days: Option<i32>,
    /// Refuse deletion.
    pub deletion_protection: bool,
}

/// How often another name is tried.
const ATTEMPTS: usize = 3;
/// Random characters in a name, five bits each: one of a million keys of a namespace meets another with a chance of
/// one in a billion, and then the next name is tried.
const NAME_CHARACTERS: usize = 10;
/// The characters of a name (RFC 4648 section 6, in lower case).
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// Makes a key: an object in the caller's namespace, called `key-` and ten random characters. A call makes one key.
    /// One that the operator does not finish in time is not taken back: the failure names its object.
    ///
    /// # Errors
    /// [`Failure`]: no permission to make keys, tags or a description or an interval that the `CustomerMasterKey` or its
    /// key store does not take, no keys are made now ([`Failure::Unsupported`]), or not in time.
    pub async fn create_key(&self, call: &mut Call, new: &NewKeyDeclaration) -> Result<KeyDescription, Failure> {
        check_tags(&new.tags)?;
        self.check_interval("RotationInterval", new.rotation_interval_days)?;
        self.contact.check().await?;
        self.permissions.require_in_namespace(&call.caller, Verb::Create).await?;
        self.may_create(&call.caller.namespace).await?;
        let made = self.declare(call, new).await?;
        let key = self.made(&made).await?;
        call.key_id = Some(key.record.key_id);
        Ok(self.described(key))
    }

    /// Refuses before there is an object what no key would come of (design, rules 11 and 20).
    async fn may_create(&self, namespace: &str) -> Result<(), Failure> {
        if self.settings.no_new_keys {
            return Err(Failure::Unsupported("no key is made while the operator runs with --no-new-keys".into()));
        }
        let store_ref = KeyStoreRef::default();
        let found = self.cluster.namespace(namespace).await.map_err(|error| from_api(&error))?;
        let is_allowed = match (self.cluster.key_store(&store_ref), &found) {
            (Some(store), Some(view)) => store.allows(&view.labels) && !view.terminating,
            _ => false,
        };
        if is_allowed {
            return Ok(());
        }
        Err(Failure::Unsupported(format!("{store_ref} takes no keys of the namespace {namespace}")))
    }

    async fn declare(&self, call: &Call, new: &NewKeyDeclaration) -> Result<CustomerMasterKey, Failure> {
        for _ in 0..ATTEMPTS {
            let random: [u8; NAME_CHARACTERS] =
                random_array(&*self.random).map_err(|error| Failure::Internal(error.to_string()))?;
            let object = declaration(&call.caller.namespace, &name(random), &call.caller.user.username, new);
            match self.cluster.declare_key(&object).await {
                Ok(made) => return Ok(made),
                Err(ApiError::AlreadyExists) => {}
                Err(ApiError::Refused(problem)) => {
                    return Err(Failure::InvalidParameter { name: "Description", problem });
                }
                Err(error) => return Err(from_api(&error)),
            }
        }
        Err(Failure::Conflict)
    }

    /// The key of an object that was just made, once it is there.
    async fn made(&self, object: &CustomerMasterKey) -> Result<StoredKey, Failure> {
        let about = |seen: &CustomerMasterKey| answer::about_spec(seen, object.metadata.generation);
        let gone = Failure::NotCarriedOut(format!("{} was deleted while its key was made", described(object)));
        let refusal = self.answer(object, false, &gone, about, || false).await?;
        let slot = KeySlot {
            store: KeyStoreRef::default().to_string(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        };
        let is_its_own = |key: &StoredKey| Some(&key.record.owner.uid) == object.uid().as_ref();
        let seen = self.store.find(&slot, Freshness::Watched).await.map_err(|error| from_store(&error))?;
        let key = match seen.current.filter(is_its_own) {
            Some(key) => Some(key),
            // The watch of records may lag behind that of objects.
            None => {
                let live = self.store.find(&slot, Freshness::Live).await.map_err(|error| from_store(&error))?;
                live.current.filter(is_its_own)
            }
        };
        match (key, refusal) {
            (_, Some(refusal)) => Err(Failure::NotCarriedOut(format!(
                "{} is there, but the operator makes no key for it: {}",
                described(object),
                refusal.message
            ))),
            (Some(key), None) => Ok(key),
            (None, None) => Err(gone),
        }
    }
}

fn name(random: [u8; NAME_CHARACTERS]) -> String {
    let characters = random.map(|byte| char::from(BASE32[usize::from(byte % 32)]));
    format!("key-{}", String::from_iter(characters))
}

fn declaration(namespace: &str, name: &str, username: &str, new: &NewKeyDeclaration) -> CustomerMasterKey {
    let NewKeyDeclaration { origin, description, tags, rotation_interval_days, deletion_protection } = new.clone();
    let spec = CustomerMasterKeySpec {
        origin: (origin != Origin::default()).then_some(origin),
        description: description.filter(|text| !text.is_empty()),
        tags: (!tags.is_empty()).then_some(tags),
        rotation_interval_days,
        deletion_protection: deletion_protection.then_some(true),
        ..CustomerMasterKeySpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        annotations: Some([(metadata::REQUESTED_BY.to_owned(), username.to_owned())].into()),
        ..ObjectMeta::default()
    };
    CustomerMasterKey { metadata, spec, status: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_says_what_differs_from_the_default() {
        assert_eq!(name([0, 25, 26, 31, 32, 255, 1, 2, 3, 4]), "key-az27a7bcde");
        let plain = declaration("shop", "key-a", "user", &NewKeyDeclaration::default());
        assert_eq!(plain.spec, CustomerMasterKeySpec::default());
        assert_eq!(plain.annotations().get(metadata::REQUESTED_BY).map(String::as_str), Some("user"));
        let new = NewKeyDeclaration {
            origin: Origin::AwsKms,
            description: Some("d".into()),
            tags: [("a".into(), "b".into())].into(),
            rotation_interval_days: Some(90),
            deletion_protection: true,
        };
        let spec = declaration("shop", "key-a", "user", &new).spec;
        assert_eq!((spec.origin, spec.description.as_deref()), (Some(Origin::AwsKms), Some("d")));
        assert_eq!((spec.tags.map(|tags| tags.len()), spec.rotation_interval_days), (Some(1), Some(90)));
        assert_eq!(spec.deletion_protection, Some(true));
    }
}
