//! What goes along when a service calls another: who asks, until when, and within which trace.

use std::time::{Duration, Instant};

use principal::Signer;
use tonic::{Request, metadata::MetadataValue};

use crate::caller::deadline;

/// How long a call may take that no caller waits for.
const OWN_TIMEOUT: Duration = Duration::from_secs(15);

/// Metadata for calls to other services. The trace is that of the span entered when it is applied.
#[derive(Clone)]
pub struct Forward {
    identity: Identity,
    deadline: Instant,
}

#[derive(Clone)]
enum Identity {
    Anonymous,
    /// The caller's own token, which has been verified.
    Caller(MetadataValue<tonic::metadata::Ascii>),
    /// Signed anew for each call: a token lives for a minute.
    Own(Signer),
}

impl Forward {
    /// On behalf of the caller: its principal and its deadline.
    pub fn from<T>(request: &Request<T>) -> Self {
        let identity = match request.metadata().get(principal::METADATA) {
            Some(token) => Identity::Caller(token.clone()),
            None => Identity::Anonymous,
        };
        Self { identity, deadline: deadline(request).unwrap_or_else(|| Instant::now() + OWN_TIMEOUT) }
    }

    /// As the service itself, within 15 s.
    pub fn own(signer: &Signer) -> Self {
        Self { identity: Identity::Own(signer.clone()), deadline: Instant::now() + OWN_TIMEOUT }
    }

    /// With another deadline, if that is earlier.
    #[must_use]
    pub fn until(mut self, deadline: Instant) -> Self {
        self.deadline = self.deadline.min(deadline);
        self
    }

    /// A request to send.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.apply(&mut request);
        request
    }

    /// Sets `turnpike-principal`, `traceparent`, `tracestate` and `grpc-timeout`.
    pub fn apply<T>(&self, request: &mut Request<T>) {
        let token = match &self.identity {
            Identity::Anonymous => None,
            Identity::Caller(token) => Some(token.clone()),
            Identity::Own(signer) => MetadataValue::try_from(signer.sign_own()).ok(),
        };
        if let Some(token) = token {
            request.metadata_mut().insert(principal::METADATA, token);
        }
        if let Some(here) = telemetry::current() {
            let metadata = std::mem::take(request.metadata_mut());
            let mut headers = metadata.into_headers();
            telemetry::inject(&here, &mut headers);
            *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        }
        request.set_timeout(self.deadline.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Deadline;
    use principal::RootSecret;

    #[test]
    fn the_caller_and_its_deadline_go_along() {
        let mut incoming = Request::new(());
        incoming.metadata_mut().insert(principal::METADATA, MetadataValue::from_static("token"));
        incoming.extensions_mut().insert(Deadline(Instant::now() + Duration::from_secs(2)));
        let outgoing = Forward::from(&incoming).request(());
        assert_eq!(outgoing.metadata().get(principal::METADATA).unwrap(), "token");
        let timeout = outgoing.metadata().get("grpc-timeout").unwrap().to_str().unwrap();
        let micros: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
        assert!((1_000_000..=2_000_000).contains(&micros), "{timeout}");
    }

    #[test]
    fn an_anonymous_caller_stays_anonymous_and_a_service_alone_is_itself() {
        let anonymous = Forward::from(&Request::new(())).request(());
        assert!(anonymous.metadata().get(principal::METADATA).is_none());
        let signer = Signer::new("/services/order", &RootSecret::generate());
        let own = Forward::own(&signer).request(());
        assert!(own.metadata().get(principal::METADATA).is_some());
        assert!(own.metadata().get("grpc-timeout").is_some());
    }
}
