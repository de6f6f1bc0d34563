//! TagResource and UntagResource.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    EndpointCluster, KeyReference, Kms,
    live::{Change, Live},
};
use crate::{
    api::edit::Edit,
    kms::{
        Operation,
        limits::{MAX_TAG_KEY_CHARACTERS, MAX_TAG_VALUE_CHARACTERS, MAX_TAGS, RESERVED_TAG_PREFIXES},
    },
    server::{Call, Failure, permission::Verb},
    store::KeyStore,
};

/// What a tag is to become. None: removed.
type Wanted = BTreeMap<String, Option<String>>;

impl<C: EndpointCluster, S: KeyStore> Kms<C, S> {
    /// TagResource: adds these tags to those of the key, or changes their values.
    ///
    /// # Errors
    /// [`Failure::InvalidTag`], [`Failure::LimitExceeded`], and those of every change: no such key or permission, its
    /// state, a tag that a manifest declares, or not carried out in time.
    pub async fn tag_resource(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        check_tags(tags)?;
        let wanted = tags.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        self.set_tags(call, key, &wanted).await
    }

    /// UntagResource: removes the tags with these keys, if they are there.
    ///
    /// # Errors
    /// As [`tag_resource`](Self::tag_resource).
    pub async fn untag_resource(
        &self,
        call: &mut Call,
        key: &KeyReference<'_>,
        tag_keys: &[String],
    ) -> Result<(), Failure> {
        let wanted = tag_keys.iter().map(|key| (key.clone(), None)).collect();
        self.set_tags(call, key, &wanted).await
    }

    async fn set_tags(&self, call: &mut Call, key: &KeyReference<'_>, wanted: &Wanted) -> Result<(), Failure> {
        let change = Change {
            verb: Verb::Patch,
            operation: Operation::TagResource,
            parameter: "Tags",
            wanted: |live: &Live| edits(live.object.spec.tags.as_ref(), wanted),
            shows: |record: &crate::kms::KeyRecord| {
                wanted.iter().all(|(key, value)| record.tags.get(key) == value.as_ref())
            },
        };
        self.change(call, key, change).await.map(drop)
    }
}

/// Each tag is a field of its own: a manifest may declare some, and calls others.
fn edits(is: Option<&BTreeMap<String, String>>, wanted: &Wanted) -> Result<Vec<Edit>, Failure> {
    let of = |key: &String| is.and_then(|tags| tags.get(key));
    let added = wanted.iter().filter(|(key, value)| value.is_some() && of(key).is_none()).count();
    let removed = wanted.iter().filter(|(key, value)| value.is_none() && of(key).is_some()).count();
    let before = is.map_or(0, BTreeMap::len);
    if added > 0 && before + added - removed > MAX_TAGS {
        return Err(too_many());
    }
    let edit = |(key, value): (&String, &Option<String>)| Edit {
        path: vec!["spec".into(), "tags".into(), key.clone().into()],
        is: of(key).map(|value| json!(value)),
        wanted: value.as_ref().map(|value| json!(value)),
    };
    Ok(wanted.iter().map(edit).collect())
}

fn too_many() -> Failure {
    Failure::LimitExceeded(format!("a key has at most {MAX_TAGS} tags"))
}

/// Whether the tags are what a `CustomerMasterKey` takes.
pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Failure> {
    if tags.len() > MAX_TAGS {
        return Err(too_many());
    }
    for (key, value) in tags {
        let invalid = |problem: String| Err(Failure::InvalidTag(format!("the tag key {key:?} {problem}")));
        if key.is_empty() || key.chars().count() > MAX_TAG_KEY_CHARACTERS {
            return invalid(format!("does not have 1 to {MAX_TAG_KEY_CHARACTERS} characters"));
        }
        if value.chars().count() > MAX_TAG_VALUE_CHARACTERS {
            return invalid(format!("has a value of more than {MAX_TAG_VALUE_CHARACTERS} characters"));
        }
        if let Some(prefix) = RESERVED_TAG_PREFIXES.iter().find(|prefix| key.starts_with(**prefix)) {
            return invalid(format!("begins with {prefix}, which the clouds reserve"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(count: usize) -> BTreeMap<String, String> {
        (0..count).map(|i| (format!("t{i}"), "v".to_owned())).collect()
    }

    fn wanted(tags: &[(&str, Option<&str>)]) -> Wanted {
        tags.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
    }

    #[test]
    fn the_limits_are_those_of_the_schema() {
        let one = |key: &str, value: &str| check_tags(&[(key.to_owned(), value.to_owned())].into());
        assert_eq!(one("team", ""), Ok(()));
        assert_eq!(one(&"é".repeat(128), &"é".repeat(256)), Ok(()));
        for (key, value) in [("", ""), (&*"k".repeat(129), ""), ("k", &*"v".repeat(257))] {
            assert!(matches!(one(key, value), Err(Failure::InvalidTag(_))), "{key} {value}");
        }
        for key in ["aliyun", "aliyunx", "acs:x", "aws:x"] {
            assert!(matches!(one(key, ""), Err(Failure::InvalidTag(_))), "{key}");
        }
        assert_eq!(check_tags(&tags(20)), Ok(()));
        assert!(matches!(check_tags(&tags(21)), Err(Failure::LimitExceeded(_))));
    }

    #[test]
    fn a_key_has_at_most_twenty_tags() {
        let full = tags(20);
        let after = |change: &[(&str, Option<&str>)]| edits(Some(&full), &wanted(change)).map(|edits| edits.len());
        assert_eq!(after(&[("t0", Some("w"))]), Ok(1), "changed");
        assert_eq!(after(&[("t0", None), ("new", Some("w"))]), Ok(2), "exchanged");
        assert_eq!(after(&[("missing", None)]), Ok(1), "which is sorted out as there already");
        assert!(matches!(after(&[("new", Some("w"))]), Err(Failure::LimitExceeded(_))));
        assert_eq!(edits(None, &wanted(&[("a", None)])).unwrap()[0].is, None);
    }
}
