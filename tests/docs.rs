//! The documentation says what the code says: every reason is explained, and no link leads nowhere.
#![allow(clippy::unwrap_used, reason = "a test that fails says why by a panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The page with the tables of reasons.
fn explained() -> String {
    read("docs/reasons.md")
}

#[test]
fn every_reason_is_explained() {
    let code = read("src/api/conditions.rs");
    let (_, reasons) = code.split_once("pub mod reason {").unwrap();
    let (reasons, _) = reasons.split_once("\n}\n").unwrap();
    let reasons: Vec<_> =
        reasons.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split('"').nth(1)).collect();
    assert!(reasons.len() > 30, "the reasons are no longer found in src/api/conditions.rs: {reasons:?}");
    let explained = explained();
    let missing: Vec<_> = reasons.iter().filter(|reason| !explained.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "docs/reasons.md does not say what to do about {missing:?}");
}

/// Every file below a folder of the checkout.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The names in a text that begin with `rule_` and a number.
fn rule_names<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    let names =
        text.split(before).skip(1).map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap());
    names.filter(|n| n.strip_prefix("rule_").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))).collect()
}

#[test]
fn every_test_of_a_rule_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: String = ["src", "tests"]
        .iter()
        .flat_map(|folder| files_below(&root.join(folder)))
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let written = rule_names(&sources, "fn ");
    let rules = read("docs/rules.md");
    let listed = rule_names(&rules, "`");
    let missing: Vec<_> = written.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&written).collect();
    assert!(
        written.len() > 50 && missing.is_empty() && gone.is_empty(),
        "docs/rules.md: lacks {missing:?}, has {gone:?}"
    );
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = files_below(&root.join("docs")).into_iter();
    let pages: Vec<PathBuf> = docs.chain(["README.md", "CONTRIBUTING.md"].map(|page| root.join(page))).collect();
    let mut broken = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let found = target.exists() && (heading.is_empty() || has_heading(&target, heading));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Whether a page has a heading with this anchor, made as code hosts make them.
fn has_heading(page: &Path, anchor: &str) -> bool {
    let text = fs::read_to_string(page).unwrap();
    text.lines().filter(|line| line.starts_with('#')).any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept: String = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect();
        kept.replace(' ', "-") == anchor
    })
}
