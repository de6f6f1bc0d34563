//! Filters of ListKeys: which keys are listed at all.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fields::{invalid, optional};
use crate::{
    kms::KeyRecord,
    server::{
        Failure,
        alibaba::{Parameters, responses},
        operations::KeyDescription,
    },
};

/// The most pairs of a filter, and values of a pair.
const MAX: usize = 10;

/// What a key must have: for each property one of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<Property, Vec<String>>);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Pair {
    key: Property,
    #[serde(default)]
    values: Vec<String>,
}

/// A property, as the API spells it.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Property {
    KeyState,
    KeySpec,
    KeyUsage,
    ProtectionLevel,
    CreatorType,
    #[serde(alias = "keyId")]
    KeyId,
    AliasName,
    Creator,
    TagKey,
    TagValue,
    #[serde(rename = "DKMSInstanceId")]
    DkmsInstanceId,
}

/// Reads a JSON array of `{"Key": …, "Values": […]}`. Pairs of the same key are one.
pub(super) fn filters(p: &Parameters<'_>) -> Result<Filters, Failure> {
    const NAME: &str = "Filters";
    let Some(text) = optional(p, NAME) else { return Ok(Filters::default()) };
    let pairs: Vec<Pair> = serde_json::from_str(text).map_err(|_| {
        invalid(NAME, "they must be JSON of known properties: [{\"Key\":\"KeyState\",\"Values\":[\"Enabled\"]}]")
    })?;
    if pairs.len() > MAX || pairs.iter().any(|pair| pair.values.len() > MAX) {
        return Err(invalid(NAME, format!("there are more than {MAX} pairs, or values of a pair")));
    }
    let mut filters = Filters::default();
    for Pair { key, values } in pairs {
        filters.0.entry(key).or_default().extend(values);
    }
    Ok(filters)
}

impl Filters {
    /// Whether a key is to be listed.
    #[must_use]
    pub fn take(&self, description: &KeyDescription) -> bool {
        self.0.iter().all(|(property, values)| {
            // No values: the property is not filtered by.
            values.is_empty() || values.iter().any(|value| property.is(value, description))
        })
    }
}

impl Property {
    fn is(self, value: &str, description: &KeyDescription) -> bool {
        let record: &KeyRecord = &description.key.record;
        match self {
            Self::KeyState => value == record.state(description.now).as_str(),
            Self::KeySpec => value == responses::KEY_SPEC,
            Self::KeyUsage => value == responses::KEY_USAGE,
            Self::ProtectionLevel => value == responses::PROTECTION_LEVEL,
            Self::CreatorType => value == if record.is_service_managed() { "Service" } else { "User" },
            Self::KeyId => value.eq_ignore_ascii_case(&record.key_id.to_string()),
            Self::AliasName => record.alias.as_deref() == Some(value),
            Self::Creator => value == record.account_id,
            Self::TagKey => record.tags.contains_key(value),
            Self::TagValue => record.tags.values().any(|known| known == value),
            Self::DkmsInstanceId => false,
        }
    }
}
