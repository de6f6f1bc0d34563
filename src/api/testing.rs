//! What the tables of CEL rules share.

use kube::core::cel::ValidationErrors;

/// `expected` is part of the one message; empty: accepted.
pub fn check(result: Result<(), ValidationErrors>, expected: &str, case: &str) {
    let messages: Vec<_> = result.err().into_iter().flat_map(ValidationErrors::into_vec).map(|e| e.message).collect();
    match messages.as_slice() {
        [] => assert_eq!("", expected, "{case} was accepted"),
        [one] => assert!(!expected.is_empty() && one.contains(expected), "{case}: {one}"),
        more => panic!("{case}: {more:?}"),
    }
}
