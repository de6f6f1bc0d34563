//! Tags, and the resource that they are on.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fields::{self, invalid, key_by_id, refuse};
use crate::server::{Failure, alibaba::Parameters, operations::KeyReference};

/// The most tags of a key, and so of a request.
pub(super) const MAX_TAGS: usize = 20;
/// The longest tag key or value, in characters.
pub(super) const MAX_LENGTH: usize = 128;

const TAGS: &str = "Tags";
const TAG_KEYS: &str = "TagKeys";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    tag_key: String,
    #[serde(default)]
    tag_value: String,
}

/// The key that is named. Certificates and secrets have tags too, in the cloud.
pub(super) fn resource<'a>(p: &'a Parameters<'_>) -> Result<KeyReference<'a>, Failure> {
    refuse(p, "SecretName", "there are no secrets here")?;
    refuse(p, "CertificateId", "there are no certificates here")?;
    key_by_id(p)
}

/// Tags that have to be there.
pub(super) fn required(p: &Parameters<'_>) -> Result<BTreeMap<String, String>, Failure> {
    read(fields::required(p, TAGS)?)
}

/// Tags, if there are any.
pub(super) fn optional(p: &Parameters<'_>) -> Result<BTreeMap<String, String>, Failure> {
    fields::optional(p, TAGS).map_or_else(|| Ok(BTreeMap::new()), read)
}

fn read(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let list: Vec<Tag> = serde_json::from_str(text)
        .map_err(|_| invalid(TAGS, "they must be JSON: [{\"TagKey\":\"team\",\"TagValue\":\"orders\"}]"))?;
    if list.len() > MAX_TAGS {
        return Err(invalid(TAGS, format!("there are more than {MAX_TAGS}")));
    }
    let mut tags = BTreeMap::new();
    for Tag { tag_key, tag_value } in list {
        check_key(TAGS, &tag_key)?;
        if tag_value.chars().count() > MAX_LENGTH {
            return Err(invalid(TAGS, format!("the value of {tag_key} has more than {MAX_LENGTH} characters")));
        }
        if ["aliyun", "acs:", "aws:"].iter().any(|reserved| tag_key.starts_with(reserved)) {
            return Err(invalid(TAGS, "keys that begin with aliyun, acs: or aws: are reserved"));
        }
        if tags.contains_key(&tag_key) {
            return Err(invalid(TAGS, format!("the key {tag_key} is there twice")));
        }
        tags.insert(tag_key, tag_value);
    }
    Ok(tags)
}

/// Tag keys, with commas between them or as a JSON array: clients send either.
pub(super) fn keys(p: &Parameters<'_>) -> Result<Vec<String>, Failure> {
    let text = fields::required(p, TAG_KEYS)?;
    let keys: Vec<String> = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|_| invalid(TAG_KEYS, "they are no JSON array of texts"))?
    } else {
        text.split(',').map(|key| key.trim().to_owned()).collect()
    };
    if keys.len() > MAX_TAGS {
        return Err(invalid(TAG_KEYS, format!("there are more than {MAX_TAGS}")));
    }
    keys.iter().try_for_each(|key| check_key(TAG_KEYS, key))?;
    Ok(keys)
}

fn check_key(name: &'static str, key: &str) -> Result<(), Failure> {
    if (1..=MAX_LENGTH).contains(&key.chars().count()) {
        return Ok(());
    }
    Err(invalid(name, format!("a tag key has 1 to {MAX_LENGTH} characters")))
}
