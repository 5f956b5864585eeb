//! The section `upstreams:`.

use std::{fs, path::Path, sync::Arc, time::Duration};

use registry::Registry;
use tokio_util::sync::CancellationToken;
use upstream::{Discovery, Upstream};

use super::Compiler;
use crate::{
    config::{self, did_you_mean},
    descriptors::{self, Descriptors},
    snapshot::{Reflected, Running},
    worker::UpstreamId,
};

impl<'a> Compiler<'a> {
    pub(super) fn upstreams(&mut self) {
        for (name, section) in &self.config.upstreams {
            let path = format!("upstreams.{name}");
            if let Some(health) = &section.health
                && health.timeout > health.interval
            {
                self.fault(format!("{path}.health.timeout"), "must not be longer than `interval`");
            }
            self.description(name, section);
            let descriptors = self.descriptors(&path, name, section);
            // One that failed still takes its name, so that its routes don't report the same mistake again.
            self.directory.add_upstream(name, UpstreamId(self.upstreams.len()), descriptors);
            match self.upstream(name, section) {
                Ok(running) => self.upstreams.push(running),
                Err(error) => self.fault(format!("{path}.{}", error.path), error.message),
            }
        }
        for route in &self.config.routes {
            if let (Some(service), Some(upstream)) = (&route.grpc, route.served_by()) {
                self.directory.add_service(service, upstream);
            }
        }
    }

    /// The id of an upstream that is named at `path`.
    pub(super) fn upstream_id(&mut self, path: &str, name: &str) -> Option<UpstreamId> {
        let id = self.directory.upstream(name);
        if id.is_none() {
            let near = did_you_mean(name, self.config.upstreams.keys().map(String::as_str));
            self.fault(path, format!("no upstream \"{name}\"{near}"));
        }
        id
    }

    fn upstream(&self, name: &str, section: &config::Upstream) -> Result<Arc<Running>, upstream::ConfigError> {
        let mut config = section.to_upstream(name);
        config.name_servers.clone_from(&self.config.dns.servers);
        config.tls = section.tls.as_ref().map(|tls| self.upstream_tls(tls)).transpose()?;
        let previous = self.sources.previous.map_or(&[][..], |previous| &previous.upstreams);
        if let Some(same) = previous.iter().find(|running| running.config == config) {
            return Ok(Arc::clone(same));
        }
        // What is no address is reported where it stands.
        let address = self.config.shared.redis.address(self.sources.folder).ok().flatten();
        let registry = address.and_then(|address| Registry::new(address).ok());
        let upstream = Upstream::found_by(config.clone(), &Discovery { registry, ..Discovery::default() })?;
        Ok(Arc::new(Running { config, upstream, stop: CancellationToken::new() }))
    }

    /// With what its files hold now: where that changes, the upstream does.
    fn upstream_tls(&self, section: &config::UpstreamTls) -> Result<upstream::Tls, upstream::ConfigError> {
        let fault = |place: &str, message: String| upstream::ConfigError { path: format!("tls.{place}"), message };
        let read = |place: &str, file: &Path| {
            let file = self.path(file);
            fs::read(&file).map_err(|error| fault(place, format!("{}: {error}", file.display())))
        };
        let identity = match (&section.certificate, &section.key) {
            (Some(certificate), Some(key)) => {
                Some(upstream::Identity { certificate: read("certificate", certificate)?, key: read("key", key)? })
            }
            (Some(_), None) => return Err(fault("key", "is missing beside `certificate`".to_owned())),
            (None, Some(_)) => return Err(fault("certificate", "is missing beside `key`".to_owned())),
            (None, None) => None,
        };
        Ok(upstream::Tls {
            authorities: section.authorities().map(|file| read("ca", file)).transpose()?,
            server_name: section.server_name.clone(),
            identity,
        })
    }

    fn descriptors(&mut self, path: &str, name: &str, section: &'a config::Upstream) -> Option<Descriptors> {
        if section.is_reflected() {
            return self.reflected(path, name, section);
        }
        let strays = [
            ("descriptors_refresh", section.descriptors_refresh.is_some()),
            ("descriptors_cache", section.descriptors_cache.is_some()),
        ];
        for (key, _) in strays.into_iter().filter(|(_, stray)| *stray) {
            self.fault(format!("{path}.{key}"), "belongs to `descriptors: reflection`");
        }
        let source = section.descriptors.as_deref()?;
        if let Some(set) = self.sets.get(source) {
            return set.clone();
        }
        let set = self.read_set(source).map_err(|message| self.fault(format!("{path}.descriptors"), message)).ok();
        self.sets.insert(source, set.clone());
        set
    }

    /// What the service itself has said, if it has.
    fn reflected(&mut self, path: &str, name: &str, section: &config::Upstream) -> Option<Descriptors> {
        if !section.is_grpc() {
            self.fault(format!("{path}.descriptors"), "only a service of gRPC can be asked: protocol: grpc");
        }
        let refresh = section.refresh();
        if refresh < Duration::from_secs(1) {
            self.fault(format!("{path}.descriptors_refresh"), "must be at least 1s");
        }
        let live = self.sources.live;
        let cache = section.descriptors_cache.as_ref().map(|file| self.path(file));
        if let (None, Some(file)) = (live.get(name), &cache)
            && let Err(message) = live.recall(name, file)
        {
            // It will be written anew once the service is there.
            self.notes.push(format!("{path}.descriptors_cache: {message}"));
        }
        let (upstream, id) = (name.to_owned(), UpstreamId(self.upstreams.len()));
        self.reflected.push(Reflected { upstream, id, refresh, cache });
        live.get(name)
    }

    /// Whether what an upstream serves isn't known yet; then it is noted where that matters.
    pub(super) fn awaits(&mut self, path: &str, upstream: &str) -> bool {
        let is_reflected = self.reflected.iter().any(|reflected| reflected.upstream == upstream);
        let awaits = is_reflected && self.directory.descriptors(upstream).is_none();
        if awaits {
            self.await_service(path, upstream);
        }
        awaits
    }

    pub(super) fn await_service(&mut self, path: &str, upstream: &str) {
        self.notes.push(format!("{path}: not served before `{upstream}` tells what it is"));
        self.awaited.push((path.to_owned(), upstream.to_owned()));
    }

    fn read_set(&mut self, source: &str) -> Result<Descriptors, String> {
        if let Some(encoded) = self.sources.descriptors.get(source) {
            return descriptors::decode(encoded);
        }
        let file = self.path(Path::new(source));
        self.read.push(file.clone());
        let encoded = fs::read(&file).map_err(|error| {
            let near = did_you_mean(source, self.sources.descriptors.keys().map(String::as_str));
            format!("neither a built-in set nor a file: {}: {error}{near}", file.display())
        })?;
        descriptors::decode(&encoded)
    }
}
