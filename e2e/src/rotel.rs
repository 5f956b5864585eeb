//! A real OpenTelemetry collector (<https://github.com/streamfold/rotel>, which `deploy/install-test-tools` fetches): it
//! takes spans in by OTLP as any other does, and sends them on to where the test can read them.

use std::{
    env, fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use testkit::eventually;

/// A running collector. Dropped, it is killed.
pub struct Rotel {
    process: Child,
    endpoint: String,
    folder: TempDir,
}

impl Rotel {
    /// Starts a collector that sends what it gets on to an OTLP/HTTP endpoint, compressed with gzip (this release does so
    /// whatever it is told).
    ///
    /// # Panics
    /// If it isn't installed, or doesn't listen within half a minute.
    pub async fn start(onward: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("turnpike-rotel-").tempdir().unwrap();
        let (grpc, http) = (testkit::free_port(), testkit::free_port());
        let log = fs::File::create(folder.path().join("out")).unwrap();
        let mut process = Command::new(binary())
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
            .args(["--otlp-exporter-endpoint", onward])
            .arg("--pid-file")
            .arg(folder.path().join("pid"))
            .arg("--log-file")
            .arg(folder.path().join("log"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the collector starts");
        eventually("the collector listens", Duration::from_secs(30), || {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "the collector ended: {ended:?}");
            let listens = TcpStream::connect(("127.0.0.1", grpc)).is_ok();
            async move { listens.then_some(()) }
        })
        .await;
        Self { process, endpoint: format!("http://127.0.0.1:{grpc}"), folder }
    }

    /// Where it takes spans in.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let said = fs::read_to_string(self.folder.path().join("out")).unwrap_or_default();
            eprintln!("the collector's log:\n{said}");
        }
    }
}

fn binary() -> PathBuf {
    let installed = crate::binary().ancestors().nth(2).unwrap().join("tools/rotel-agent");
    let binary = env::var_os("ROTEL").map_or(installed, PathBuf::from);
    assert!(binary.exists(), "{} is missing: deploy/install-test-tools", binary.display());
    binary
}
