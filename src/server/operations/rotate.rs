//! CreateKeyVersion; AWS: RotateKeyOnDemand.

use kube::ResourceExt;

use super::{
    EndpointCluster, KeyReference, KeyVersionDescription, Kms, answer, find::not_found, lifecycle::refuse_external,
    live::Live,
};
use crate::{
    api::{CustomerMasterKey, edit::Edit, metadata},
    crypto::random_uuid,
    kms::{
        Dialect, KeyRecord, Operation,
        limits::{MAX_KEY_VERSIONS, MAX_ON_DEMAND_ROTATIONS},
    },
    server::{Call, Failure, permission::Verb},
    store::KeyStore,
};

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// CreateKeyVersion; AWS: RotateKeyOnDemand. Answers the new version.
    ///
    /// # Errors
    /// As every change, and [`Failure::UnsupportedOrigin`]; [`Failure::LimitExceeded`] at the last version that a record
    /// holds, or, for AWS, the 25th that was asked for; [`Failure::Conflict`] while another one is under way.
    pub async fn rotate(&self, call: &mut Call, key: &KeyReference<'_>) -> Result<KeyVersionDescription, Failure> {
        let found = self.permitted_key(call, key, Verb::Patch).await?;
        let id = random_uuid(&*self.random).map_err(|error| Failure::Internal(error.to_string()))?;
        let request = format!("{} {id}", self.now());
        let wanted = |live: &Live| {
            self.check_state(call, &live.key, Operation::CreateKeyVersion)?;
            may_rotate(&live.key.record, call.dialect)?;
            // One at a time, so that each has its answer.
            let asked = live.object.annotations().get(metadata::ROTATE_REQUESTED_AT);
            if asked.is_some_and(|asked| !live.key.record.has_handled(asked)) {
                return Err(Failure::Conflict);
            }
            Ok(vec![Edit::annotation(&live.object, metadata::ROTATE_REQUESTED_AT, &request)])
        };
        let not_found = not_found(key);
        let (live, written) = self.edit(call, &found, &not_found, "KeyId", wanted).await?;
        let before = live.key.record.versions.len();
        let about = |object: &CustomerMasterKey| answer::about_rotation(object, &request);
        let shows = |record: &KeyRecord| record.has_handled(&request);
        let key = self.carried_out(&written, &live.key, Operation::CreateKeyVersion, &not_found, about, shows).await?;
        // Others may have come since: of those that were asked for, the first one is ours.
        let new = key.record.versions.iter().skip(before).find(|version| version.on_demand);
        new.map(|version| KeyVersionDescription::of(&key, version)).ok_or(Failure::Conflict)
    }
}

fn may_rotate(record: &KeyRecord, dialect: Dialect) -> Result<(), Failure> {
    refuse_external(record.origin)?;
    let asked_for = record.versions.iter().filter(|version| version.on_demand).count();
    if dialect == Dialect::Aws && asked_for >= MAX_ON_DEMAND_ROTATIONS {
        return Err(Failure::LimitExceeded(format!(
            "the key was rotated on demand {asked_for} times, and {MAX_ON_DEMAND_ROTATIONS} is the most"
        )));
    }
    if record.versions.len() >= MAX_KEY_VERSIONS {
        return Err(Failure::LimitExceeded(format!(
            "the key has {MAX_KEY_VERSIONS} versions, and none is ever dropped: make a new key"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::{Origin, key_record::tests::record};

    #[test]
    fn how_often_a_key_rotates() {
        let rotated = |count: usize, on_demand| {
            let mut record = record();
            let version = crate::kms::key_record::RecordVersion { on_demand, ..record.versions[0].clone() };
            record.versions.extend(std::iter::repeat_n(version, count));
            record
        };
        let refused = |record: &KeyRecord, dialect| may_rotate(record, dialect).is_err();
        assert!(!refused(&rotated(24, true), Dialect::Aws));
        assert!(refused(&rotated(25, true), Dialect::Aws));
        assert!(!refused(&rotated(25, true), Dialect::Alibaba));
        assert!(!refused(&rotated(25, false), Dialect::Aws), "those by interval do not count");
        assert!(refused(&rotated(MAX_KEY_VERSIONS - 1, false), Dialect::Alibaba));
        let external = KeyRecord { origin: Origin::External, ..record() };
        assert!(matches!(may_rotate(&external, Dialect::Alibaba), Err(Failure::UnsupportedOrigin(_))));
    }
}
