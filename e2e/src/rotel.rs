//! A real OpenTelemetry collector (<https://github.com/streamfold/rotel>, which `deploy/install-test-tools` fetches): it
//! takes spans in by OTLP as any other does, and sends them on to where the test can read them.

use std::{
    env,
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
    _folder: TempDir,
}

impl Rotel {
    /// Starts a collector that sends what it gets on to an OTLP/gRPC endpoint.
    ///
    /// # Panics
    /// If it isn't installed, or doesn't listen within half a minute.
    pub async fn start(onward: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("turnpike-rotel-").tempdir().unwrap();
        let (grpc, http) = (testkit::free_port(), testkit::free_port());
        let mut process = Command::new(binary())
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--exporter", "otlp", "--otlp-exporter-protocol", "grpc", "--otlp-exporter-compression", "none"])
            .args(["--otlp-exporter-endpoint", onward])
            .arg("--pid-file")
            .arg(folder.path().join("pid"))
            .arg("--log-file")
            .arg(folder.path().join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the collector starts");
        eventually("the collector listens", Duration::from_secs(30), || {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "the collector ended: {ended:?}");
            let listens = TcpStream::connect(("127.0.0.1", grpc)).is_ok();
            async move { listens.then_some(()) }
        })
        .await;
        Self { process, endpoint: format!("http://127.0.0.1:{grpc}"), _folder: folder }
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
    }
}

fn binary() -> PathBuf {
    let installed = crate::binary().ancestors().nth(2).unwrap().join("tools/rotel-agent");
    let binary = env::var_os("ROTEL").map_or(installed, PathBuf::from);
    assert!(binary.exists(), "{} is missing: deploy/install-test-tools", binary.display());
    binary
}
