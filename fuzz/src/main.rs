//! libFuzzer around the target that the environment variable `FUZZ_TARGET` names. Without it, their names are printed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../targets/mod.rs"]
mod targets;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match targets::TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => *target,
        None => {
            targets::TARGETS.iter().for_each(|(known, _)| println!("{known}"));
            std::process::exit(0)
        }
    }
});

fuzz_target!(init: { LazyLock::force(&TARGET); }, |data: &[u8]| TARGET(data));
