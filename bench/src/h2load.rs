//! The load generator of HTTP/2 over TLS.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::wrk::Report;

/// Loads a URL from core 1: ten connections, ten streams each.
///
/// # Errors
/// If it can't start, or got no answer.
pub fn run(url: &str, seconds: u32) -> anyhow::Result<Report> {
    let output = Command::new("taskset")
        .args(["-c", "1", "h2load", "-t1", "-c10", "-m10", "-D", &seconds.to_string(), url])
        .output()
        .context("h2load can't start: apt-get install -y nghttp2-client")?;
    ensure!(output.status.success(), "h2load: {}", String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> anyhow::Result<Report> {
    let mut report = Report { requests: 0, per_second: 0.0, refused: 0, broken: 0 };
    for line in text.lines().map(str::trim) {
        // "finished in 2.00s, 12345.67 req/s, 1.51MB/s"
        if let Some(rest) = line.strip_prefix("finished in ") {
            let rate = rest.split(',').find_map(|part| part.trim().strip_suffix(" req/s"));
            report.per_second = rate.context("h2load names no rate")?.parse()?;
        } else if let Some(rest) = line.strip_prefix("requests:") {
            let count = |word: &str| -> u64 {
                let part = rest.split(',').find_map(|part| part.trim().strip_suffix(word));
                part.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
            };
            report.requests = count("done");
            report.broken = count("errored") + count("timeout");
        } else if let Some(rest) = line.strip_prefix("status codes:") {
            report.refused = rest
                .split(',')
                .filter(|part| part.trim_end().ends_with("4xx") || part.trim_end().ends_with("5xx"))
                .filter_map(|part| part.split_whitespace().next()?.parse::<u64>().ok())
                .sum();
        }
    }
    ensure!(report.requests > 0, "h2load got no answer:\n{text}");
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let text = "finished in 2.00s, 40210.50 req/s, 6.22MB/s\n\
                    requests: 80421 total, 80521 started, 80421 done, 80419 succeeded, 2 failed, 1 errored, 1 timeout\n\
                    status codes: 80416 2xx, 0 3xx, 3 4xx, 2 5xx\n";
        assert_eq!(parse(text).unwrap(), Report { requests: 80_421, per_second: 40_210.5, refused: 5, broken: 2 });
    }
}
