//! Percent-encoding as signatures want it: everything but letters, digits and `-_.~`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The pieces of a text, encoded: runs of what stays as it is, and `%XX`.
pub(super) fn encoded(text: &str) -> impl Iterator<Item = &str> {
    utf8_percent_encode(text, RESERVED)
}

/// The pieces of a text that is encoded twice.
pub(super) fn encoded_twice(text: &str) -> impl Iterator<Item = &str> {
    encoded(text).flat_map(|piece| match piece.strip_prefix('%') {
        Some(digits) => ["%25", digits],
        None => [piece, ""],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_signatures_want_it() {
        let text = "aZ09-_.~ +*/%&=é";
        assert_eq!(encoded(text).collect::<String>(), "aZ09-_.~%20%2B%2A%2F%25%26%3D%C3%A9");
        let once: String = encoded(text).collect();
        assert_eq!(encoded_twice(text).collect::<String>(), encoded(&once).collect::<String>());
    }
}
