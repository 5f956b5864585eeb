//! A client span for each try of a request whose trace is recorded (OpenTelemetry's conventions for HTTP and RPC
//! clients). The service is told the try as its parent, so that a trace shows which of several tries it answered.

use http::{Method, Request, Response};
use tracing::{Span, field::Empty};

use crate::{Body, Config, Protocol, endpoint, error::Failure, grpc};

/// A try under way. Costs a look at the entered span where nothing is recorded.
pub(crate) struct Try(Option<Span>);

impl Try {
    /// Begins a try; `retries` came before it.
    pub fn begin(
        config: &Config,
        endpoint: &endpoint::Shared,
        request: Option<&mut Request<Body>>,
        retries: u32,
    ) -> Self {
        let Some(request) = request.filter(|_| telemetry::is_recording()) else { return Self(None) };
        let span = span(config, endpoint, request);
        if retries > 0 {
            span.record("http.request.resend_count", retries);
        }
        if let Some(here) = telemetry::of_span(&span) {
            telemetry::inject(&here, request.headers_mut());
        }
        Self(Some(span))
    }

    /// The answer's head is there, or why there is none.
    pub fn answered(self, answer: &Result<Response<Body>, Failure>) {
        let Some(span) = self.0 else { return };
        let failed = |kind: &str| {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", kind);
        };
        match answer {
            Err(failure) => {
                span.record("otel.status_description", &*failure.detail);
                failed(failure.cause.label());
            }
            Ok(response) => {
                let status = response.status();
                span.record("http.response.status_code", status.as_u16());
                // What ends an answer that has a body is in its trailers, which are still to come: the service's own
                // span has it.
                match response.headers().get(grpc::STATUS).and_then(|code| code.to_str().ok()) {
                    Some(code) if code != "0" => {
                        let name = grpc::code_name(code);
                        span.record("rpc.response.status_code", name);
                        failed(name);
                    }
                    Some(_) => _ = span.record("rpc.response.status_code", "OK"),
                    // To a client, what it was refused is an error as much as what broke.
                    None if status.is_client_error() || status.is_server_error() => failed(status.as_str()),
                    None => {}
                }
            }
        }
    }
}

/// A method's name; those that somebody made up have one together.
fn name(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::HEAD
        | Method::OPTIONS
        | Method::TRACE => method.as_str(),
        _ => "_OTHER",
    }
}

fn span(config: &Config, endpoint: &endpoint::Shared, request: &Request<Body>) -> Span {
    let (path, method) = (request.uri().path(), name(request.method()));
    let (host, port) = (endpoint.authority.host(), endpoint.authority.port_u16());
    if config.protocol == Protocol::Grpc {
        let method = path.trim_start_matches('/');
        return tracing::info_span!(
            "call",
            otel.name = method,
            otel.kind = "client",
            otel.status_code = Empty,
            otel.status_description = Empty,
            rpc.system.name = "grpc",
            rpc.method = method,
            rpc.response.status_code = Empty,
            http.request.resend_count = Empty,
            http.response.status_code = Empty,
            server.address = host,
            server.port = port,
            turnpike.upstream = config.name,
            error.type = Empty,
        );
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    tracing::info_span!(
        "call",
        // A path would make as many names as there are things to ask for.
        otel.name = method,
        otel.kind = "client",
        otel.status_code = Empty,
        otel.status_description = Empty,
        http.request.method = method,
        http.request.resend_count = Empty,
        http.response.status_code = Empty,
        // Without the query, which may hold secrets, and the tokens of a path.
        url.full = %format_args!("{scheme}://{}{}", endpoint.authority, telemetry::path(path)),
        server.address = host,
        server.port = port,
        turnpike.upstream = config.name,
        error.type = Empty,
    )
}
