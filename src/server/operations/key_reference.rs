//! How a request names a key: by id, alias, or the ARN of either, in the form of either API.

use uuid::Uuid;

/// A key as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReference<'a> {
    /// By its id.
    Id(Uuid),
    /// By an alias, with its prefix.
    Alias(&'a str),
    /// By an ARN.
    Arn {
        /// The region in it.
        region: &'a str,
        /// The account in it, without leading zeros: AWS pads it.
        account_id: &'a str,
        /// What it names: [`Id`](Self::Id) or [`Alias`](Self::Alias).
        resource: ArnResource<'a>,
    },
    /// In no form that is known: there is no such key.
    Unknown(&'a str),
}

/// What an ARN names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArnResource<'a> {
    /// A key.
    Key(Uuid),
    /// An alias, with its prefix.
    Alias(&'a str),
}

impl<'a> KeyReference<'a> {
    /// Reads what a request gives as the name of a key. Case counts, but in the digits of an id.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        if let Some(id) = key_id(text) {
            return Self::Id(id);
        }
        if text.starts_with("alias/") {
            return Self::Alias(text);
        }
        arn(text).unwrap_or(Self::Unknown(text))
    }

    /// Whether it is, or ends in, an alias.
    #[must_use]
    pub fn is_alias(&self) -> bool {
        matches!(self, Self::Alias(_) | Self::Arn { resource: ArnResource::Alias(_), .. })
    }
}

/// An id in its one form, with hyphens.
fn key_id(text: &str) -> Option<Uuid> {
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return None;
    }
    Uuid::try_parse(text).ok()
}

fn arn(text: &str) -> Option<KeyReference<'_>> {
    let rest = text.strip_prefix("acs:kms:").or_else(|| text.strip_prefix("arn:aws:kms:"))?;
    let (region, rest) = rest.split_once(':')?;
    let (account, resource) = rest.split_once(':')?;
    let resource = match resource.strip_prefix("key/") {
        Some(id) => ArnResource::Key(key_id(id)?),
        None if resource.starts_with("alias/") => ArnResource::Alias(resource),
        None => return None,
    };
    Some(KeyReference::Arn { region, account_id: account.trim_start_matches('0'), resource })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let text = "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73";
        let id = Uuid::parse_str(text).unwrap();
        let arn = |resource| KeyReference::Arn { region: "r", account_id: "123456", resource };
        let rows = [
            (text.to_owned(), KeyReference::Id(id)),
            ("alias/orders".into(), KeyReference::Alias("alias/orders")),
            (format!("acs:kms:r:123456:key/{text}"), arn(ArnResource::Key(id))),
            (format!("arn:aws:kms:r:000000123456:key/{text}"), arn(ArnResource::Key(id))),
            ("arn:aws:kms:r:000000123456:alias/a/b".into(), arn(ArnResource::Alias("alias/a/b"))),
            ("acs:kms:r:123456:alias/a".into(), arn(ArnResource::Alias("alias/a"))),
        ];
        for (text, expected) in &rows {
            assert_eq!(&KeyReference::parse(text), expected, "{text}");
        }
        let unknown = [
            "",
            "orders",
            "08c33a6f4e0a4a1ba3fa7ddfa1d4fb73",
            "{08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73}",
            "arn:aws:kms:r:000000123456:key/alias",
            "arn:aws:s3:r:1:key/08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73",
            "arn:aws:kms:r",
        ];
        for text in unknown {
            assert_eq!(KeyReference::parse(text), KeyReference::Unknown(text));
        }
    }
}
