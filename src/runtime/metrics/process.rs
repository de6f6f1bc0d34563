//! What the kernel says about this process, under the names that every Prometheus client uses.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// Reads `/proc/self` at every scrape. Where there is none, nothing is said.
#[derive(Debug)]
pub struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let said = |file| fs::read_to_string(file).unwrap_or_default();
        if let Some(usage) = Usage::parse(&said("/proc/self/stat"), &said("/proc/stat")) {
            let cpu = usage.cpu_seconds;
            counter(&mut encoder, "process_cpu_seconds", "CPU time, of user and system", cpu)?;
            gauge(&mut encoder, "process_start_time_seconds", "When the process began", usage.started)?;
            gauge(&mut encoder, "process_resident_memory_bytes", "Resident memory", usage.resident_bytes)?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            gauge(&mut encoder, "process_open_fds", "Open file descriptors", number(files.count()))?;
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            gauge(&mut encoder, "process_max_fds", "The most open file descriptors", number(limit))?;
        }
        Ok(())
    }
}

/// What `/proc/self/stat` says (proc(5)).
#[derive(Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    /// Since 1970.
    started: f64,
    resident_bytes: f64,
}

impl Usage {
    fn parse(own: &str, of_all: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything; the fields behind it are numbered from 3.
        let fields: Vec<_> = own.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let ticks = number(clock_ticks_per_second());
        let booted = of_all.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            started: booted + field(22)? / ticks,
            resident_bytes: field(24)? * number(page_size()),
        })
    }
}

/// As metrics have it.
fn number(count: impl TryInto<u64>) -> f64 {
    // Exact up to 2^53: more than any of these can be.
    #[allow(clippy::cast_precision_loss)]
    count.try_into().map_or(f64::NAN, |count| count as f64)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    let typed = metric.metric_type();
    metric.encode(encoder.encode_descriptor(name, help, None, typed)?)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    let typed = metric.metric_type();
    metric.encode(encoder.encode_descriptor(name, help, None, typed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read_past_any_name() {
        let own = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 1000 1000000 30 184467440 1";
        let ticks = number(clock_ticks_per_second());
        let expected = Usage {
            cpu_seconds: 300.0 / ticks,
            started: 1_700_000_000.0 + 1000.0 / ticks,
            resident_bytes: 30.0 * number(page_size()),
        };
        assert_eq!(Usage::parse(own, "cpu 1 2\nbtime 1700000000\nprocesses 5\n"), Some(expected));
        assert_eq!(Usage::parse("", ""), None);
        assert_eq!(Usage::parse("7 (x) S 1", "btime 1"), None);
    }
}
