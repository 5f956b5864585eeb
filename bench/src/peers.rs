//! Who is measured: the gateway, nginx, HAProxy and Envoy, each on core 0 with one worker, in front of one upstream on core 1.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use crate::process::{Process, free_port, listening};

pub struct Contestant {
    pub name: &'static str,
    pub http: u16,
    pub https: u16,
    pub process: Process,
}

pub struct Field {
    /// The gateway first.
    pub contestants: Vec<Contestant>,
    /// An API key that the gateway, nginx, HAProxy and Envoy know.
    pub key: String,
    pub setting: Setting,
    _upstream: Process,
}

/// Starts the upstream and every contestant.
///
/// # Errors
/// If one of them is not installed, or does not listen in time; with what it wrote.
pub fn start(turnpike: &Path, folder: &Path) -> anyhow::Result<Field> {
    let own = std::env::current_exe()?;
    let (http, grpc) = (free_port()?, free_port()?);
    let arguments = ["upstream", "--http", &http.to_string(), "--grpc", &grpc.to_string()];
    let upstream = Process::start(1, &own, &arguments, &folder.join("upstream.log"))?;
    listening(http, "the upstream")?;
    listening(grpc, "the upstream")?;
    let setting = Setting::new(turnpike, folder, http, grpc)?;
    let contestants = vec![
        setting.gateway("gateway", GATEWAY, &[])?,
        setting.start("nginx", Path::new("nginx"), include_str!("../peers/nginx.conf"), &["-c"], &[], &[])?,
        setting.start(
            "haproxy",
            Path::new("haproxy"),
            include_str!("../peers/haproxy.cfg"),
            &["-db", "-f"],
            &[],
            &[],
        )?,
        setting.start(
            "envoy",
            Path::new("target/tools/envoy"),
            include_str!("../peers/envoy.yaml"),
            &["-c"],
            &["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"],
            &[],
        )?,
    ];
    Ok(Field { contestants, key: setting.key.clone(), setting, _upstream: upstream })
}

pub const GATEWAY: &str = include_str!("../peers/gateway.yaml");

/// What all configurations speak of.
pub struct Setting {
    turnpike: PathBuf,
    folder: PathBuf,
    key: String,
    http: u16,
    /// The upstream's gRPC, and a collector of traces that throws them away.
    pub grpc: u16,
}

impl Setting {
    fn new(turnpike: &Path, folder: &Path, http: u16, grpc: u16) -> anyhow::Result<Self> {
        let made = Command::new(turnpike)
            .args(["key", "new", "--subject", "bench", "--file"])
            .arg(folder.join("keys.yaml"))
            .output()
            .with_context(|| format!("{} can't start", turnpike.display()))?;
        ensure!(made.status.success(), "turnpike key new: {}", String::from_utf8_lossy(&made.stderr));
        let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        // ECDSA on P-256: what certificates on the web have.
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (certificate, private_key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        fs::write(folder.join("both.pem"), format!("{certificate}{private_key}"))?;
        fs::write(folder.join("certificate.pem"), certificate)?;
        fs::write(folder.join("key.pem"), private_key)?;
        fs::write(folder.join("shop.binpb"), proto::DESCRIPTORS)?;
        Ok(Self { turnpike: turnpike.to_owned(), folder: folder.to_owned(), key, http, grpc })
    }

    /// A gateway with a configuration, and variables of its environment.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub fn gateway(
        &self,
        name: &'static str,
        config: &str,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Contestant> {
        let ops = format!("127.0.0.1:{}", free_port()?);
        let secret = self.folder.join("root.secret").display().to_string();
        let after = ["--cores", "1", "--ops", &ops, "--root-secret", &secret];
        self.start(name, &self.turnpike, config, &["gateway", "--config"], &after, environment)
    }

    /// `before` and `after` are what stands on the command line around the configuration's path.
    fn start(
        &self,
        name: &'static str,
        program: &Path,
        config: &str,
        before: &[&str],
        after: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Contestant> {
        let (http, https) = (free_port()?, free_port()?);
        let file = |name: &str| self.folder.join(name).display().to_string();
        let text = config
            .replace("OWN_HTTPS", &https.to_string())
            .replace("OWN_HTTP", &http.to_string())
            .replace("HTTP_PORT", &self.http.to_string())
            .replace("GRPC_PORT", &self.grpc.to_string())
            .replace("ADMIN_PORT", &free_port()?.to_string())
            .replace("API_KEY", &self.key)
            .replace("CERTIFICATE_AND_KEY", &file("both.pem"))
            .replace("CERTIFICATE", &file("certificate.pem"))
            .replace("PRIVATE_KEY", &file("key.pem"))
            .replace("KEYS_FILE", &file("keys.yaml"))
            .replace("DESCRIPTORS", &file("shop.binpb"))
            .replace("FOLDER", &self.folder.display().to_string());
        // Envoy goes by the ending; the others don't mind.
        let path = self.folder.join(format!("{name}.yaml"));
        fs::write(&path, text)?;
        let path = path.display().to_string();
        let mut arguments = before.to_vec();
        arguments.push(&path);
        arguments.extend_from_slice(after);
        let log = self.folder.join(format!("{name}.log"));
        let process = Process::start_with(0, program, &arguments, &log, environment)?;
        for port in [http, https] {
            listening(port, name).with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        }
        Ok(Contestant { name, http, https, process })
    }
}
