//! JSON by hand for the operations that carry plaintext: written once, into a buffer that never grows, so that no copy is
//! left behind, with base64 written in place.

use base64::{Engine, encoded_len, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

/// The value of a member.
#[derive(Clone, Copy)]
pub(super) enum Member<'a> {
    /// A string.
    Text(&'a str),
    /// Bytes, as base64.
    Blob(&'a [u8]),
}

impl Member<'_> {
    /// At most how many bytes it takes. An escaped character takes six.
    fn max_len(self) -> usize {
        match self {
            Self::Text(text) => text.len() * 6 + 2,
            Self::Blob(bytes) => encoded_len(bytes.len(), true).unwrap_or(usize::MAX / 2) + 2,
        }
    }
}

/// An object of these members. The names need no escapes.
pub(super) fn object(members: &[(&str, Member<'_>)]) -> Zeroizing<Vec<u8>> {
    let capacity = members.iter().map(|(name, value)| name.len() + value.max_len() + 4).sum::<usize>() + 2;
    let mut json = Zeroizing::new(Vec::with_capacity(capacity));
    json.push(b'{');
    for (i, (name, value)) in members.iter().enumerate() {
        if i > 0 {
            json.push(b',');
        }
        json.push(b'"');
        json.extend_from_slice(name.as_bytes());
        json.extend_from_slice(b"\":");
        match value {
            Member::Text(text) => push_text(&mut json, text),
            Member::Blob(bytes) => push_base64(&mut json, bytes),
        }
    }
    json.push(b'}');
    debug_assert!(json.len() <= capacity, "the buffer grew");
    json
}

fn push_text(json: &mut Vec<u8>, text: &str) {
    // A string has a JSON form, and a Vec takes any write.
    #[allow(clippy::expect_used)]
    serde_json::to_writer(json, text).expect("a string serialises");
}

fn push_base64(json: &mut Vec<u8>, bytes: &[u8]) {
    json.push(b'"');
    let start = json.len();
    json.resize(start + encoded_len(bytes.len(), true).unwrap_or_default(), 0);
    // The room is exactly as long as it has to be.
    #[allow(clippy::expect_used)]
    BASE64_STANDARD.encode_slice(bytes, &mut json[start..]).expect("the room is enough");
    json.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_a_serializer_writes(text in ".*", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let json = object(&[("Text", Member::Text(&text)), ("Blob", Member::Blob(&bytes))]);
            let expected = serde_json::json!({"Text": text, "Blob": BASE64_STANDARD.encode(&bytes)});
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&json).unwrap(), expected);
        }
    }
}
