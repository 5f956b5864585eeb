//! Names by DNS, as this machine is set up: its hosts file first, then the name servers and search domains of
//! `/etc/resolv.conf`. Both files are read again when they change. What the system's own resolver would look into beside
//! that (mDNS, NIS, what else `nsswitch.conf` names) is left out.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::{BoxFuture, FutureExt as _};
use hickory_resolver::{
    Hosts, TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RData, RecordType},
    },
    system_conf::read_system_conf,
};
use parking_lot::Mutex;

use super::resolve::{Answer, Resolve, Target};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// How long the hosts file's answers are taken to hold: it doesn't say.
const HOSTS_HOLD: Duration = Duration::from_secs(5);
/// How long one server may take to answer before it, or the next, is asked again.
const TRY: Duration = Duration::from_secs(2);

/// Asks name servers.
#[derive(Default)]
pub struct Dns {
    /// In place of the system's; empty: those.
    servers: Vec<SocketAddr>,
    set_up: Mutex<Option<Arc<SetUp>>>,
}

/// What was read from the machine's files.
struct SetUp {
    /// When they were changed.
    stamps: Stamps,
    hosts: Hosts,
    resolver: TokioResolver,
}

type Stamps = [Option<SystemTime>; 2];

impl Dns {
    /// Asks these servers, by UDP and TCP; without any, those of the system.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, set_up: Mutex::default() }
    }

    fn set_up(&self) -> io::Result<Arc<SetUp>> {
        let stamps = [RESOLV_CONF, HOSTS].map(|file| fs::metadata(file).and_then(|file| file.modified()).ok());
        let mut current = self.set_up.lock();
        if let Some(same) = current.as_ref().filter(|set_up| set_up.stamps == stamps) {
            return Ok(Arc::clone(same));
        }
        let (config, options) = self.settings();
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(io::Error::other)?;
        let hosts = Hosts::from_system().unwrap_or_default();
        Ok(Arc::clone(current.insert(Arc::new(SetUp { stamps, hosts, resolver }))))
    }

    fn settings(&self) -> (ResolverConfig, ResolverOpts) {
        let (mut config, mut options) = read_system_conf().unwrap_or_default();
        if !self.servers.is_empty() {
            config.name_servers = self.servers.iter().map(|server| name_server(*server)).collect();
        } else if config.name_servers.is_empty() {
            // As resolv.conf(5) says.
            config.name_servers = vec![NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        }
        options.timeout = options.timeout.min(TRY);
        options.use_hosts_file = ResolveHosts::Never;
        // Asked again only when an answer holds no longer.
        options.cache_size = 0;
        // An alias may hold for less long than what it stands for.
        options.preserve_intermediates = true;
        (config, options)
    }
}

impl SetUp {
    /// What the hosts file says, which goes first and alone, as with the system's resolver.
    fn in_hosts(&self, host: &Name) -> Vec<IpAddr> {
        let of = |kind| self.hosts.lookup_static_host(&Query::query(host.clone(), kind));
        [RecordType::A, RecordType::AAAA].into_iter().filter_map(of).flat_map(|lookup| ips(&lookup)).collect()
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Option<Lookup>, NetError> {
        match self.resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => Ok(Some(lookup)),
            Err(error) if error.is_no_records_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Resolve for Dns {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Answer<IpAddr>>> {
        async move {
            let (set_up, name) = (self.set_up()?, name(host)?);
            let known = set_up.in_hosts(&name);
            if !known.is_empty() {
                return Ok(Answer::new(known, HOSTS_HOLD));
            }
            set_up.resolver.clear_cache();
            let (v4, v6) = tokio::join!(set_up.ask(&name, RecordType::A), set_up.ask(&name, RecordType::AAAA));
            let (one, other, incomplete) = match (v4, v6) {
                (Ok(v4), Ok(v6)) => (v4, v6, None),
                (Ok(Some(one)), Err(error)) | (Err(error), Ok(Some(one))) => (Some(one), None, Some(error.to_string())),
                (Err(error), _) | (_, Err(error)) => return Err(io::Error::other(error)),
            };
            let lookups = [one, other].into_iter().flatten();
            let (mut found, mut hold) = (Vec::new(), Duration::MAX);
            for lookup in lookups {
                found.extend(ips(&lookup));
                hold = hold.min(holds(&lookup));
            }
            Ok(Answer { found, hold, incomplete })
        }
        .boxed()
    }

    fn targets<'a>(&'a self, service: &'a str) -> BoxFuture<'a, io::Result<Answer<Target>>> {
        async move {
            let (set_up, name) = (self.set_up()?, name(service)?);
            set_up.resolver.clear_cache();
            let Some(lookup) = set_up.ask(&name, RecordType::SRV).await.map_err(io::Error::other)? else {
                return Ok(Answer::new(Vec::new(), Duration::ZERO));
            };
            let target = |data: &RData| match data {
                // The root as a target: the service is decidedly not to be had.
                RData::SRV(srv) if !srv.target.is_root() => Some(Target {
                    host: srv.target.to_utf8(),
                    port: srv.port,
                    priority: srv.priority,
                    weight: srv.weight,
                }),
                _ => None,
            };
            let found = lookup.answers().iter().filter_map(|record| target(&record.data)).collect();
            Ok(Answer::new(found, holds(&lookup)))
        }
        .boxed()
    }
}

fn name(text: &str) -> io::Result<Name> {
    Name::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

fn ips(lookup: &Lookup) -> Vec<IpAddr> {
    lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// As long as the record does that holds for the shortest time.
fn holds(lookup: &Lookup) -> Duration {
    let at_most = lookup.valid_until().saturating_duration_since(Instant::now());
    let shortest = lookup.answers().iter().map(|record| record.ttl).min();
    shortest.map_or(at_most, |ttl| Duration::from_secs(ttl.into()).min(at_most))
}
