//! The encryption context: public name-value pairs that are authenticated together with a
//! ciphertext, and have to be given again to decrypt it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The longest encryption context, in characters of its compact JSON form (the limit of the
/// Alibaba Cloud KMS API).
pub const MAX_JSON_CHARS: usize = 8192;

/// A context names the same key twice. Which of the values counts would depend on the
/// reader, so neither does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the encryption context has the key {0:?} more than once")]
pub struct DuplicateKey(pub String);

/// A context is longer than [`MAX_JSON_CHARS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the encryption context has {actual} characters as JSON; at most {MAX_JSON_CHARS} are allowed")]
pub struct ContextTooLong {
    /// Length found, in characters.
    pub actual: usize,
}

/// Name-value pairs, each name once, that are authenticated with a ciphertext.
///
/// Not secret. The order in which pairs were given does not matter; nothing is normalised
/// (two spellings of one character in Unicode are two strings), and no context is the same as
/// an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EncryptionContext(BTreeMap<String, String>);

impl EncryptionContext {
    /// The empty context.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A context of these pairs, in any order.
    ///
    /// # Errors
    /// A key appears twice, even with the same value.
    pub fn try_from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, DuplicateKey> {
        pairs.into_iter().try_fold(Self::new(), |context, (key, value)| context.with_entry(key, value))
    }

    /// This context with one more entry.
    ///
    /// # Errors
    /// The key is there already; its value is never replaced, as the result would
    /// authenticate something else than the user asked for.
    pub fn with_entry(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self, DuplicateKey> {
        match self.0.entry(key.into()) {
            Entry::Vacant(entry) => {
                entry.insert(value.into());
                Ok(self)
            }
            Entry::Occupied(entry) => Err(DuplicateKey(entry.key().clone())),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The pairs, sorted by the UTF-8 bytes of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes that are authenticated: the number of pairs as a big-endian `u32`, then each
    /// key and its value, sorted by the UTF-8 bytes of the keys, each preceded by its
    /// length in bytes as a big-endian `u32`. Different contexts have different encodings.
    ///
    /// # Panics
    /// If a string has more than 2^32 - 1 bytes, or if there are more pairs than that. Nothing that reaches this
    /// program has, see [`check_size`](Self::check_size), and stopping beats an encoding that is not unique.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = be32(self.0.len()).to_vec();
        for text in self.iter().flat_map(|(key, value)| [key, value]) {
            out.extend_from_slice(&be32(text.len()));
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    /// The context as a compact JSON object, sorted as in [`encode`](Self::encode).
    #[must_use]
    pub fn to_json(&self) -> String {
        // A map from strings to strings always has a JSON form, and a String takes any write.
        #[allow(clippy::expect_used)]
        serde_json::to_string(&self.0).expect("strings serialise")
    }

    /// Checks the length of the JSON form.
    ///
    /// # Errors
    /// It has more than [`MAX_JSON_CHARS`] characters (Unicode scalar values).
    pub fn check_size(&self) -> Result<(), ContextTooLong> {
        let actual = self.to_json().chars().count();
        if actual > MAX_JSON_CHARS {
            return Err(ContextTooLong { actual });
        }
        Ok(())
    }
}

fn be32(number: usize) -> [u8; 4] {
    // See `# Panics` of `encode`: unreachable, and not to be papered over.
    #[allow(clippy::expect_used)]
    let number = u32::try_from(number).expect("at most 2^32 - 1");
    number.to_be_bytes()
}

impl From<BTreeMap<String, String>> for EncryptionContext {
    fn from(entries: BTreeMap<String, String>) -> Self {
        Self(entries)
    }
}

/// Reads an object of strings. Unlike the derived form, which would keep the last of several
/// equal keys, it refuses them.
impl<'de> Deserialize<'de> for EncryptionContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = EncryptionContext;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose values are strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut context = EncryptionContext::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    context = context.with_entry(key, value).map_err(A::Error::custom)?;
                }
                Ok(context)
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn context(entries: &[(&str, &str)]) -> EncryptionContext {
        let pairs = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        EncryptionContext::try_from_pairs(pairs).unwrap()
    }

    /// The inverse of `encode`, which the program itself never needs.
    fn decode(mut bytes: &[u8]) -> Option<EncryptionContext> {
        fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
            let (taken, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            Some(taken)
        }
        fn number(bytes: &mut &[u8]) -> Option<u32> {
            Some(u32::from_be_bytes(take(bytes, 4)?.try_into().ok()?))
        }
        fn string(bytes: &mut &[u8]) -> Option<String> {
            let len = number(bytes)?;
            String::from_utf8(take(bytes, len as usize)?.to_vec()).ok()
        }
        let mut pairs = Vec::new();
        for _ in 0..number(&mut bytes)? {
            pairs.push((string(&mut bytes)?, string(&mut bytes)?));
        }
        bytes.is_empty().then_some(())?;
        EncryptionContext::try_from_pairs(pairs).ok()
    }

    #[test]
    fn the_encoding_is_the_documented_one() {
        assert_eq!(EncryptionContext::new().encode(), [0, 0, 0, 0]);
        assert_eq!(
            context(&[("b", ""), ("a", "é")]).encode(),
            [&[0, 0, 0, 2][..], &[0, 0, 0, 1, b'a', 0, 0, 0, 2, 0xc3, 0xa9], &[0, 0, 0, 1, b'b', 0, 0, 0, 0],].concat()
        );
    }

    #[test]
    fn boundaries_between_keys_and_values_count() {
        let encodings: std::collections::BTreeSet<_> = [
            context(&[]),
            context(&[("", "")]),
            context(&[("ab", "c")]),
            context(&[("a", "bc")]),
            context(&[("", "abc")]),
            context(&[("abc", "")]),
            context(&[("a", "b"), ("c", "")]),
        ]
        .iter()
        .map(EncryptionContext::encode)
        .collect();
        assert_eq!(encodings.len(), 7);
    }

    #[test]
    fn nothing_is_normalised_and_order_does_not_matter() {
        let composed = context(&[("k", "\u{e9}")]);
        let decomposed = context(&[("k", "e\u{301}")]);
        assert_ne!(composed.encode(), decomposed.encode());
        // U+FF5E comes before U+1F511 in UTF-8, and after it in UTF-16.
        let sorted = context(&[("\u{1f511}", "1"), ("\u{ff5e}", "2"), ("Z", "3"), ("a", "4")]);
        let keys: Vec<_> = sorted.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["Z", "a", "\u{ff5e}", "\u{1f511}"]);
    }

    #[test]
    fn duplicates_are_refused() {
        let duplicate = DuplicateKey("a".to_owned());
        let pairs = [("a", "1"), ("b", "2"), ("a", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(EncryptionContext::try_from_pairs(pairs), Err(duplicate.clone()));
        assert_eq!(context(&[("a", "1")]).with_entry("a", "2"), Err(duplicate));
        let json = r#"{"a":"1","\u0061":"2"}"#;
        assert!(serde_json::from_str::<EncryptionContext>(json).is_err());
    }

    #[test]
    fn json_is_compact_and_sorted_and_read_back() {
        let original = context(&[("b", "2\n\""), ("a", "ü")]);
        let json = original.to_json();
        assert_eq!(json, r#"{"a":"ü","b":"2\n\""}"#);
        assert_eq!(serde_json::to_string(&original).unwrap(), json);
        assert_eq!(serde_json::from_str::<EncryptionContext>(&json).unwrap(), original);
        assert_eq!(EncryptionContext::new().to_json(), "{}");
        for wrong in [r#"{"a":1}"#, r#"{"a":null}"#, "[]", r#""a""#, "null"] {
            assert!(serde_json::from_str::<EncryptionContext>(wrong).is_err());
        }
    }

    #[test]
    fn the_json_form_is_limited_in_characters() {
        // {"k":"…"} is eight characters and the value.
        let fits = context(&[("k", &"é".repeat(MAX_JSON_CHARS - 8))]);
        assert_eq!(fits.check_size(), Ok(()));
        let too_long = context(&[("k", &"é".repeat(MAX_JSON_CHARS - 7))]);
        let actual = MAX_JSON_CHARS + 1;
        assert_eq!(too_long.check_size(), Err(ContextTooLong { actual }));
    }

    #[test]
    fn entries_are_found() {
        let context = context(&[("a", "1")]).with_entry("b", "2").unwrap();
        assert_eq!(context.get("b"), Some("2"));
        assert_eq!(context.get("c"), None);
        assert!(!context.is_empty());
        assert!(EncryptionContext::new().is_empty());
    }

    fn any_context() -> impl Strategy<Value = EncryptionContext> {
        // Few letters, so that equal keys and shifted boundaries do occur.
        proptest::collection::btree_map("[ab\0é]{0,3}", "[ab\0é]{0,3}", 0..4).prop_map(EncryptionContext::from)
    }

    proptest! {
        #[test]
        fn the_encoding_determines_the_context(one in any_context(), other in any_context()) {
            prop_assert_eq!(decode(&one.encode()), Some(one.clone()));
            prop_assert_eq!(one.encode() == other.encode(), one == other);
        }
    }
}
