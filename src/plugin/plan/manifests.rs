//! Reads manifests: files, folders and standard input; YAML or JSON; several documents, and lists of objects.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use crate::plugin::failure::Failure;

/// What manifests in a folder end in, as for kubectl.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The file it is in.
    pub source: String,
    /// The object.
    pub object: Value,
}

impl Manifest {
    /// A text at the top, or empty.
    pub fn text(&self, field: &str) -> &str {
        self.object[field].as_str().unwrap_or_default()
    }

    /// A text in `metadata`.
    pub fn metadata(&self, field: &str) -> Option<&str> {
        self.object["metadata"][field].as_str()
    }

    /// Whether it is an object of this group and kind, in whatever version.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        let of_group = self.text("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
        of_group == group && self.text("kind") == kind
    }

    /// That something is wrong with it.
    pub fn problem(&self, problem: impl Into<String>) -> Failure {
        Failure::Manifest { path: self.source.clone(), problem: problem.into() }
    }
}

/// Every object in these files and folders; `-` is standard input.
pub fn read(paths: &[PathBuf], recursive: bool) -> Result<Vec<Manifest>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(failed("standard input"))?;
            all.extend(parse("standard input", &text)?);
            continue;
        }
        let shown = path.display().to_string();
        if fs::metadata(path).map_err(failed(&shown))?.is_dir() {
            for file in files_in(path, recursive)? {
                all.extend(read_file(&file)?);
            }
        } else {
            all.extend(read_file(path)?);
        }
    }
    Ok(all)
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> Failure {
    let what = what.to_owned();
    |error| Failure::Io { what, error }
}

fn read_file(path: &Path) -> Result<Vec<Manifest>, Failure> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(failed(&shown))?;
    parse(&shown, &text)
}

/// The manifests in a folder, by name.
fn files_in(folder: &Path, recursive: bool) -> Result<Vec<PathBuf>, Failure> {
    let shown = folder.display().to_string();
    let entries = fs::read_dir(folder).map_err(failed(&shown))?.collect::<Result<Vec<_>, _>>();
    let mut paths: Vec<_> = entries.map_err(failed(&shown))?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let is_manifest = path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e));
        if path.is_dir() {
            if recursive {
                files.extend(files_in(&path, true)?);
            }
        } else if is_manifest {
            files.push(path);
        }
    }
    Ok(files)
}

/// The objects in a text.
pub fn parse(source: &str, text: &str) -> Result<Vec<Manifest>, Failure> {
    let malformed = |problem: String| Failure::Manifest { path: source.to_owned(), problem };
    let documents: Vec<Value> = match json_documents(text) {
        Some(documents) => documents,
        None => serde_yaml_ng::Deserializer::from_str(text)
            .map(Value::deserialize)
            .collect::<Result<_, _>>()
            .map_err(|error| malformed(error.to_string()))?,
    };
    let mut objects = Vec::new();
    for document in documents {
        flatten(document, &mut objects);
    }
    for object in &objects {
        let has = |field: &str| object[field].as_str().is_some_and(|text| !text.is_empty());
        if !has("kind") || !has("apiVersion") {
            return Err(malformed("it is no Kubernetes object: apiVersion and kind are needed".into()));
        }
    }
    Ok(objects.into_iter().map(|object| Manifest { source: source.to_owned(), object }).collect())
}

/// The documents of a text that is JSON, one after the other. YAML would not take several.
fn json_documents(text: &str) -> Option<Vec<Value>> {
    text.trim_start().starts_with('{').then_some(())?;
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()
}

/// An object, the objects of a list, or nothing: an empty document.
fn flatten(document: Value, into: &mut Vec<Value>) {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Null => {}
        Value::Object(mut fields) if is_list && fields.get("items").is_some_and(Value::is_array) => {
            if let Some(Value::Array(items)) = fields.remove("items") {
                items.into_iter().for_each(|item| flatten(item, into));
            }
        }
        other => into.push(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse("test", text).unwrap().iter().map(|m| m.metadata("name").unwrap().to_owned()).collect()
    }

    #[test]
    fn yaml_json_documents_and_lists_are_read() {
        let one =
            |name: &str| format!("{{\"apiVersion\": \"v1\", \"kind\": \"X\", \"metadata\": {{\"name\": \"{name}\"}}}}");
        let yaml = "# nothing\n---\napiVersion: v1\nkind: X\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: X\n\
                    metadata:\n  name: b\n";
        assert_eq!(names(yaml), ["a", "b"]);
        assert_eq!(names(&one("a")), ["a"]);
        assert_eq!(names(&format!("{}\n{}", one("a"), one("b"))), ["a", "b"]);
        let list = format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{}, {}]}}", one("a"), one("b"));
        assert_eq!(names(&list), ["a", "b"]);
        assert!(names("").is_empty() && names("# a comment\n").is_empty());
    }

    #[test]
    fn what_is_no_object_is_said() {
        for (text, problem) in
            [("a: [", "test: "), ("metadata: {name: a}", "apiVersion and kind"), ("[1]", "apiVersion")]
        {
            let error = parse("test", text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn folders_are_read_by_name_and_below_only_if_asked() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        for (file, name) in [("b.yaml", "b"), ("a.json", "a"), ("c.txt", "c"), ("below/d.yml", "d")] {
            let text = format!("{{\"apiVersion\": \"v1\", \"kind\": \"X\", \"metadata\": {{\"name\": \"{name}\"}}}}");
            fs::write(folder.path().join(file), text).unwrap();
        }
        let read = |recursive| {
            let all = read(&[folder.path().to_owned()], recursive).unwrap();
            all.iter().map(|m| m.metadata("name").unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(read(false), ["a", "b"]);
        assert_eq!(read(true), ["a", "b", "d"]);
    }
}
