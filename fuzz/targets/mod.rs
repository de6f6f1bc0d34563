//! What is fuzzed: each target takes bytes from outside, and panics where the code under test is wrong. The test
//! `fuzz_corpus` feeds them all files of the corpora, so that what was found once stays found.
//!
//! A new target is a file here, its name below, and seeds in `fuzz/corpus/NAME`.

macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        $(mod $name;)+

        /// The targets by name.
        pub const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name::run)),+];
    };
}

mod request;

targets! {
    acs3,
    alibaba_action,
    aws_body,
    ciphertext_blob,
    encryption_context,
    key_record,
    key_reference,
    parameters,
    rpc_v1,
    sigv4,
}
