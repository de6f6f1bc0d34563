//! Resource versions, as far as they can be compared.

/// Whether one resource version is older than another. They grow (KEP-5504 makes that official for 1.35); one
/// that is no number is taken as it comes.
#[must_use]
pub fn is_older(a: &str, b: &str) -> bool {
    matches!((a.parse::<u128>(), b.parse::<u128>()), (Ok(a), Ok(b)) if a < b)
}
