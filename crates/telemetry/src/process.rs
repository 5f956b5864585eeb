//! What the operating system knows of this process, under the names that every Prometheus client library gives it. Read
//! from `/proc` at each scrape; where there is none, or a value can't be read, it is left out.

use std::{
    fmt::Write as _,
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// Ticks of the process clock a second: `USER_HZ`, which is 100 for every program on Linux.
const TICKS: f64 = 100.0;

/// The metrics in the Prometheus text format.
pub(crate) fn render() -> String {
    let stat = Stat::read();
    let metrics = [
        (
            "process_cpu_seconds_total",
            "counter",
            "Seconds of processor time used, user and system.",
            stat.as_ref().map(|stat| stat.cpu_seconds),
        ),
        ("process_resident_memory_bytes", "gauge", "Bytes of memory in use.", status_bytes("VmRSS:")),
        ("process_virtual_memory_bytes", "gauge", "Bytes of address space in use.", status_bytes("VmSize:")),
        ("process_open_fds", "gauge", "Open file descriptors.", open_fds()),
        ("process_max_fds", "gauge", "The most file descriptors that may be open.", max_fds()),
        ("process_threads", "gauge", "Threads.", stat.as_ref().map(|stat| stat.threads)),
        (
            "process_start_time_seconds",
            "gauge",
            "When the process was started, in seconds since 1970.",
            stat.as_ref().and_then(Stat::started),
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in metrics {
        if let Some(value) = value {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    }
    text
}

/// Of `/proc/self/stat` (proc(5)), what is told here.
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    /// Seconds after the machine's start.
    started: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The name, in parentheses, may hold spaces; the third field follows it.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let (user, system) = (field(14)?, field(15)?);
        Some(Self { cpu_seconds: (user + system) / TICKS, threads: field(20)?, started: field(22)? / TICKS })
    }

    fn started(&self) -> Option<f64> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        // Whole seconds: the two clocks are read one after the other, and the value must not move from scrape to scrape.
        Some((now - uptime + self.started).round())
    }
}

/// A line of `/proc/self/status`, which counts in units of 1024 bytes.
fn status_bytes(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes: f64 =
        text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn open_fds() -> Option<f64> {
    // Reading the folder opens one more.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn max_fds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    text.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_knows_what_it_uses() {
        let text = render();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in\n{text}")).trim().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 1_000_000.0);
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_max_fds ") >= value("process_open_fds "));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - value("process_start_time_seconds ")).abs() < 3600.0);
    }
}
