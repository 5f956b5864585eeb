//! The session's endpoints: log in, who am I, log out.

use http::Method;

use super::{
    components::Components,
    node::Node,
    offer::{Offer, Tag, answer, content, json_body, parameter, with_header},
};
use crate::error::ErrorKind;

pub fn offer(method: &Method, components: &mut Components) -> Offer {
    let tag = Tag::new("Session", "Logging in. A browser keeps the session in a cookie that no script can read.");
    let identity = || Some(content("application/json", Components::reference("turnpike.Identity")));
    if *method != Method::DELETE {
        components.schema("turnpike.Identity", "Identity", self::identity());
    }
    match *method {
        Method::POST => Offer {
            id: "logIn".to_owned(),
            summary: "Log in".to_owned(),
            description: "Opens a session; one that the request's cookie names ends.".to_owned(),
            tag,
            body: Some(json_body(components.schema("turnpike.Credentials", "Credentials", credentials()), true)),
            responses: vec![(
                "201".to_owned(),
                with_header(answer("A session is open.", identity()), "Set-Cookie", "The session."),
            )],
            failures: vec![ErrorKind::Invalid, ErrorKind::Unauthenticated],
            ..Offer::default()
        },
        Method::DELETE => Offer {
            id: "logOut".to_owned(),
            summary: "Log out".to_owned(),
            description: "Ends the session that the cookie names, if there is one.".to_owned(),
            tag,
            parameters: vec![parameter(
                "query",
                "all",
                Node::object()
                    .with("type", "boolean")
                    .with("default", false)
                    .with("description", "Every session of whoever's session it is ends: 401 without one."),
            )],
            responses: vec![(
                "204".to_owned(),
                with_header(answer("There is no session any more.", None), "Set-Cookie", "Takes the cookie away."),
            )],
            failures: vec![ErrorKind::Invalid, ErrorKind::Unauthenticated],
            ..Offer::default()
        },
        _ => Offer {
            id: "whoAmI".to_owned(),
            summary: "Who am I".to_owned(),
            description: "Whom the request's credential speaks for, whatever kind it is.".to_owned(),
            tag,
            responses: vec![("200".to_owned(), answer("Who calls.", identity()))],
            failures: vec![ErrorKind::Unauthenticated],
            ..Offer::default()
        },
    }
}

fn credentials() -> Node {
    let text = || Node::object().with("type", "string");
    let properties = Node::object()
        .with("email", text().with("examples", Node::list(["someone@example.com"])))
        .with("password", text().with("format", "password").with("writeOnly", true));
    Node::object()
        .with("type", "object")
        .with("properties", properties)
        .with("required", Node::list(["email", "password"]))
        .with("additionalProperties", false)
}

fn identity() -> Node {
    let text = |description: &str| Node::object().with("type", "string").with("description", description);
    let scopes = Node::object().with("type", "array").with("items", Node::object().with("type", "string"));
    let claims =
        Node::object().with("type", "object").with("additionalProperties", Node::object().with("type", "string"));
    let expires = Node::object()
        .with("type", Node::list(["string", "null"]))
        .with("format", "date-time")
        .with("description", "When the session ends; null for a credential that is none.");
    let properties = Node::object()
        .with("subject", text("Who it is.").with("examples", Node::list(["people/1"])))
        .with("scopes", scopes.with("description", "What they may do."))
        .with("claims", claims.with("description", "What else is known of them."))
        .with("expires", expires);
    Node::object()
        .with("type", "object")
        .with("description", "Who calls, and what they may do.")
        .with("properties", properties)
        .with("required", Node::list(["subject", "scopes", "claims", "expires"]))
}
