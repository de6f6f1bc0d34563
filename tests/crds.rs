//! `crds/` is what `cmk-operator crds` prints, so that it can be applied without the program.
#![allow(clippy::unwrap_used, reason = "a test that fails says why by a panic")]

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn crds_are_what_the_command_prints() {
    let printed = Command::new(env!("CARGO_BIN_EXE_cmk-operator")).arg("crds").output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let printed = String::from_utf8(printed.stdout).unwrap();

    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(
        files,
        ["cmk-operator.yaml", "kustomization.yaml"],
        "crds/ holds what `make crds` writes, for kustomize too"
    );

    let written = fs::read_to_string(directory.join("cmk-operator.yaml")).unwrap();
    let differing = written.lines().zip(printed.lines()).position(|(written, printed)| written != printed);
    let line = differing.unwrap_or(written.lines().count().min(printed.lines().count())) + 1;
    assert!(
        written == printed,
        "crds/cmk-operator.yaml is not what `cmk-operator crds` prints, from line {line} on: run `make crds`"
    );
}
