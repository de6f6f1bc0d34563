//! The fuzz targets take every input of their corpora. (`make fuzz` looks for more.)
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

#[test]
fn every_target_takes_its_corpus() {
    for (name, target) in targets::TARGETS {
        let folder = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let files: Vec<_> = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}")).collect();
        assert!(files.len() >= 3, "{folder} has {} seeds", files.len());
        for file in files {
            target(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
}
