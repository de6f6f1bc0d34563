//! What is printed, and how.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::ValueEnum;
use serde::Serialize;

use super::failure::Failure;

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object
    Json,
    /// One YAML document
    Yaml,
}

/// Prints a text. That nobody reads it any more is no failure.
pub fn print(text: &str) -> Result<ExitCode, Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Io { what: "standard output".into(), error })
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Says something beside the output: a warning, or what could not be looked at.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Data as JSON or YAML.
pub fn serialized(format: Format, data: &impl Serialize) -> Result<String, Failure> {
    let failed = |error: String| Failure::Output(error);
    match format {
        Format::Json => serde_json::to_string_pretty(data).map(|text| text + "\n").map_err(|e| failed(e.to_string())),
        Format::Yaml => serde_yaml_ng::to_string(data).map_err(|e| failed(e.to_string())),
    }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// Colours if standard output is a terminal that has them and nobody minds (`https://no-color.org`).
    #[must_use]
    pub fn of_terminal() -> Self {
        let minds = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self(io::stdout().is_terminal() && !minds && !dumb)
    }

    /// Always, or never.
    #[cfg(test)]
    pub const fn fixed(on: bool) -> Self {
        Self(on)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What is as it should be.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What is wrong, or can't be undone.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// What deserves a look.
    #[must_use]
    pub fn careful(self, text: &str) -> String {
        self.with("33", text)
    }

    /// What is less important.
    #[must_use]
    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    /// A heading, a name.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }
}

/// `NAME:   value` lines, aligned.
#[must_use]
pub fn fields(indent: usize, rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 2;
    rows.iter().map(|(name, value)| format!("{:indent$}{:width$}{value}\n", "", format!("{name}:"))).collect()
}

/// Columns, aligned; the last one is as long as it is. Cells must not have colours in them.
#[must_use]
pub fn table(indent: usize, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<_> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            format!("{:indent$}{}\n", "", cells.join("  ").trim_end())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        assert_eq!(Paint::fixed(false).bad("x"), "x");
        assert_eq!(Paint::fixed(true).bad("x"), "\x1b[31mx\x1b[0m");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "b".into()], vec!["long".into(), "ä".into(), "c".into()]];
        assert_eq!(table(2, &rows), "  a     b\n  long  ä  c\n");
        assert_eq!(fields(0, &[("A", "1".into()), ("Long", "2".into())]), "A:    1\nLong: 2\n");
    }
}
