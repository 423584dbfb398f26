//! What Linux says about this process, under the names that Prometheus's client libraries share.
//!
//! Read from /proc at each scrape; elsewhere there are no such metrics.

use std::fs;
use std::sync::OnceLock;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::metrics::encode_one;

/// Linux shows times to programs in hundredths of a second on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// The process at one moment.
#[derive(Debug, Clone, PartialEq)]
struct ProcessFigures {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_files: u64,
    max_open_files: u64,
    /// Seconds since the epoch; `None`: a hardened unit hides when the system was started.
    started_at: Option<f64>,
}

impl ProcessFigures {
    /// `None` where there is no /proc as Linux has it.
    fn read() -> Option<Self> {
        static BOOTED_AT: OnceLock<Option<f64>> = OnceLock::new();
        let booted_at =
            *BOOTED_AT.get_or_init(|| boot_time(&fs::read_to_string("/proc/stat").ok()?));
        let (stat, status, limits) = ("/proc/self/stat", "/proc/self/status", "/proc/self/limits");
        // The listing has one file open itself.
        let open_files = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64;
        let mut figures = Self::parse(
            &fs::read_to_string(stat).ok()?,
            &fs::read_to_string(status).ok()?,
            &fs::read_to_string(limits).ok()?,
        )?;
        figures.started_at = figures.started_at.zip(booted_at).map(|(after, boot)| boot + after);
        Some(Self { open_files, ..figures })
    }

    /// Parses three files of /proc/self; `started_at` counts from the start of the system.
    fn parse(stat: &str, status: &str, limits: &str) -> Option<Self> {
        // The name of the program, in brackets, may contain anything. What follows it are the fields
        // from the third on (proc_pid_stat(5)).
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        let max = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        let max = max.split_ascii_whitespace().next()?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_SECOND,
            resident_bytes: resident * 1024,
            virtual_bytes: field(23)?,
            open_files: 0,
            // "unlimited"
            max_open_files: max.parse().unwrap_or(u64::MAX),
            started_at: Some(field(22)? as f64 / TICKS_PER_SECOND),
        })
    }
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The metrics of this process.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(figures) = ProcessFigures::read() else { return Ok(()) };
        let help = "User and system CPU time of the process";
        let cpu = ConstCounter::new(figures.cpu_seconds);
        encode_one(&mut encoder, "process_cpu", help, Some(&Unit::Seconds), &cpu)?;
        let mut gauge = |name, help, unit: Option<Unit>, value: f64| {
            encode_one(&mut encoder, name, help, unit.as_ref(), &ConstGauge::new(value))
        };
        if let Some(started_at) = figures.started_at {
            let help = "When the process was started";
            gauge("process_start_time", help, Some(Unit::Seconds), started_at)?;
        }
        let help = "Memory that the process has in RAM";
        let resident = figures.resident_bytes as f64;
        gauge("process_resident_memory", help, Some(Unit::Bytes), resident)?;
        let help = "Address space of the process";
        gauge("process_virtual_memory", help, Some(Unit::Bytes), figures.virtual_bytes as f64)?;
        let help = "Files and connections that the process has open";
        gauge("process_open_fds", help, None, figures.open_files as f64)?;
        let help = "The most files and connections that the process may have open";
        gauge("process_max_fds", help, None, figures.max_open_files as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn the_files_of_proc_are_read_whatever_the_program_is_called() {
        let stat = "20224 (a b) c) R 20222 20222 6828 0 -1 4194304 102 0 0 0 250 50 0 0 20 0 1 0 \
                    134416 3133440 382 18446744073709551615 1 2";
        let status = "Name:\ta b) c\nVmPeak:\t    3200 kB\nVmRSS:\t    1528 kB\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 4096                 files\n";
        let expected = ProcessFigures {
            cpu_seconds: 3.0,
            resident_bytes: 1528 * 1024,
            virtual_bytes: 3_133_440,
            open_files: 0,
            max_open_files: 1024,
            started_at: Some(1344.16),
        };
        assert_eq!(ProcessFigures::parse(stat, status, limits), Some(expected));
        assert_eq!(boot_time("cpu 1 2\nbtime 1795982658\n"), Some(1_795_982_658.0));
        assert_eq!(ProcessFigures::parse("", "", ""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_figures() {
        let figures = ProcessFigures::read().unwrap();
        assert!(figures.resident_bytes > 1 << 20, "{figures:?}");
        assert!(figures.open_files > 2 && figures.open_files < figures.max_open_files);
        let age = Clock::system().now().as_second() as f64 - figures.started_at.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{figures:?}");
    }
}
