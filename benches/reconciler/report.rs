//! The table, and the JSON object.

use serde_json::{Value, json};

use crate::{
    Size,
    measure::{counters::Requests, process::Memory},
};

const MIB: f64 = 1024.0 * 1024.0;

/// Aims: of `make bench`'s issue, from measurements of the API server and of peers.
mod aim {
    /// The operator's keys a second, in parts of the bare client's.
    pub const RATIO: f64 = 0.8;
    /// Writes for a new key.
    pub const NEW: u64 = 3;
    /// Writes for a change of a key.
    pub const TRANSITION: u64 = 1;
    /// MiB without a key.
    pub const AT_REST: f64 = 20.0;
    /// MiB for up to so many keys.
    pub const WITH_KEYS: [(usize, f64); 2] = [(1_000, 30.0), (10_000, 80.0)];
}

/// One line: what, how much, the aim, and whether it is met.
struct Row {
    what: String,
    found: String,
    aim: Option<(String, bool)>,
    /// Printed below.
    detail: Option<String>,
}

impl Row {
    fn plain(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), found: found.into(), aim: None, detail: None }
    }

    fn judged(what: impl Into<String>, found: impl Into<String>, aim: impl Into<String>, met: bool) -> Self {
        Self { aim: Some((aim.into(), met)), ..Self::plain(what, found) }
    }

    /// So many writes for each of `keys`, and every request below.
    fn writes(what: &str, requests: &Requests, keys: usize, aim: u64) -> Self {
        let found = format!("{:.3}", requests.writes() as f64 / keys as f64);
        let row = Self::judged(what, found, aim.to_string(), requests.writes() == aim * keys as u64);
        Self { detail: (!requests.0.is_empty()).then(|| requests.to_string()), ..row }
    }
}

/// The table for people.
pub fn table(sizes: &[Size]) -> String {
    let mut rows: Vec<_> = sizes.iter().flat_map(rows).collect();
    rows.insert(0, Row::plain("", "measured"));
    let width = |of: fn(&Row) -> &str| rows.iter().map(|row| of(row).chars().count()).max().unwrap_or_default();
    let (what, found) = (width(|row| &row.what), width(|row| &row.found));
    let aims = width(|row| row.aim.as_ref().map_or("aim", |(aim, _)| aim));
    let lines = rows.iter().enumerate().map(|(index, row)| {
        let (aim, verdict) = match &row.aim {
            Some((aim, true)) => (aim.as_str(), "met"),
            Some((aim, false)) => (aim.as_str(), "MISSED"),
            None if index == 0 => ("aim", ""),
            None => ("", ""),
        };
        format!("{:what$}  {:found$}  {aim:aims$}  {verdict}", row.what, row.found).trim_end().to_owned()
            + "\n"
            + &row.detail.iter().map(|detail| format!("      {detail}\n")).collect::<String>()
    });
    lines.collect()
}

fn rows(size: &Size) -> Vec<Row> {
    let (run, keys) = (&size.run, size.run.created.keys);
    let each = |count: u64| count as f64 / keys as f64;
    let mut rows = vec![
        Row::plain(format!("{keys} keys: all Ready after, s"), spread(size, |(operator, _)| operator.seconds, 1)),
        Row::plain("  keys a second", spread(size, |(operator, _)| operator.rate(), 0)),
        Row::plain("  keys a second, bare client", spread(size, |(_, bare)| bare.rate(), 0)),
        {
            let ratio = median(size, |(operator, bare)| operator.rate() / bare.rate());
            let found = spread(size, |(operator, bare)| operator.rate() / bare.rate(), 2);
            Row::judged("  operator / bare client", found, format!("≥ {}", aim::RATIO), ratio >= aim::RATIO)
        },
        Row::plain(
            "  CPU of the API server a key, ms",
            spread(size, |(operator, _)| operator.api_server_cpu * 1e3 / keys as f64, 1),
        ),
        Row::plain(
            "  CPU of the API server a key, bare client, ms",
            spread(size, |(_, bare)| bare.api_server_cpu * 1e3 / keys as f64, 1),
        ),
        Row::plain("  CPU of the operator a key, ms", format!("{:.2}", run.operator_cpu * 1e3 / keys as f64)),
        Row::plain("  passes a new key", format!("{:.2}", each(run.passes))),
        Row::writes("  writes a new key", &run.created.requests, keys, aim::NEW),
    ];
    if let Some(changes) = &run.changes {
        rows.push(Row::writes("  writes a key disabled", &changes.disabled, keys, aim::TRANSITION));
        rows.push(Row::writes("  writes a no-op pass", &changes.touched, keys, 0));
        rows.push(Row::writes("  writes a key, of a restart", &changes.restarted, keys, 0));
    }
    rows.push(memory("  memory at rest", run.at_rest, Some(aim::AT_REST)));
    let limit = aim::WITH_KEYS.iter().find(|(most, _)| keys <= *most).map(|(_, mib)| *mib);
    rows.push(memory(&format!("  memory with {keys} keys"), run.with_keys, limit));
    if let Some(changes) = &run.changes {
        rows.push(memory(&format!("  memory after a restart with {keys} keys"), changes.after_restart, limit));
    }
    if let Some(idle) = &run.idle {
        rows.push(Row::plain(
            format!("  idle for {:.0} s, CPU of the operator, s", idle.seconds),
            format!("{:.2}", idle.cpu),
        ));
        let others = idle.requests.clone().without_watches();
        rows.push(Row::judged("  idle, requests", idle.requests.to_string(), "watches only", others.0.is_empty()));
    }
    rows
}

fn memory(what: &str, memory: Memory, aim: Option<f64>) -> Row {
    let resident = memory.resident as f64 / MIB;
    let found = format!("{resident:.1} (at most {:.1})", memory.peak as f64 / MIB);
    match aim {
        Some(aim) => Row::judged(format!("{what}, MiB"), found, format!("≤ {aim}"), resident <= aim),
        None => Row::plain(format!("{what}, MiB"), found),
    }
}

type Pair = (crate::Created, crate::Created);

fn sorted(size: &Size, of: impl Fn(&Pair) -> f64) -> Vec<f64> {
    let mut all: Vec<_> = size.rounds.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all
}

fn median(size: &Size, of: impl Fn(&Pair) -> f64) -> f64 {
    let all = sorted(size, of);
    all[all.len() / 2]
}

/// The median, and between what the rounds lie.
fn spread(size: &Size, of: impl Fn(&Pair) -> f64, digits: usize) -> String {
    let all = sorted(size, &of);
    let middle = median(size, of);
    match all.as_slice() {
        [least, .., most] => format!("{middle:.digits$} ({least:.digits$} to {most:.digits$})"),
        _ => format!("{middle:.digits$}"),
    }
}

/// Everything, for programs. Seconds, bytes, and numbers of requests.
pub fn json(sizes: &[Size], concurrency: usize) -> Value {
    let size = |size: &Size| {
        let rounds = size.rounds.iter().map(|(operator, bare)| {
            json!({"operator": operator, "bareClient": bare, "ratio": operator.rate() / bare.rate()})
        });
        json!({
            "keys": size.run.created.keys,
            "ratio": median(size, |(operator, bare)| operator.rate() / bare.rate()),
            "rounds": rounds.collect::<Vec<_>>(),
            "operator": size.run,
        })
    };
    json!({"concurrency": concurrency, "sizes": sizes.iter().map(size).collect::<Vec<_>>()})
}
