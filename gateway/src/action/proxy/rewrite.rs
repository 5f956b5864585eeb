//! What an upstream sees in place of the client's path, query and host.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Uri, header, uri::Authority, uri::PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::config::{Query, Rewrite as Config};
use crate::{
    action::{
        ConfigError, query,
        template::{self, Escape, Template},
        variable,
    },
    context::RequestContext,
    error::{Error, ErrorKind},
    route::{self, Segment},
};

/// All but RFC 3986's unreserved characters.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A compiled section `rewrite:`.
pub struct Rewrite {
    path: Path,
    host: Option<HeaderValue>,
    query: Query,
}

enum Path {
    Kept,
    Prefix { literal: String, replacement: String },
    Whole(Template),
}

impl Rewrite {
    /// `template` is the route's path template.
    ///
    /// # Errors
    /// What is no absolute path or no host, names a variable the route doesn't have, or contradicts itself.
    pub fn new(config: &Config, template: &route::Template) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let path = match (&config.prefix, &config.path) {
            (None, None) => Ok(Path::Kept),
            (Some(prefix), None) => Path::prefix(prefix, template).map_err(|message| ("rewrite.prefix", message)),
            (None, Some(path)) => Path::whole(path, template).map_err(|message| ("rewrite.path", message)),
            (Some(_), Some(_)) => Err(("rewrite", "has either `prefix` or `path`".to_owned())),
        };
        let path = path.map_err(|(place, message)| errors.push(ConfigError::new(place, message))).ok();
        let host = config.host.as_ref().map(|host| {
            let is_host = host.parse::<Authority>().is_ok_and(|_| !host.contains('@'));
            HeaderValue::try_from(host).ok().filter(|_| is_host)
        });
        if host == Some(None) {
            errors.push(ConfigError::new("rewrite.host", "must be a name, with or without a port"));
        }
        if let Some(both) = config.query.remove.iter().find(|name| config.query.set.contains_key(*name)) {
            errors.push(ConfigError::new("rewrite.query", format!("`{both}` is both set and removed")));
        }
        match path {
            Some(path) if errors.is_empty() => Ok(Self { path, host: host.flatten(), query: config.query.clone() }),
            _ => Err(errors),
        }
    }

    /// The target with another path and query.
    ///
    /// # Errors
    /// Where variables make a path that could be read in two ways.
    pub fn target(&self, uri: &Uri, context: &RequestContext) -> Result<Uri, Error> {
        let mut target = self.path.apply(uri.path(), context)?;
        let query = self.edited(uri.query());
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            target.push('?');
            target.push_str(&query);
        }
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(unfit)?);
        Uri::from_parts(parts).map_err(unfit)
    }

    /// Puts the host in its place, once the client's has been noted.
    pub fn host(&self, uri: &mut Uri, headers: &mut HeaderMap) {
        if let Some(host) = &self.host {
            headers.insert(header::HOST, host.clone());
            // A target with an authority would go before the header.
            if uri.authority().is_some()
                && let Some(path) = uri.path_and_query().cloned()
            {
                *uri = Uri::from(path);
            }
        }
    }

    fn edited<'a>(&self, query: Option<&'a str>) -> Option<Cow<'a, str>> {
        let Query { set, remove } = &self.query;
        if set.is_empty() && remove.is_empty() {
            return query.map(Cow::Borrowed);
        }
        let goes = |pair: &str| {
            let name = query::pairs(pair).next().and_then(Result::ok).map(|(name, _)| name);
            name.is_some_and(|name| set.contains_key(&*name) || remove.iter().any(|other| *other == name))
        };
        let kept = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !goes(pair));
        let encode = |text| utf8_percent_encode(text, COMPONENT);
        let new = set.iter().map(|(name, value)| Cow::Owned(format!("{}={}", encode(name), encode(value))));
        let pairs: Vec<_> = kept.map(Cow::Borrowed).chain(new).collect();
        Some(Cow::Owned(pairs.join("&")))
    }
}

impl Path {
    fn prefix(text: &str, template: &route::Template) -> Result<Self, String> {
        is_absolute(text)?;
        let literals = template.segments.iter().map_while(|segment| match segment {
            Segment::Literal(literal) => Some(format!("/{literal}")),
            Segment::Any | Segment::Rest => None,
        });
        let literal = literals.collect::<String>();
        Ok(Self::Prefix { literal, replacement: text.trim_end_matches('/').to_owned() })
    }

    fn whole(text: &str, template: &route::Template) -> Result<Self, String> {
        is_absolute(text)?;
        let variables: Vec<&str> = template.variables.iter().map(|variable| &*variable.name).collect();
        template::of_route(text, &variables).map(Self::Whole)
    }

    fn apply(&self, path: &str, context: &RequestContext) -> Result<String, Error> {
        match self {
            Self::Kept => Ok(path.to_owned()),
            Self::Prefix { literal, replacement } => {
                let rest = path.strip_prefix(literal.as_str()).unwrap_or(path);
                let slash = if rest.is_empty() && replacement.is_empty() { "/" } else { "" };
                Ok([replacement, slash, rest].concat())
            }
            Self::Whole(template) => {
                let path = template.expand(Escape::Path, |name| variable(context, name).map(Cow::Borrowed));
                let path = path.unwrap_or_else(|| "/".to_owned());
                // Variables are no dot segments, but may become one beside other text.
                match route::normalise(&path) {
                    Ok(normal) if normal == path => Ok(path),
                    Ok(normal) => Err(unfit(format!("{path} would be {normal}"))),
                    // An escaped slash, whose escape was escaped.
                    Err(error) => Err(unfit(error)),
                }
            }
        }
    }
}

fn is_absolute(text: &str) -> Result<(), String> {
    let is_path = text.starts_with('/')
        && !text.contains(['?', '#'])
        && PathAndQuery::try_from(text.replace(['{', '}'], "_")).is_ok();
    if is_path { Ok(()) } else { Err("must be an absolute path".to_owned()) }
}

fn unfit(cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::BadRequest, "the path can't be rewritten").cause(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(section: &str, template: &str) -> Result<Rewrite, Vec<ConfigError>> {
        let config: Config = serde_saphyr::from_str(section).unwrap();
        Rewrite::new(&config, &route::Template::parse(template).unwrap())
    }

    fn rewritten(section: &str, template: &str, uri: &'static str) -> Result<String, Error> {
        let client = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let mut context = RequestContext::new("1".into(), telemetry::TraceContext::unsampled(), client);
        let uri = Uri::from_static(uri);
        context.variables = route::Template::parse(template).unwrap().variables(uri.path())?;
        compile(section, template).unwrap().target(&uri, &context).map(|uri| uri.to_string())
    }

    #[test]
    fn a_prefix_stands_in_for_the_literal_segments() {
        for (prefix, template, uri, expected) in [
            ("/v1", "/api/{rest=**}", "/api/a%20b/c?x=1", "/v1/a%20b/c?x=1"),
            ("/", "/api/{rest=**}", "/api/a", "/a"),
            ("/", "/api", "/api", "/"),
            ("/v1/", "/api", "/api", "/v1"),
            ("/v1", "/%61pi/{id}", "/api/7", "/v1/7"),
            ("/v1", "/{rest=**}", "/a/b/", "/v1/a/b/"),
        ] {
            let section = format!("{{prefix: {prefix}}}");
            assert_eq!(rewritten(&section, template, uri).unwrap(), expected, "{prefix} {template}");
        }
    }

    #[test]
    fn a_path_is_made_of_the_variables_and_leads_nowhere_up() {
        let section = "{path: '/new/{rest}'}";
        assert_eq!(rewritten(section, "/api/{rest=**}", "/api/a%20b/c?x=1").unwrap(), "/new/a%20b/c?x=1");
        // `/..:go` is no dot segment, but what stands before the colon is.
        let error = rewritten("{path: '/jobs/{id}/now'}", "/jobs/{id}:go", "/jobs/..:go").unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadRequest);
    }

    #[test]
    fn parameters_are_set_and_removed_and_the_others_left_as_they_came() {
        let section = "{query: {set: {'a b': 'c&d'}, remove: [key]}}";
        let uri = "/x?b=%7e&k%65y=1&a+b=2&&c";
        assert_eq!(rewritten(section, "/x", uri).unwrap(), "/x?b=%7e&c&a%20b=c%26d");
        assert_eq!(rewritten("{query: {remove: [key]}}", "/x", "/x?key=1").unwrap(), "/x");
        assert_eq!(rewritten(section, "/x", "/x").unwrap(), "/x?a%20b=c%26d");
    }

    #[test]
    fn a_rewrite_that_can_not_be_is_refused() {
        for (section, path) in [
            ("{prefix: v1}", "rewrite.prefix"),
            ("{path: '/{id}'}", "rewrite.path"),
            ("{path: '/a?b'}", "rewrite.path"),
            ("{prefix: /a, path: /b}", "rewrite"),
            ("{host: 'a b'}", "rewrite.host"),
            ("{host: 'me@a'}", "rewrite.host"),
            ("{query: {set: {a: b}, remove: [a]}}", "rewrite.query"),
        ] {
            let errors = compile(section, "/a/{rest=**}").err().unwrap();
            assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), [path], "{section}");
        }
    }
}
