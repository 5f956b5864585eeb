//! The load generator, and what it reports.

use std::process::Command;

use anyhow::{Context as _, ensure};

/// What one run of wrk saw.
#[derive(Debug, PartialEq)]
pub struct Report {
    pub requests: u64,
    pub per_second: f64,
    /// Answers other than 2xx and 3xx.
    pub refused: u64,
    /// Connections or reads that broke.
    pub broken: u64,
}

/// Loads a URL from core 1.
pub fn run(url: &str, headers: &[String], connections: u32, seconds: u32) -> anyhow::Result<Report> {
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "wrk", "-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]);
    for header in headers {
        command.args(["-H", header]);
    }
    let output = command.arg(url).output().context("wrk can't start: apt-get install -y wrk")?;
    ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> anyhow::Result<Report> {
    let mut report = Report { requests: 0, per_second: 0.0, refused: 0, broken: 0 };
    for line in text.lines().map(str::trim) {
        if let Some((requests, _)) = line.split_once(" requests in ") {
            report.requests = requests.parse()?;
        } else if let Some(rate) = line.strip_prefix("Requests/sec:") {
            report.per_second = rate.trim().parse()?;
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses:") {
            report.refused = count.trim().parse()?;
        } else if let Some(errors) = line.strip_prefix("Socket errors:") {
            // "connect 0, read 12, write 0, timeout 0"
            report.broken =
                errors.split(',').filter_map(|part| part.split_whitespace().last()?.parse::<u64>().ok()).sum();
        }
    }
    ensure!(report.requests > 0, "wrk got no answer:\n{text}");
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let text = "Running 2s test @ http://127.0.0.1:1\n  1 threads and 50 connections\n  Thread Stats   Avg\n  \
                    93712 requests in 2.00s, 20.1MB read\n  Socket errors: connect 0, read 3, write 0, timeout 1\n  \
                    Non-2xx or 3xx responses: 7\nRequests/sec:  46832.11\nTransfer/sec:     10.05MB\n";
        let report = Report { requests: 93_712, per_second: 46_832.11, refused: 7, broken: 4 };
        assert_eq!(parse(text).unwrap(), report);
    }

    #[test]
    fn no_answer_is_an_error() {
        assert!(parse("unable to connect").is_err());
    }
}
