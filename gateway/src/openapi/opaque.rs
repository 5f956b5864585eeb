//! Routes of which only the outside is known: what is passed through, fixed answers, redirects.

use http::{Method, StatusCode};

use super::{
    node::Node,
    offer::{Offer, Tag, answer, content, with_header},
};

/// What is passed through to these upstreams.
pub fn proxied(upstreams: &[String], method: &Method) -> Offer {
    let name = upstreams.first().cloned().unwrap_or_default();
    let takes_body = !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE);
    let anything = || content("*/*", Node::object());
    Offer {
        description: "Passed through as it is: what it takes and what it answers is the service's to say.".to_owned(),
        tag: Tag::new(name, ""),
        body: takes_body.then(|| Node::object().with("content", anything())),
        responses: vec![("2XX".to_owned(), answer("What the service answers.", Some(anything())))],
        ..Offer::default()
    }
}

/// Always the same answer.
pub fn fixed(status: u16, media_type: Option<&str>, body: &str) -> Offer {
    let example = Node::object().with("type", "string");
    let body = media_type.filter(|_| !body.is_empty()).map(|media_type| {
        let media_type = media_type.split(';').next().unwrap_or(media_type).trim();
        let mut content = content(media_type, example);
        if media_type.starts_with("text/") {
            content.entry(media_type).set("example", body);
        } else {
            content.set(media_type, Node::object());
        }
        content
    });
    Offer {
        description: "Always answers the same.".to_owned(),
        tag: Tag::new("Gateway", "What the gateway answers by itself."),
        responses: vec![(status.to_string(), answer(reason(status), body))],
        ..Offer::default()
    }
}

/// To another place.
pub fn redirected(status: u16, to: &str) -> Offer {
    Offer {
        summary: format!("Goes to {to}"),
        tag: Tag::new("Gateway", "What the gateway answers by itself."),
        responses: vec![(status.to_string(), with_header(answer(reason(status), None), "Location", "Where to go."))],
        ..Offer::default()
    }
}

fn reason(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    format!("{}.", reason.unwrap_or("The answer"))
}
