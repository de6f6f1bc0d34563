//! How far it is: a bar on a terminal, elsewhere a line at each step.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::Mutex,
    time::{Duration, Instant},
};

/// How often the bar is drawn at most.
const REDRAW: Duration = Duration::from_millis(100);
/// Characters of the bar.
const WIDTH: usize = 32;

/// Progress of one step, on standard error.
pub struct Progress {
    what: String,
    total: usize,
    drawn: Mutex<Option<Instant>>,
    started: Instant,
}

impl Progress {
    /// Begins a step of `total` parts.
    pub fn begin(what: impl Into<String>, total: usize) -> Self {
        let progress = Self { what: what.into(), total, drawn: Mutex::new(None), started: Instant::now() };
        if !stderr().is_terminal() {
            eprintln!("{} …", progress.what);
        }
        progress
    }

    /// So many parts are done.
    pub fn at(&self, done: usize) {
        let mut drawn = self.drawn.lock().expect("nobody panics while drawing");
        if !stderr().is_terminal() || (done < self.total && drawn.is_some_and(|at| at.elapsed() < REDRAW)) {
            return;
        }
        *drawn = Some(Instant::now());
        let full = (WIDTH * done.min(self.total)).checked_div(self.total).unwrap_or(WIDTH);
        let bar = "█".repeat(full) + &"░".repeat(WIDTH - full);
        let seconds = self.started.elapsed().as_secs();
        let _ = write!(stderr(), "\r\x1b[K{bar} {done}/{} {} ({seconds} s)", self.total, self.what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if stderr().is_terminal() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
