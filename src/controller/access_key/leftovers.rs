//! Records whose `AccessKey` is no more. Their access keys are not valid (`access_keys::AccessKeyView`); the records are
//! deleted so that they do not pile up.

use kube::ResourceExt;

use crate::{
    api::AccessKey,
    cluster::{Cluster, Objects},
    controller::{Context, PassError},
    store::{AccessKeyStore, StoreError},
};

/// Deletes the records of `AccessKey`s that are gone, or were made anew, where the operator watches. `is_there` says
/// whether the watch shows the `AccessKey` of a namespace, name and UID; for one that it does not show, the API server is
/// asked. A UID never comes again, but by a restore of etcd, which brings the record back as well.
pub async fn sweep<C, S>(context: &Context<C, S>, is_there: impl Fn(&str, &str, &str) -> bool)
where
    C: Cluster + Objects<AccessKey>,
    S: AccessKeyStore,
{
    for stored in context.store.access_keys() {
        let owner = &stored.record.owner;
        let (namespace, name) = (&owner.namespace, &owner.name);
        if !context.cluster.is_watched(namespace) || is_there(namespace, name, &owner.uid) {
            continue;
        }
        let deleted: Result<bool, PassError> = async {
            let found = Objects::<AccessKey>::get_object(&context.cluster, namespace, name).await?;
            if found.is_some_and(|object| object.uid().as_ref() == Some(&owner.uid)) {
                return Ok(false);
            }
            context.store.delete_access_key(&stored).await?;
            Ok(true)
        }
        .await;
        match deleted {
            Ok(true) => tracing::info!(namespace, name, "the record of an AccessKey that is gone was deleted"),
            Ok(false) | Err(PassError::Store(StoreError::Conflict)) => {}
            Err(error) => {
                tracing::warn!(namespace, name, %error, "the record of an AccessKey that is gone can't be deleted yet");
            }
        }
    }
}
