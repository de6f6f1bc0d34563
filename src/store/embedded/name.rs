//! The names of the Secrets that hold a key's record, the claim of an alias and an access key's record.

use sha2::{Digest, Sha256};

use crate::{
    access_keys::AccessKeyOwner,
    store::{AliasSlot, KeySlot},
};

/// Separates the names of records from every other use of SHA-256.
const RECORD_DOMAIN: &[u8] = b"cmk-operator key record name 1";
/// And those of claims.
const ALIAS_DOMAIN: &[u8] = b"cmk-operator alias name 1";
/// And those of access keys' records.
const ACCESS_KEY_DOMAIN: &[u8] = b"cmk-operator access key name 1";

/// The name that follows from the store, the object and the generation. Nothing else goes into it, so whoever
/// makes the key of an object, again and from nothing, arrives at the same Secret: creation is idempotent, and
/// a re-applied object finds its key (design, section 4).
#[must_use]
pub fn record_name(slot: &KeySlot, generation: u32) -> String {
    let parts = [&slot.store, &slot.namespace, &slot.name];
    named("cmk-", RECORD_DOMAIN, &parts.map(String::as_str), &generation.to_be_bytes())
}

/// The name that follows from the alias: whoever claims it makes the same Secret, and only one can.
#[must_use]
pub fn alias_name(slot: &AliasSlot) -> String {
    named("cmk-alias-", ALIAS_DOMAIN, &[&slot.store, &slot.namespace, &slot.alias], &[])
}

/// The name that follows from the `AccessKey`, and from its UID: one that is made anew has another record, and never finds
/// the keys of the one before.
#[must_use]
pub fn access_key_name(owner: &AccessKeyOwner) -> String {
    named("cmk-access-key-", ACCESS_KEY_DOMAIN, &[&owner.namespace, &owner.name, &owner.uid], &[])
}

fn named(prefix: &str, domain: &[u8], parts: &[&str], rest: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(domain);
    for part in parts {
        // Kubernetes names are at most 253 bytes, and aliases 261.
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(rest);
    let digest = hash.finalize();
    digest.iter().fold(String::from(prefix), |mut name, byte| {
        use std::fmt::Write;
        // Writing to a String can't fail.
        let _ = write!(name, "{byte:02x}");
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(store: &str, namespace: &str, name: &str, generation: u32) -> String {
        record_name(&KeySlot { store: store.into(), namespace: namespace.into(), name: name.into() }, generation)
    }

    /// The names can't change: this is the one of version 0.1, computed with Python's hashlib.
    #[test]
    fn names_are_stable() {
        assert_eq!(
            name("ClusterKeyStore/default", "shop", "orders", 0),
            "cmk-382431d1fc49d7a483505175d4f2105bdd1be49bdfa0d96ac2228fb046aeda58"
        );
    }

    /// As above.
    #[test]
    fn names_of_aliases_are_stable() {
        let slot = AliasSlot {
            store: "ClusterKeyStore/default".into(),
            namespace: "shop".into(),
            alias: "alias/orders".into(),
        };
        assert_eq!(alias_name(&slot), "cmk-alias-42a323ef17d47d50d463cbaebf3cf87e9b0acb0780fd6a1a7ea8f360b8250b2c");
    }

    #[test]
    fn nothing_can_be_shifted_from_one_part_to_the_next() {
        let names =
            [name("s", "a", "bc", 0), name("s", "ab", "c", 0), name("sa", "b", "c", 0), name("s", "a", "bc", 1)];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
