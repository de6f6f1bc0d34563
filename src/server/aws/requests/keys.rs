//! The life of a key: making and describing it, its state, its aliases, its tags, its rotation, its policy.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::{Object, Text, members};
use crate::{
    kms::Origin,
    server::{
        Failure,
        aws::{
            action::Action,
            limits::{
                self, DEFAULT_PENDING_WINDOW_DAYS, DEFAULT_ROTATION_PERIOD_DAYS, DESCRIPTION_CHARS, MAX_TAGS,
                PENDING_WINDOW_DAYS, POLICY_CHARS, ROTATION_PERIOD_DAYS, TAG_KEY_CHARS, TAG_VALUE_CHARS,
            },
            policy,
        },
        operations::{NewKeyDeclaration, RotationPolicy},
    },
};

/// What an operation on a key is asked to do. The first member is the key.
#[derive(Debug, PartialEq)]
pub(in crate::server::aws) enum KeyInput<'a> {
    CreateKey(NewKeyDeclaration),
    DescribeKey(Text<'a>),
    EnableKey(Text<'a>),
    DisableKey(Text<'a>),
    UpdateKeyDescription(Text<'a>, Text<'a>),
    ScheduleKeyDeletion(Text<'a>, i32),
    CancelKeyDeletion(Text<'a>),
    CreateAlias(NewAlias<'a>),
    UpdateAlias(NewAlias<'a>),
    DeleteAlias(Text<'a>),
    TagResource(Text<'a>, BTreeMap<String, String>),
    UntagResource(Text<'a>, Vec<String>),
    SetRotation(Text<'a>, RotationPolicy),
    GetKeyRotationStatus(Text<'a>),
    RotateKeyOnDemand(Text<'a>),
    GetKeyPolicy(Text<'a>),
}

/// An alias, and the key that it shall name.
#[derive(Debug, PartialEq)]
pub(in crate::server::aws) struct NewAlias<'a> {
    pub alias: Text<'a>,
    pub target: Text<'a>,
}

/// All members of these operations.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members<'a> {
    #[serde(borrow)]
    key_id: Option<Text<'a>>,
    description: Option<Text<'a>>,
    key_usage: Option<Text<'a>>,
    key_spec: Option<Text<'a>>,
    customer_master_key_spec: Option<Text<'a>>,
    origin: Option<Text<'a>>,
    policy: Option<Text<'a>>,
    policy_name: Option<Text<'a>>,
    multi_region: Option<bool>,
    custom_key_store_id: Option<IgnoredAny>,
    xks_key_id: Option<IgnoredAny>,
    tags: Option<Vec<Object<Tag<'a>>>>,
    tag_keys: Option<Vec<Text<'a>>>,
    alias_name: Option<Text<'a>>,
    target_key_id: Option<Text<'a>>,
    pending_window_in_days: Option<i64>,
    rotation_period_in_days: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag<'a> {
    #[serde(borrow)]
    tag_key: Option<Text<'a>>,
    tag_value: Option<Text<'a>>,
}

pub(super) fn read(action: Action, body: &[u8]) -> Result<KeyInput<'_>, Failure> {
    let mut members: Members<'_> = members(body)?;
    Ok(match action {
        Action::CreateKey => KeyInput::CreateKey(members.new_key()?),
        Action::DescribeKey => KeyInput::DescribeKey(members.key_or_alias()?),
        Action::EnableKey => KeyInput::EnableKey(members.key()?),
        Action::DisableKey => KeyInput::DisableKey(members.key()?),
        Action::UpdateKeyDescription => KeyInput::UpdateKeyDescription(members.key()?, members.new_description()?),
        Action::ScheduleKeyDeletion => KeyInput::ScheduleKeyDeletion(members.key()?, members.pending_window()?),
        Action::CancelKeyDeletion => KeyInput::CancelKeyDeletion(members.key()?),
        Action::CreateAlias => KeyInput::CreateAlias(members.new_alias()?),
        Action::UpdateAlias => KeyInput::UpdateAlias(members.new_alias()?),
        Action::DeleteAlias => KeyInput::DeleteAlias(members.alias()?),
        Action::TagResource => KeyInput::TagResource(members.key()?, members.new_tags()?),
        Action::UntagResource => KeyInput::UntagResource(members.key()?, members.old_tags()?),
        Action::EnableKeyRotation => {
            KeyInput::SetRotation(members.key()?, RotationPolicy::Every(members.rotation_period()?))
        }
        Action::DisableKeyRotation => KeyInput::SetRotation(members.key()?, RotationPolicy::Never),
        Action::GetKeyRotationStatus => KeyInput::GetKeyRotationStatus(members.key()?),
        Action::RotateKeyOnDemand => KeyInput::RotateKeyOnDemand(members.key()?),
        Action::GetKeyPolicy => KeyInput::GetKeyPolicy(members.key_with_policy()?),
        other => return Err(Failure::UnknownOperation(other.as_str().to_owned())),
    })
}

impl<'a> Members<'a> {
    fn key(&mut self) -> Result<Text<'a>, Failure> {
        let key_id = limits::required(self.key_id.take(), "KeyId")?;
        limits::key_only("KeyId", &key_id)?;
        Ok(key_id)
    }

    fn key_or_alias(&mut self) -> Result<Text<'a>, Failure> {
        let key_id = limits::required(self.key_id.take(), "KeyId")?;
        limits::key_id("KeyId", &key_id)?;
        Ok(key_id)
    }

    fn key_with_policy(&mut self) -> Result<Text<'a>, Failure> {
        if self.policy_name.as_deref().is_some_and(|name| name != policy::NAME) {
            let problem = "no such policy exists: every key has one, default".to_owned();
            return Err(Failure::InvalidParameter { name: "PolicyName", problem });
        }
        self.key()
    }

    fn new_key(self) -> Result<NewKeyDeclaration, Failure> {
        self.refuse_other_kinds()?;
        if let Some(text) = &self.policy {
            limits::length("Policy", text.chars().count(), POLICY_CHARS, None)?;
            policy::check(text)?;
        }
        let description = self.description.map(String::from);
        if let Some(description) = &description {
            limits::characters("Description", description, DESCRIPTION_CHARS)?;
        }
        let origin = self.origin.as_deref().unwrap_or("AWS_KMS");
        let origins = [
            ("AWS_KMS", Some(Origin::AwsKms)),
            ("EXTERNAL", Some(Origin::External)),
            ("AWS_CLOUDHSM", None),
            ("EXTERNAL_KEY_STORE", None),
        ];
        let Some(origin) = limits::one_of("Origin", origin, &origins)? else {
            return Err(Failure::Unsupported(format!(
                "Origin {origin} is not supported: there are no custom key stores here. Use AWS_KMS or EXTERNAL."
            )));
        };
        let tags = tags(self.tags.unwrap_or_default())?;
        Ok(NewKeyDeclaration { origin, description, tags, ..NewKeyDeclaration::default() })
    }

    /// Keys of other kinds than symmetric encryption keys of this key store.
    fn refuse_other_kinds(&self) -> Result<(), Failure> {
        let unsupported = |sentence: &str| Err(Failure::Unsupported(sentence.to_owned()));
        if self.key_spec.is_some() && self.customer_master_key_spec.is_some() {
            return Err(Failure::Validation(
                "KeySpec and CustomerMasterKeySpec can't both be given: CustomerMasterKeySpec is deprecated.".into(),
            ));
        }
        let spec = self.key_spec.as_deref().or(self.customer_master_key_spec.as_deref());
        if spec.is_some_and(|spec| spec != "SYMMETRIC_DEFAULT") {
            return unsupported("Only KeySpec SYMMETRIC_DEFAULT is supported here.");
        }
        if self.key_usage.as_deref().is_some_and(|usage| usage != "ENCRYPT_DECRYPT") {
            return unsupported("Only KeyUsage ENCRYPT_DECRYPT is supported here.");
        }
        if self.multi_region == Some(true) {
            return unsupported("MultiRegion is not supported: there are no multi-Region keys here.");
        }
        if self.custom_key_store_id.is_some() || self.xks_key_id.is_some() {
            return unsupported(
                "CustomKeyStoreId and XksKeyId are not supported: there are no custom key stores here.",
            );
        }
        Ok(())
    }

    fn new_description(&mut self) -> Result<Text<'a>, Failure> {
        let description = limits::required(self.description.take(), "Description")?;
        limits::characters("Description", &description, DESCRIPTION_CHARS)?;
        Ok(description)
    }

    fn pending_window(&self) -> Result<i32, Failure> {
        let days = self.pending_window_in_days.unwrap_or(DEFAULT_PENDING_WINDOW_DAYS);
        limits::small_range("PendingWindowInDays", days, PENDING_WINDOW_DAYS)
    }

    fn rotation_period(&self) -> Result<i32, Failure> {
        let days = self.rotation_period_in_days.unwrap_or(DEFAULT_ROTATION_PERIOD_DAYS);
        limits::small_range("RotationPeriodInDays", days, ROTATION_PERIOD_DAYS)
    }

    fn alias(&mut self) -> Result<Text<'a>, Failure> {
        let alias = limits::required(self.alias_name.take(), "AliasName")?;
        limits::alias("AliasName", &alias)?;
        Ok(alias)
    }

    fn new_alias(&mut self) -> Result<NewAlias<'a>, Failure> {
        let alias = self.alias()?;
        let target = limits::required(self.target_key_id.take(), "TargetKeyId")?;
        limits::key_only("TargetKeyId", &target)?;
        Ok(NewAlias { alias, target })
    }

    fn new_tags(&mut self) -> Result<BTreeMap<String, String>, Failure> {
        tags(limits::required(self.tags.take(), "Tags")?)
    }

    fn old_tags(&mut self) -> Result<Vec<String>, Failure> {
        let keys = limits::required(self.tag_keys.take(), "TagKeys")?;
        for key in &keys {
            limits::characters("TagKeys", key, TAG_KEY_CHARS)?;
        }
        Ok(keys.into_iter().map(String::from).collect())
    }
}

fn tags(given: Vec<Object<Tag<'_>>>) -> Result<BTreeMap<String, String>, Failure> {
    if given.len() > MAX_TAGS {
        return Err(Failure::InvalidTag(format!("At most {MAX_TAGS} tags are allowed.")));
    }
    let mut tags = BTreeMap::new();
    for Object(Tag { tag_key, tag_value }) in given {
        let key = limits::required(tag_key, "TagKey")?;
        let value = limits::required(tag_value, "TagValue")?;
        limits::characters("TagKey", &key, TAG_KEY_CHARS)?;
        limits::characters("TagValue", &value, TAG_VALUE_CHARS)?;
        if key.starts_with("aws:") {
            return Err(Failure::InvalidTag("Tag keys that begin with aws: are reserved.".into()));
        }
        if tags.insert(String::from(key), String::from(value)).is_some() {
            return Err(Failure::InvalidTag("A tag key is given more than once.".into()));
        }
    }
    Ok(tags)
}
