//! The resource name (ARN) of a key, in the form of either API.

use std::fmt;

use uuid::Uuid;

use super::{Dialect, KeyRecord};

/// What a key's resource name is made of. Displayed as Alibaba Cloud KMS does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceName {
    /// The region.
    pub region: String,
    /// The account, as the key store declares it: not padded.
    pub account_id: String,
    /// The key.
    pub key_id: Uuid,
}

impl ResourceName {
    /// The name of a record's key.
    #[must_use]
    pub fn of(record: &KeyRecord) -> Self {
        Self { region: record.region.clone(), account_id: record.account_id.clone(), key_id: record.key_id }
    }

    /// The name as an API shows it. AWS accounts have 12 digits.
    #[must_use]
    pub fn arn(&self, dialect: Dialect) -> String {
        let Self { key_id, .. } = self;
        self.arn_of(dialect, format_args!("key/{key_id}"))
    }

    /// The name of an alias of the key, `alias/…`.
    #[must_use]
    pub fn alias_arn(&self, dialect: Dialect, alias: &str) -> String {
        self.arn_of(dialect, format_args!("{alias}"))
    }

    fn arn_of(&self, dialect: Dialect, resource: fmt::Arguments<'_>) -> String {
        let Self { region, account_id, .. } = self;
        match dialect {
            Dialect::Alibaba => format!("acs:kms:{region}:{account_id}:{resource}"),
            Dialect::Aws => format!("arn:aws:kms:{region}:{account_id:0>12}:{resource}"),
        }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arn(Dialect::Alibaba))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_api_has_its_form() {
        let name = ResourceName { region: "cn-hangzhou".into(), account_id: "123456".into(), key_id: Uuid::nil() };
        assert_eq!(name.arn(Dialect::Alibaba), "acs:kms:cn-hangzhou:123456:key/00000000-0000-0000-0000-000000000000");
        assert_eq!(
            name.arn(Dialect::Aws),
            "arn:aws:kms:cn-hangzhou:000000123456:key/00000000-0000-0000-0000-000000000000"
        );
        assert_eq!(name.alias_arn(Dialect::Aws, "alias/a"), "arn:aws:kms:cn-hangzhou:000000123456:alias/a");
        assert_eq!(name.alias_arn(Dialect::Alibaba, "alias/a"), "acs:kms:cn-hangzhou:123456:alias/a");
    }
}
