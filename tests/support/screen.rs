//! What the audience of the demo and of the end-to-end tests sees, and the count of what it should have seen.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};

/// Something was not as it should be. It has been said on the screen.
#[derive(Debug)]
pub struct Failed;

/// Standard output, with colours where it is a terminal.
pub struct Screen {
    /// Whose screen it is.
    program: &'static str,
    colours: bool,
    pub passed: usize,
    pub failed: usize,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

impl Screen {
    pub fn new(program: &'static str) -> Self {
        let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { program, colours, passed: 0, failed: 0 }
    }

    fn painted(&self, colour: &str, text: impl Display) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// At once, also where it goes to a file: each line says what is going on now.
    fn line(text: impl Display) {
        let mut out = stdout().lock();
        // A closed pipe is no reason to stop: the steps are still checked.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    pub fn heading(&self, text: &str) {
        Self::line(format!("\n{}", self.painted(BOLD, format!("== {text}"))));
    }

    /// What is being waited for.
    pub fn progress(&self, text: impl Display) {
        Self::line(self.painted(DIM, text));
    }

    pub fn say(&self, text: impl Display) {
        Self::line(text);
    }

    /// A command, as it is typed.
    pub fn command(&self, line: &str) {
        Self::line(format!("{} {}", self.painted(CYAN, "$"), self.painted(BOLD, line)));
    }

    /// The count, in the form in which cargo's own test programs end.
    pub fn summary(&self) {
        Self::line(format!("\n{}: {} passed, {} failed", self.program, self.passed, self.failed));
    }

    /// Counts something that should be seen.
    pub fn expect(&mut self, what: impl Display, seen: bool) -> Result<(), Failed> {
        if seen {
            self.passed += 1;
            Self::line(format!("{} {what}", self.painted(GREEN, "✓")));
            Ok(())
        } else {
            self.failed += 1;
            Self::line(format!("{} expected: {what}", self.painted(RED, "✗")));
            Err(Failed)
        }
    }
}
