//! Which role a span belongs to. A process may run several roles (`turnpike up` runs all of them), and yet a trace must
//! tell them apart: the first span of each stretch of work names its role in the attribute `turnpike.role`, the spans
//! below it inherit that, and they are exported as those of a service of their own, `turnpike-<role>`, as if each role
//! ran alone.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::Context as _;
use opentelemetry::{
    Context, KeyValue, SpanId, Value,
    trace::{Span as _, TraceContextExt as _},
};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{Span, SpanData, SpanExporter as Export, SpanProcessor},
};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::resource::Service;

const ROLE: &str = "turnpike.role";
/// The most roles that are told apart; beyond, spans go out as the process's. There are far fewer.
const MAX_ROLES: usize = 32;
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Gives a span that names no role that of its parent.
#[derive(Debug, Default)]
pub(crate) struct Inherit {
    /// The roles of spans that have not ended.
    open: Mutex<HashMap<SpanId, Value>>,
}

impl SpanProcessor for Inherit {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        let Some(data) = span.exported_data() else { return };
        let own = role(&data).cloned();
        let mut open = self.open.lock();
        let inherited = || open.get(&parent.span().span_context().span_id()).cloned();
        let Some(role) = own.clone().or_else(inherited) else { return };
        if own.is_none() {
            span.set_attribute(KeyValue::new(ROLE, role.clone()));
        }
        open.insert(data.span_context.span_id(), role);
    }

    fn on_end(&self, span: SpanData) {
        self.open.lock().remove(&span.span_context.span_id());
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn role(span: &SpanData) -> Option<&Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == ROLE).map(|attribute| &attribute.value)
}

/// Sends the spans of each role as those of its service, over one connection.
#[derive(Debug)]
pub(crate) struct ByRole {
    channel: Channel,
    service: Service,
    exporters: tokio::sync::Mutex<BTreeMap<Option<String>, SpanExporter>>,
}

impl ByRole {
    /// Connects when there is something to send. Must be made inside a tokio runtime.
    pub fn new(endpoint: String, service: Service) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(endpoint)?;
        let plain = endpoint.uri().scheme_str() == Some("http");
        anyhow::ensure!(plain, "must begin with http://: run a collector beside the process to go on by TLS");
        let channel = endpoint.timeout(EXPORT_TIMEOUT).connect_timeout(EXPORT_TIMEOUT).connect_lazy();
        Ok(Self { channel, service, exporters: tokio::sync::Mutex::default() })
    }

    fn exporter(&self, role: Option<&str>) -> anyhow::Result<SpanExporter> {
        let builder = SpanExporter::builder().with_tonic().with_channel(self.channel.clone());
        let mut exporter = builder.build().context("an exporter of spans")?;
        exporter.set_resource(&self.service.resource(role));
        Ok(exporter)
    }
}

impl Export for ByRole {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut exporters = self.exporters.lock().await;
        let mut shares: BTreeMap<Option<String>, Vec<SpanData>> = BTreeMap::new();
        for span in batch {
            let mut role = role(&span).map(|role| role.as_str().into_owned());
            if !exporters.contains_key(&role) {
                if exporters.len() >= MAX_ROLES {
                    role = None;
                }
                let exporter = self.exporter(role.as_deref());
                let exporter = exporter.map_err(|error| OTelSdkError::InternalFailure(format!("{error:#}")))?;
                exporters.insert(role.clone(), exporter);
            }
            shares.entry(role).or_default().push(span);
        }
        let mut sent = Ok(());
        for (role, share) in shares {
            if let Some(exporter) = exporters.get(&role) {
                // One that fails doesn't take the others' spans along.
                sent = sent.and(exporter.export(share).await);
            }
        }
        sent
    }

    fn set_resource(&mut self, _: &Resource) {
        // Each role has its own, made when its first spans come.
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Ended(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Ended {
        fn on_start(&self, _: &mut Span, _: &Context) {}
        fn on_end(&self, span: SpanData) {
            self.0.lock().push(span);
        }
        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }
        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[test]
    fn a_span_without_a_role_has_its_parents() {
        let ended = Ended::default();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Inherit::default())
            .with_span_processor(ended.clone())
            .build();
        let tracer = provider.tracer("test");
        let within = |name: &'static str, role: Option<&'static str>, parent: &Context| {
            let role = role.map(|role| KeyValue::new(ROLE, role));
            let span = tracer.span_builder(name).with_attributes(role).start_with_context(&tracer, parent);
            parent.with_span(span)
        };
        let gateway = within("request", Some("gateway"), &Context::new());
        let client = within("call", None, &gateway);
        let service = within("rpc", Some("order"), &client);
        let transaction = within("transaction", None, &service);
        drop((transaction, service, client, gateway));
        let nobody = within("alone", None, &Context::new());
        drop(nobody);

        let spans = ended.0.lock();
        let role_of = |name: &str| {
            let span = spans.iter().find(|span| span.name == name).unwrap();
            role(span).map(|role| role.as_str().into_owned())
        };
        assert_eq!(role_of("call").as_deref(), Some("gateway"));
        assert_eq!(role_of("transaction").as_deref(), Some("order"));
        assert_eq!(role_of("alone"), None);
    }
}
