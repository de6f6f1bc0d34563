//! The table.

use std::fmt::Write as _;

use crate::{Cell, Moto, Report, Round, load::Measured};

/// Aims: of the endpoint's issue.
mod aim {
    /// Requests a second in parts of the bare server's, at 32 connections: with 1 KiB and with 4 KiB.
    pub const RATIO: [(usize, f64); 2] = [(1024, 0.65), (4096, 0.5)];
    /// With TLS, in parts of those without.
    pub const TLS: f64 = 0.75;
    /// Median latency at one connection, in parts of the bare server's.
    pub const LATENCY: f64 = 1.6;
    /// Requests a second, in parts of moto's.
    pub const MOTO: f64 = 100.0;
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Cell {
    fn of(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }

    fn figures(&self, which: impl Fn(&Round) -> &Measured) -> String {
        let of = |value: fn(&Measured) -> f64| self.of(|round| value(which(round)));
        let (rate, cpu) = (of(|measured| measured.rate), of(|measured| measured.cpu));
        let (p50, p99) = (of(|measured| measured.p50), of(|measured| measured.p99));
        format!("{rate:>7.0} {p50:>5.0} {p99:>5.0} {cpu:>5.1}")
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// The table for people.
pub fn table(report: &Report) -> String {
    let mut text = String::from("p50, p99: latency, us; CPU: of the server, us a request; medians of the rounds\n\n");
    let heading = "  req/s   p50   p99   CPU";
    let _ = writeln!(
        text,
        "{:<22} {:>5}  {heading:<25} {heading:<25} {heading:<25} {heading:<25} {:>6} {:>6} {:>6} {:>6}",
        "", "conn.", "/bare", "p50", "TLS/", "TLS/"
    );
    let _ = writeln!(
        text,
        "{:<22} {:>5}  {:<25} {:<25} {:<25} {:<25} {:>6} {:>6} {:>6} {:>6}",
        "", "", "  endpoint", "  bare", "  endpoint, TLS", "  bare, TLS", "", "/bare", "plain", "bare"
    );
    for cell in &report.cells {
        let _ = writeln!(
            text,
            "{:<22} {:>5}  {:<25} {:<25} {:<25} {:<25} {:>6.2} {:>6.2} {:>6.2} {:>6.2}",
            cell.operation.to_string(),
            cell.connections,
            cell.figures(|round| &round.plain),
            cell.figures(|round| &round.bare),
            cell.figures(|round| &round.tls),
            cell.figures(|round| &round.bare_tls),
            cell.of(|round| round.plain.rate / round.bare.rate),
            cell.of(|round| round.plain.p50 / round.bare.p50),
            cell.of(|round| round.tls.rate / round.plain.rate),
            cell.of(|round| round.tls.rate / round.bare_tls.rate),
        );
    }
    let (endpoint, bare) = report.memory;
    let _ = writeln!(text, "\nmemory at the end: endpoint {endpoint:.1} MiB, bare server {bare:.1} MiB\n");
    match &report.moto {
        None => text.push_str("moto is not there to compare with: run tests/clients/build\n"),
        Some(figures) => figures.iter().for_each(|moto| text.push_str(&moto_line(report, moto))),
    }
    text.push('\n');
    for (what, found, aim, met) in aims(report) {
        let _ = writeln!(text, "{what:<62} {found:>7.2}  {aim:<8} {}", verdict(met));
    }
    text
}

fn beside<'r>(report: &'r Report, moto: &Moto) -> Option<&'r Cell> {
    report.cells.iter().find(|cell| cell.operation == moto.operation && cell.connections == moto.connections)
}

fn moto_line(report: &Report, moto: &Moto) -> String {
    let Measured { rate, p50, p99, .. } = &moto.measured;
    let times = beside(report, moto).map_or(0.0, |cell| cell.of(|round| round.plain.rate) / rate);
    let name = moto.operation.to_string();
    format!(
        "moto, {name:<20} {:>3} connections {rate:>8.0} {p50:>7.0} {p99:>7.0}   endpoint: {times:.0} times\n",
        moto.connections
    )
}

/// What was aimed at: what, how much, the aim, and whether it is met.
fn aims(report: &Report) -> Vec<(String, f64, String, bool)> {
    let mut rows = Vec::new();
    for cell in &report.cells {
        let name = cell.operation.to_string();
        let ratio = cell.of(|round| round.plain.rate / round.bare.rate);
        let aim = aim::RATIO.iter().find(|(bytes, _)| *bytes == cell.operation.bytes());
        if let (32, Some((_, aim))) = (cell.connections, aim) {
            rows.push((
                format!("{name}, 32 connections: req/s, endpoint / bare"),
                ratio,
                format!("≥ {aim}"),
                ratio >= *aim,
            ));
        }
        if cell.connections == 32 {
            let tls = cell.of(|round| round.tls.rate / round.plain.rate);
            rows.push((
                format!("{name}, 32 connections: req/s, TLS / plain"),
                tls,
                format!("≥ {}", aim::TLS),
                tls >= aim::TLS,
            ));
        }
        if cell.connections == 1 {
            let latency = cell.of(|round| round.plain.p50 / round.bare.p50);
            let met = latency <= aim::LATENCY;
            rows.push((
                format!("{name}, 1 connection: median latency, endpoint / bare"),
                latency,
                format!("≤ {}", aim::LATENCY),
                met,
            ));
        }
    }
    for moto in report.moto.iter().flatten() {
        if let Some(cell) = beside(report, moto) {
            let times = cell.of(|round| round.plain.rate) / moto.measured.rate;
            rows.push((
                format!("{}: req/s, endpoint / moto", moto.operation),
                times,
                format!("≥ {}", aim::MOTO),
                times >= aim::MOTO,
            ));
        }
    }
    rows
}
