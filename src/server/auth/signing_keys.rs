//! The signing keys of SigV4 that were derived lately: deriving one costs as much as the rest of a verification.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::sigv4::{Scope, SigningKey};
use crate::access_keys::Credential;

/// At most so many access keys are remembered. More are not an error: deriving again is a microsecond.
const MAX_ACCESS_KEYS: usize = 4096;

/// At most so many of one access key: two dates around midnight, in two regions.
const MAX_SCOPES: usize = 4;

/// Signing keys by access key, date and region. They are wiped when they are dropped: when others take their place,
/// and when their credential is seen to be gone.
#[derive(Default)]
pub(super) struct SigningKeys(Mutex<HashMap<Arc<str>, Derived>>);

struct Derived {
    /// Whose they are: another credential with the same id has other keys.
    credential: Weak<Credential>,
    /// The latest is the last.
    keys: Vec<(Box<str>, Box<str>, SigningKey)>,
}

impl Derived {
    fn is_of(&self, credential: &Arc<Credential>) -> bool {
        std::ptr::eq(self.credential.as_ptr(), Arc::as_ptr(credential))
    }
}

impl SigningKeys {
    /// The key, if it is known.
    pub(super) fn get(&self, credential: &Arc<Credential>, scope: Scope<'_>) -> Option<SigningKey> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let derived = known.get(&credential.access_key_id).filter(|derived| derived.is_of(credential))?;
        let found =
            derived.keys.iter().rev().find(|(date, region, _)| (&**date, &**region) == (scope.date, scope.region));
        found.map(|(_, _, key)| key.clone())
    }

    /// Remembers a key with which a signature was verified: others can't fill the memory.
    pub(super) fn put(&self, credential: &Arc<Credential>, scope: Scope<'_>, key: SigningKey) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_ACCESS_KEYS && !known.contains_key(&credential.access_key_id) {
            known.retain(|_, derived| derived.credential.strong_count() > 0);
            if known.len() >= MAX_ACCESS_KEYS {
                known.clear();
            }
        }
        let empty = || Derived { credential: Arc::downgrade(credential), keys: Vec::new() };
        let derived = known.entry(credential.access_key_id.clone()).or_insert_with(empty);
        if !derived.is_of(credential) {
            *derived = empty();
        }
        if derived.keys.len() >= MAX_SCOPES {
            derived.keys.remove(0);
        }
        derived.keys.push((scope.date.into(), scope.region.into(), key));
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{access_keys::AccessKeySecret, cluster::UserInfo};

    fn credential(id: &str) -> Arc<Credential> {
        Arc::new(Credential {
            access_key_id: id.into(),
            secret: AccessKeySecret::new(Zeroizing::new("secret".into())),
            user: Arc::new(UserInfo::default()),
            namespace: "shop".into(),
        })
    }

    #[test]
    fn a_key_is_found_for_its_credential_and_scope_only() {
        let keys = SigningKeys::default();
        let (one, scope) = (credential("AK"), Scope { date: "20260102", region: "r" });
        assert!(keys.get(&one, scope).is_none());
        keys.put(&one, scope, SigningKey::derive(&one.secret, scope));
        assert!(keys.get(&one, scope).is_some());
        assert!(keys.get(&one, Scope { date: "20260103", ..scope }).is_none());
        assert!(keys.get(&one, Scope { region: "s", ..scope }).is_none());
        let other = credential("AK");
        assert!(keys.get(&other, scope).is_none(), "the same id, another credential");
        keys.put(&other, scope, SigningKey::derive(&other.secret, scope));
        assert!(keys.get(&one, scope).is_none() && keys.get(&other, scope).is_some());
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let keys = SigningKeys::default();
        let (one, scope) = (credential("AK"), Scope { date: "20260102", region: "r" });
        let key = SigningKey::derive(&one.secret, scope);
        let regions: Vec<_> = (0..2 * MAX_SCOPES).map(|i| format!("r{i}")).collect();
        for region in &regions {
            keys.put(&one, Scope { region, ..scope }, key.clone());
        }
        let known = |region: &String| keys.get(&one, Scope { region, ..scope }).is_some();
        assert_eq!(regions.iter().map(known).collect::<Vec<_>>(), [[false; MAX_SCOPES], [true; MAX_SCOPES]].concat());

        let many: Vec<_> = (0..=MAX_ACCESS_KEYS).map(|i| credential(&i.to_string())).collect();
        for credential in &many {
            keys.put(credential, scope, key.clone());
        }
        assert!(keys.0.lock().unwrap().len() <= MAX_ACCESS_KEYS);
        assert!(keys.get(&many[MAX_ACCESS_KEYS], scope).is_some());
    }
}
