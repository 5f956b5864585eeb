//! Who may call: the schemes there are, and what an operation asks for.

use super::node::Node;
use crate::{
    auth::{Kind, session},
    config::Authentication,
    route::{Authenticate, Policy, Scopes},
};

/// How the document calls a kind of credentials.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::ApiKey => "apiKey",
        Kind::Jwt => "bearer",
        Kind::Session => "session",
        Kind::Certificate => "certificate",
    }
}

/// The kinds that the configuration takes, in the order they are shown.
fn kinds(authentication: &Authentication) -> Vec<Kind> {
    let kinds = [
        (Kind::ApiKey, authentication.api_keys.is_some()),
        (Kind::Session, authentication.session.is_some()),
        (Kind::Jwt, !authentication.jwt.0.is_empty()),
        (Kind::Certificate, authentication.mtls.is_some()),
    ];
    kinds.into_iter().filter(|(_, is_taken)| *is_taken).map(|(kind, _)| kind).collect()
}

/// `components.securitySchemes`.
pub fn schemes(authentication: &Authentication) -> Node {
    let mut schemes = Node::object();
    for kind in kinds(authentication) {
        schemes.set(name(kind), scheme(kind, authentication));
    }
    schemes
}

fn scheme(kind: Kind, authentication: &Authentication) -> Node {
    match kind {
        Kind::ApiKey => Node::object()
            .with("type", "apiKey")
            .with("in", "header")
            .with("name", "X-Api-Key")
            .with("description", "A key that was given out to a program."),
        Kind::Jwt => {
            let issuers: Vec<_> = authentication.jwt.0.iter().map(|section| format!("`{}`", section.issuer)).collect();
            Node::object()
                .with("type", "http")
                .with("scheme", "bearer")
                .with("bearerFormat", "JWT")
                .with("description", format!("A token of {}.", issuers.join(" or ")))
        }
        Kind::Session => {
            let path = authentication.session.as_ref().map(|section| section.path.as_str()).unwrap_or_default();
            Node::object()
                .with("type", "apiKey")
                .with("in", "cookie")
                .with("name", session::COOKIE)
                .with("description", format!("A session: `POST {path}` opens one, and a browser keeps it by itself."))
        }
        Kind::Certificate => {
            Node::object().with("type", "mutualTLS").with("description", "A client certificate, shown by TLS.")
        }
    }
}

/// `security` of an operation: each of these is enough. Scopes stand with every scheme, as OpenAPI 3.1 has it for those
/// that aren't OAuth's; where one of several is enough, each stands by itself.
pub fn requirements(policy: &Policy, authentication: &Authentication) -> Node {
    if policy.authenticate == Authenticate::None {
        return Node::List(Vec::new());
    }
    let sets: Vec<Vec<String>> = match &policy.scopes {
        Scopes::None => vec![Vec::new()],
        Scopes::All(scopes) => vec![scopes.clone()],
        Scopes::Any(scopes) => scopes.iter().map(|scope| vec![scope.clone()]).collect(),
    };
    let taken = kinds(authentication).into_iter().filter(|kind| policy.accepts.contains(*kind));
    let asked = taken
        .flat_map(|kind| sets.iter().map(move |scopes| Node::object().with(name(kind), Node::list(scopes.clone()))));
    let mut asked: Vec<_> = asked.collect();
    if policy.authenticate == Authenticate::Optional {
        asked.insert(0, Node::object());
    }
    Node::List(asked)
}

/// The same in a sentence; empty where nobody is asked for anything.
pub fn sentence(policy: &Policy) -> String {
    let scopes = |scopes: &[String]| scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(", ");
    let mut said = match &policy.scopes {
        Scopes::None => String::new(),
        Scopes::All(all) if all.len() == 1 => format!("Needs the scope {}.", scopes(all)),
        Scopes::All(all) => format!("Needs the scopes {}.", scopes(all)),
        Scopes::Any(any) => format!("Needs one of the scopes {}.", scopes(any)),
    };
    if let Some(rule) = &policy.rule {
        said = format!("{said} Needs {rule}.").trim().to_owned();
    }
    said
}
