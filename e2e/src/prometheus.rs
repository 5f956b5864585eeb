//! A real Prometheus that scrapes what a test tells it to, and `promtool`.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::eventually;

use crate::Client;

/// A running Prometheus. Dropped, it is killed.
pub struct Prometheus {
    process: Child,
    client: Client,
    folder: TempDir,
}

/// A series of an answer: its labels, and its value.
#[derive(Debug)]
pub struct Sample {
    pub labels: Value,
    pub value: f64,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes each of these ops listeners (`127.0.0.1:9900`) every second.
    ///
    /// # Panics
    /// If it isn't installed, or isn't ready within a minute.
    pub async fn start(targets: &[String]) -> Self {
        let folder = tempfile::Builder::new().prefix("turnpike-prometheus-").tempdir().unwrap();
        let config = folder.path().join("prometheus.yaml");
        let targets = targets.iter().map(|target| target.trim_start_matches("http://")).collect::<Vec<_>>().join(", ");
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n  - job_name: turnpike\n    \
                 static_configs: [{{targets: [{targets}]}}]\n"
            ),
        )
        .unwrap();
        let address = format!("127.0.0.1:{}", testkit::free_port());
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("prometheus is installed: deploy/install-test-tools");
        let client = Client::new(&format!("http://{address}"));
        eventually("Prometheus is ready", Duration::from_secs(60), || {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "Prometheus ended: {}", log_of(folder.path()));
            let asked = client.try_send(hyper::Method::GET, "/-/ready", None);
            async move { asked.await.is_ok_and(|answer| answer.status.is_success()).then_some(()) }
        })
        .await;
        Self { process, client, folder }
    }

    /// What an expression is now.
    pub async fn query(&self, expression: &str) -> Vec<Sample> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.client.get(&format!("/api/v1/query?query={encoded}")).await.expect(200).json();
        let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        series
            .into_iter()
            .map(|series| {
                let value = series["value"][1].as_str().unwrap().parse().unwrap();
                Sample { labels: series["metric"].clone(), value }
            })
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("Prometheus's log:\n{}", log_of(self.folder.path()));
        }
    }
}

fn log_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// Runs `promtool` and gives it this input.
///
/// # Errors
/// What it complains of.
pub fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    let mut tool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: deploy/install-test-tools");
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}
