//! The section `upstreams:`.

use std::{fs, path::Path, sync::Arc};

use prost_reflect::DescriptorPool;
use tokio_util::sync::CancellationToken;
use upstream::Upstream;

use super::Compiler;
use crate::{
    config::{self, did_you_mean},
    descriptors,
    snapshot::Running,
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
            let descriptors = section.descriptors.as_deref().and_then(|source| self.pool(&path, source));
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
        config.tls = section.tls.as_ref().map(|tls| self.upstream_tls(tls)).transpose()?;
        let previous = self.sources.previous.map_or(&[][..], |previous| &previous.upstreams);
        if let Some(same) = previous.iter().find(|running| running.config == config) {
            return Ok(Arc::clone(same));
        }
        let upstream = Upstream::new(config.clone())?;
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

    fn pool(&mut self, path: &str, source: &'a str) -> Option<DescriptorPool> {
        if let Some(pool) = self.pools.get(source) {
            return pool.clone();
        }
        let pool = self.read_pool(source).map_err(|message| self.fault(format!("{path}.descriptors"), message)).ok();
        self.pools.insert(source, pool.clone());
        pool
    }

    fn read_pool(&self, source: &str) -> Result<DescriptorPool, String> {
        if let Some(encoded) = self.sources.descriptors.get(source) {
            return descriptors::decode(encoded);
        }
        let file = self.path(Path::new(source));
        let encoded = fs::read(&file).map_err(|error| {
            let near = did_you_mean(source, self.sources.descriptors.keys().map(String::as_str));
            format!("neither a built-in set nor a file: {}: {error}{near}", file.display())
        })?;
        descriptors::decode(&encoded)
    }
}
