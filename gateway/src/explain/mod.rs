//! What the gateway would do with a request, and why: which route takes it and which others don't, what it must be and
//! have, whom it would reach. The path is brought into its form and the route found by what requests meet, too; but
//! nothing is counted and nobody is asked.

mod policies;
mod text;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, request::Parts};
use serde::{Deserialize, Serialize};

use crate::{
    action::Action,
    error::Error,
    layers::route_match,
    problem,
    route::{Candidate, Match, Route},
    snapshot::{Running, Snapshot},
};

/// The most routes that are told of beside the one that is taken: one path may have ten thousand hosts.
const OTHERS: usize = 50;

/// A request that nobody sent.
#[derive(Clone, Debug)]
pub struct Probe {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    client: IpAddr,
}

/// What would become of a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    pub method: String,
    pub host: Option<String>,
    /// As it is matched and passed on.
    pub path: String,
    /// Why no route takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Taken>,
    /// Routes whose path fits, too, in the order they are asked.
    pub others: Vec<Other>,
    /// How many more of them there are.
    pub left_out: usize,
}

/// An answer that the gateway makes itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    pub status: u16,
    pub detail: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

/// The route that takes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Taken {
    pub id: String,
    /// Its path template.
    pub path: String,
    pub action: String,
    /// Derived from an annotation.
    pub derived: bool,
    pub variables: BTreeMap<String, String>,
    /// What stands between the request and the action, in the order it is asked.
    pub policies: Vec<Policy>,
    /// Of an aggregate, in the order in which they are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    pub upstreams: Vec<Asked>,
}

/// A part of an aggregate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    pub part: String,
    /// `package.Service/Method`, or a method of HTTP and a path.
    pub asks: String,
    pub upstream: String,
    /// Parts that have to have answered.
    pub after: Vec<String>,
    pub how: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Policy {
    pub policy: String,
    pub says: String,
}

/// A route that doesn't take it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Other {
    pub id: String,
    pub path: String,
    pub why: String,
}

/// An upstream that could get it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    pub upstream: String,
    /// Of the requests, 0 to 1.
    pub share: f64,
    /// It gets copies.
    pub mirrors: bool,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: String,
    pub healthy: bool,
    pub reason: String,
    pub in_flight: usize,
}

impl Probe {
    /// `target` is a path with its query, or a whole URL.
    ///
    /// # Errors
    /// A sentence on what can be in no request.
    pub fn new(
        method: &str,
        target: &str,
        headers: &[(String, String)],
        client: Option<IpAddr>,
    ) -> Result<Self, String> {
        let mut fields = HeaderMap::new();
        for (name, value) in headers {
            let name =
                HeaderName::try_from(name.trim()).map_err(|_| format!("`{name}` is not the name of a header"))?;
            let value =
                HeaderValue::try_from(value.trim()).map_err(|_| format!("`{value}` is not a header's value"))?;
            fields.append(name, value);
        }
        Ok(Self {
            method: method.parse().map_err(|_| format!("`{method}` is not a method"))?,
            uri: target.parse().map_err(|error| format!("`{target}` is neither a path nor a URL: {error}"))?,
            headers: fields,
            client: client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        })
    }

    fn parts(&self) -> Parts {
        let mut request = http::Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        // Nobody has to name a host here.
        *request.version_mut() = Version::HTTP_10;
        request.into_parts().0
    }
}

/// Explains what would become of a request.
pub(crate) fn explain(snapshot: &Snapshot, probe: &Probe) -> Explanation {
    let mut parts = probe.parts();
    let prepared = route_match::prepare(&mut parts);
    let mut explanation = Explanation {
        method: parts.method.to_string(),
        host: crate::route::host(&parts).map(|host| host.into_owned()),
        path: parts.uri.path().to_owned(),
        refused: None,
        route: None,
        others: Vec::new(),
        left_out: 0,
    };
    if let Err(error) = prepared {
        explanation.refused = Some(Refused::of(&error, Vec::new()));
        return explanation;
    }
    let path = parts.uri.path();
    let candidates = snapshot.table.candidates(path, &parts);
    match snapshot.table.find(path, &parts) {
        Match::Found { value, template } => {
            let variables = template.variables(path).unwrap_or_default();
            explanation.route = Some(Taken {
                id: value.id.to_string(),
                path: template.text.clone(),
                action: value.kind.to_owned(),
                derived: value.derived,
                variables: variables.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
                policies: policies::of(snapshot, value, probe),
                parts: parts_of(snapshot, value),
                upstreams: upstreams(snapshot, value),
            });
        }
        Match::MethodNotAllowed(allowed) if parts.method == Method::OPTIONS => {
            let allow = allowed.iter().map(ToString::to_string).collect();
            let detail = "the gateway answers OPTIONS itself".to_owned();
            explanation.refused = Some(Refused { status: route_match::OPTIONS.as_u16(), detail, allow });
        }
        Match::MethodNotAllowed(allowed) => {
            let error = route_match::not_allowed(&parts.method, &allowed);
            explanation.refused = Some(Refused::of(&error, allowed.iter().map(ToString::to_string).collect()));
        }
        Match::NotFound => {
            explanation.refused = Some(Refused::of(&route_match::not_found(&parts.headers), Vec::new()));
        }
    }
    let taken = candidates.iter().position(|candidate| candidate.lacking.is_empty());
    let others = candidates.iter().enumerate().filter(|(at, _)| Some(*at) != taken);
    explanation.left_out = others.clone().count().saturating_sub(OTHERS);
    explanation.others = others
        .take(OTHERS)
        .map(|(_, candidate)| Other {
            id: candidate.value.id.to_string(),
            path: candidate.template.text.clone(),
            why: why_not(candidate, taken.map(|taken| &candidates[taken])),
        })
        .collect();
    explanation
}

/// Why a route doesn't take the request, where `taken` does.
fn why_not(candidate: &Candidate<'_, Route>, taken: Option<&Candidate<'_, Route>>) -> String {
    match taken {
        Some(taken) if candidate.lacking.is_empty() => {
            if taken.template.verb != candidate.template.verb {
                "a template with a verb goes first".to_owned()
            } else if taken.template.segments != candidate.template.segments {
                "a more exact template goes first".to_owned()
            } else {
                taken.conditions.rank().why_before(candidate.conditions.rank()).to_owned()
            }
        }
        _ => candidate.lacking.join("; "),
    }
}

fn parts_of(snapshot: &Snapshot, route: &Route) -> Vec<Part> {
    let Action::Aggregate(aggregate) = &route.action else { return Vec::new() };
    let parts = aggregate.describe().into_iter().map(|part| Part {
        part: part.name.to_owned(),
        asks: part.asks,
        upstream: snapshot.upstreams.get(part.upstream.0).map(|asked| asked.config.name.clone()).unwrap_or_default(),
        after: part.after.into_iter().map(str::to_owned).collect(),
        how: part.how,
    });
    parts.collect()
}

fn upstreams(snapshot: &Snapshot, route: &Route) -> Vec<Asked> {
    let endpoints = |running: &Arc<Running>| {
        let endpoints = running.upstream.endpoints().into_iter().map(|endpoint| Endpoint {
            address: endpoint.address,
            healthy: endpoint.healthy,
            reason: endpoint.reason,
            in_flight: endpoint.in_flight,
        });
        endpoints.collect()
    };
    let asked = |asks: crate::action::Asks| {
        let running = snapshot.upstreams.get(asks.upstream.0)?;
        let upstream = running.config.name.clone();
        Some(Asked { upstream, share: asks.share, mirrors: asks.mirrors, endpoints: endpoints(running) })
    };
    let mut upstreams: Vec<Asked> = Vec::new();
    for asked in route.action.asks().into_iter().filter_map(asked) {
        // Several parts of an aggregate may ask the same.
        if !upstreams.iter().any(|other| other.upstream == asked.upstream && other.mirrors == asked.mirrors) {
            upstreams.push(asked);
        }
    }
    upstreams
}

impl Refused {
    fn of(error: &Error, allow: Vec<String>) -> Self {
        Self { status: problem::status(error.kind).http.as_u16(), detail: error.detail.to_string(), allow }
    }
}
