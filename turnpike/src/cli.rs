//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use gateway::action::duration;

/// An API gateway and an event bus, with a shop behind it to try them on. Without a command: `up`.
#[derive(Parser)]
#[command(version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The command line; without an argument it is `turnpike up`.
    pub fn read() -> Self {
        let mut arguments: Vec<_> = std::env::args_os().collect();
        if arguments.len() < 2 {
            arguments.push("up".into());
        }
        Self::parse_from(arguments)
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Every role in one process, on embedded databases, with demo data.
    Up(Up),
    /// The gateway as its own process.
    Gateway(Gateway),
    /// The product service as its own process.
    Product(Lone),
    /// The review service as its own process.
    Review(Lone),
    /// The customer service as its own process.
    Customer(Lone),
    /// The cart service as its own process.
    Cart(Lone),
    /// The order service as its own process.
    Order(Lone),
    /// The invoice service as its own process.
    Invoice(Lone),
    /// The logger as its own process.
    Logger(Lone),
    /// The notifier as its own process.
    Notifier(Lone),
    /// The broker as its own process.
    Broker(Lone),
    /// The dashboard as its own process.
    Dashboard(Lone),
    /// The MQTT dispatcher as its own process: between an MQTT broker and the bus.
    Mqtt(Lone),
    /// Validate a configuration: every error with its path; exit code 1 if there is one.
    Check(Check),
    /// What a gateway would do with a request: which route takes it and which don't, and why; policies; upstreams.
    Explain(Explain),
    /// The JSON Schema of a gateway's configuration, for editors.
    Schema,
    /// The OpenAPI 3.1 document of a gateway's configuration.
    Openapi(OpenApi),
    /// API keys: make, list, rotate, revoke.
    #[command(subcommand)]
    Key(Key),
    /// Revokes a session, a token, or all that a subject was given, on every gateway within a second.
    Revoke(Revoke),
    /// Simulated shoppers that browse, fill carts and order.
    Traffic(Traffic),
    /// What gateways were asked for and how it went: slowest routes, top clients, errors over time.
    Analytics(crate::analytics::Analytics),
    /// The bus: publish, queues, groups, tail, dead letters, clients.
    Bus(crate::bus::Bus),
}

#[derive(Args)]
pub struct Up {
    /// The gateway's port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8080, env = "TURNPIKE__PORT")]
    pub port: u16,
    /// The ops listener's port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 9900, env = "TURNPIKE__OPS_PORT")]
    pub ops_port: u16,
    /// Where databases, keys and demo.env are kept.
    #[arg(long, default_value = "./turnpike-data", env = "TURNPIKE__DATA_DIR")]
    pub data_dir: PathBuf,
    /// Keep everything in a temporary folder that is removed at the end.
    #[arg(long)]
    pub ephemeral: bool,
    /// `postgres://user@host:port/database` instead of a SQLite file for each service; a schema each.
    #[arg(long, value_name = "URL", env = "TURNPIKE__DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// `redis://host:port` (or `rediss://`, `redis+sentinel://`, `redis+cluster://`) instead of the embedded bus; sessions
    /// and limits are shared there, too.
    #[arg(long, value_name = "URL", env = "TURNPIKE__REDIS", hide_env_values = true)]
    pub redis: Option<String>,
    /// The gateway's configuration instead of the built-in one of the shop; read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub gateway_config: Option<PathBuf>,
    /// Settings of the system instead of the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Cores of the gateway's data plane; default: all.
    #[arg(long)]
    pub cores: Option<usize>,
}

#[derive(Args)]
pub struct Gateway {
    /// The gateway's configuration instead of the built-in one of the shop; read again when it changes and on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The ops listener.
    #[arg(long, default_value = "127.0.0.1:9900", env = "TURNPIKE__OPS")]
    pub ops: std::net::SocketAddr,
    /// A file with the root secret that signing keys derive from: the same for every process of the system. Made if missing.
    #[arg(long, value_name = "FILE", default_value = "./turnpike-data/root.secret", env = "TURNPIKE__ROOT_SECRET")]
    pub root_secret: PathBuf,
    /// Cores of the data plane; default: all.
    #[arg(long)]
    pub cores: Option<usize>,
    /// How long it serves on after SIGTERM while /readyz already says 503, so that nobody sends more.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse, env = "TURNPIKE__SERVE_ON")]
    pub serve_on: Duration,
    /// How long open requests may then take to finish.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse, env = "TURNPIKE__DRAIN")]
    pub drain: Duration,
    /// The OTLP/gRPC endpoint that gets the traces.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp: Option<String>,
    /// The share of new traces that is recorded, 0 to 1.
    #[arg(long, default_value_t = 0.01, env = "TURNPIKE__TELEMETRY__SAMPLE_RATIO")]
    pub sample_ratio: f64,
    /// Lines at or above this level are written.
    #[arg(long, default_value = "info", env = "TURNPIKE__TELEMETRY__LOG")]
    pub log: String,
}

#[derive(Args)]
pub struct Lone {
    /// The role's settings instead of the defaults, which deploy/roles holds with comments.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args)]
pub struct Check {
    /// A gateway's configuration, the settings of `up`, or those of a role.
    pub file: PathBuf,
    /// Notes are faults, too: exit code 1.
    #[arg(long)]
    pub strict: bool,
    /// How it is said.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Args)]
pub struct Explain {
    /// The path with its query, or a whole URL.
    pub target: String,
    #[arg(short = 'X', long, default_value = "GET")]
    pub method: String,
    /// `Name: value`; repeat it for more.
    #[arg(short = 'H', long)]
    pub header: Vec<String>,
    /// Who calls, for limits and lists of addresses; default 127.0.0.1.
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<std::net::IpAddr>,
    /// A gateway's configuration, instead of a running gateway.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The ops listener of a running gateway; default: DEMO_OPS_URL of the data folder's demo.env.
    #[arg(long, env = "DEMO_OPS_URL")]
    pub url: Option<String>,
    /// Where demo.env is.
    #[arg(long, default_value = "./turnpike-data")]
    pub data_dir: PathBuf,
    /// How it is said.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Args)]
pub struct OpenApi {
    /// A gateway's configuration.
    pub file: PathBuf,
    /// How it is written.
    #[arg(short, long, value_enum, default_value_t = Written::Json)]
    pub output: Written,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Written {
    Json,
    Yaml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Subcommand)]
pub enum Key {
    /// Makes a key, adds its hash to the file and prints the key, once.
    New {
        /// The key file of the gateway.
        #[arg(long, value_name = "FILE", default_value = "./turnpike-data/keys.yaml")]
        file: PathBuf,
        /// Whose key it is: `partners/acme`.
        #[arg(long)]
        subject: String,
        /// What it may do; repeat it or separate by commas.
        #[arg(long, value_delimiter = ',')]
        scope: Vec<String>,
        /// Days until it expires; default: never.
        #[arg(long)]
        days: Option<u32>,
    },
    /// Lists the keys; the keys themselves are not stored.
    List {
        #[arg(long, value_name = "FILE", default_value = "./turnpike-data/keys.yaml")]
        file: PathBuf,
    },
    /// Makes a key in place of another, which stays good for a while; prints the new one, once.
    Rotate {
        #[arg(long, value_name = "FILE", default_value = "./turnpike-data/keys.yaml")]
        file: PathBuf,
        /// How long the other one is good from now on.
        #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = crate::bus::duration)]
        overlap: Duration,
        id: String,
    },
    /// Revokes a key by its id: in the file, and by an event on every gateway within a second.
    Revoke {
        #[arg(long, value_name = "FILE", default_value = "./turnpike-data/keys.yaml")]
        file: PathBuf,
        /// Only in the file: gateways see it when they read that.
        #[arg(long)]
        file_only: bool,
        #[command(flatten)]
        announce: Announce,
        id: String,
    },
}

/// How gateways are told.
#[derive(Args)]
pub struct Announce {
    #[command(flatten)]
    pub way: crate::bus::Way,
    /// The queue that the gateways follow: their `authentication.revocation.queue`.
    #[arg(long, value_name = "QUEUE", default_value = "AUTH", value_parser = events::Name::new)]
    pub queue: events::Name,
}

#[derive(Args)]
pub struct Revoke {
    #[command(flatten)]
    pub announce: Announce,
    #[command(subcommand)]
    pub what: Revoked,
}

#[derive(Subcommand)]
pub enum Revoked {
    /// A session, by its id as `GET /sessions` on the ops listener lists it.
    Session {
        // One in 64 begins with a hyphen.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// A token of an issuer, by its id (`jti`).
    Token {
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Only this issuer's; default: whoever's.
        #[arg(long)]
        issuer: Option<String>,
    },
    /// Every key, token and session of a subject that was given out until now.
    Subject {
        subject: String,
        /// Only what was given out before this moment (RFC 3339); default: now.
        #[arg(long, value_name = "TIME")]
        before: Option<String>,
    },
}

#[derive(Args)]
pub struct Traffic {
    /// The gateway; default: DEMO_URL of the data folder's demo.env.
    #[arg(long, env = "DEMO_URL")]
    pub url: Option<String>,
    /// Requests a second over all shoppers, 1 to 10000.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// How long; default: until Ctrl-C.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Where demo.env is.
    #[arg(long, default_value = "./turnpike-data")]
    pub data_dir: PathBuf,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text.parse().map_err(|_| "a whole number of seconds".to_owned())?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_may_begin_with_a_hyphen() {
        for what in [&["session", "-Wcd"][..], &["token", "--x", "--issuer", "https://id.test"]] {
            let read = Cli::try_parse_from(["turnpike", "revoke"].iter().chain(what)).map(|cli| cli.command);
            match read {
                Ok(Command::Revoke(Revoke { what: Revoked::Session { id }, .. })) => assert_eq!(id, "-Wcd"),
                Ok(Command::Revoke(Revoke { what: Revoked::Token { id, issuer }, .. })) => {
                    assert_eq!((id.as_str(), issuer.as_deref()), ("--x", Some("https://id.test")));
                }
                Ok(_) => panic!("another command"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
