//! `image/archive` writes the same image from the same binary, and the Dockerfile runs it alike.
#![allow(clippy::unwrap_used, reason = "a test that fails says why by a panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

const TAG: &str = "example.com/program:1";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes an image of the binary to `directory`, with a label.
fn archive(binary: &Path, directory: &Path) -> PathBuf {
    let output = directory.join("image.tar");
    let status = Command::new(root().join("image/archive"))
        .arg("--binary")
        .arg(binary)
        .arg("--output")
        .arg(&output)
        .args(["--name", "program", "--tag", TAG, "--architecture", "amd64", "--time", "1700000000"])
        .args(["--label", "org.opencontainers.image.version=1"])
        .status()
        .unwrap();
    assert!(status.success(), "image/archive ended with {status}");
    output
}

/// The contents of a file in a tar.
fn file_in(tar: &Path, name: &str) -> Vec<u8> {
    let output = Command::new("tar").arg("-xOf").arg(tar).arg(name).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn document_in(tar: &Path, name: &str) -> Value {
    serde_json::from_slice(&file_in(tar, name)).unwrap()
}

#[test]
fn the_same_binary_gives_the_same_image() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let images = [first.path(), second.path()].map(|directory| {
        let binary = directory.join("built");
        fs::write(&binary, "not a program, for all that matters here").unwrap();
        fs::read(archive(&binary, directory)).unwrap()
    });
    assert!(images[0] == images[1], "two images of one binary differ");
}

#[test]
fn the_image_holds_the_binary_and_runs_it_as_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("built");
    fs::write(&binary, "the program").unwrap();
    let tar = archive(&binary, directory.path());

    let docker = document_in(&tar, "manifest.json");
    assert_eq!(docker[0]["RepoTags"], json!([TAG]));
    let config = document_in(&tar, docker[0]["Config"].as_str().unwrap());
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(
        config["config"],
        json!({
            "Entrypoint": ["/program"],
            "User": "65532:65532",
            "WorkingDir": "/",
            "Labels": { "org.opencontainers.image.version": "1" },
        })
    );
    // OCI's index leads to the same configuration.
    let index = document_in(&tar, "index.json");
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = document_in(&tar, &digest.replace("sha256:", "blobs/sha256/"));
    let named = manifest["config"]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    assert_eq!(docker[0]["Config"], named.as_str());

    let layer = directory.path().join("layer.tar.gz");
    fs::write(&layer, file_in(&tar, docker[0]["Layers"][0].as_str().unwrap())).unwrap();
    let listed = Command::new("tar").arg("-tvf").arg(&layer).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().count(), 1, "more than the program: {listed}");
    assert!(listed.starts_with("-rwxr-xr-x 0/0"), "{listed}");
    assert_eq!(file_in(&layer, "program"), b"the program");
}

#[test]
fn the_dockerfile_makes_the_same_image() {
    let dockerfile = fs::read_to_string(root().join("image/Dockerfile")).unwrap();
    let build = fs::read_to_string(root().join("image/build")).unwrap();
    for line in ["FROM scratch", "USER 65532:65532", r#"ENTRYPOINT ["/cmk-operator"]"#] {
        assert!(dockerfile.lines().any(|l| l == line), "image/Dockerfile lacks {line}");
    }
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(dockerfile.contains(&format!("FROM rust:{version}-")), "image/Dockerfile has another Rust than {version}");
    for label in build.split("org.opencontainers.image.").skip(1).filter_map(|rest| rest.split('=').next()) {
        let name = format!("org.opencontainers.image.{label}=");
        assert!(dockerfile.contains(&name), "image/Dockerfile lacks the label {name}");
    }
}
