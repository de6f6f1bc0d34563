//! The one way in which values of variable length enter authenticated data.

/// The length of `bytes` as four bytes, big-endian.
///
/// # Panics
/// If `bytes` is longer than `u32::MAX`. Nothing that is encoded here comes close (an object
/// of Kubernetes is limited to about 1.5 MiB), and if anything ever did, stopping is the
/// only safe answer: a truncated length would make two different inputs encode alike.
pub(super) fn length_prefix(bytes: &[u8]) -> [u8; 4] {
    // See `# Panics`: unreachable, and not to be papered over.
    #[allow(clippy::expect_used)]
    let length = u32::try_from(bytes.len()).expect("a value of more than 4 GiB");
    length.to_be_bytes()
}

/// Appends `bytes`, preceded by their length as a big-endian `u32`.
///
/// Without the length, `("ab", "c")` and `("a", "bc")` would be the same bytes.
///
/// # Panics
/// If `bytes` is longer than `u32::MAX`, which no input of this program is.
pub(super) fn push_length_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&length_prefix(bytes));
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_big_endian() {
        let mut out = Vec::new();
        push_length_prefixed(&mut out, b"");
        push_length_prefixed(&mut out, &[7; 258]);
        assert_eq!(&out[..8], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(out.len(), 8 + 258);
    }
}
