//! What a request must be, beside its path, to take a route; and what follows for two routes with one path: which goes
//! first, whether one takes all that the other could, whether some request could be meant for both.

use std::{borrow::Cow, cell::OnceCell, cmp::Reverse, fmt};

use http::{HeaderName, Method, request::Parts};

use super::host;
use crate::action::query;

/// All must hold. None of them is the weakest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// None: any method. GET stands for HEAD, too.
    pub method: Option<Method>,
    /// Lower case, without port; `*.example.com` is any name below.
    pub host: Option<String>,
    /// Each name once.
    pub headers: Vec<(HeaderName, Wanted)>,
    /// Parameters, each name once, decoded.
    pub query: Vec<(String, Wanted)>,
    /// Decides between routes with as many conditions; the greater wins.
    pub priority: i32,
    /// Derived from an annotation: any explicit route goes before it.
    pub derived: bool,
}

/// What a header or a query parameter must be. One that is there more than once has no value: whoever is behind could take
/// another of them than we did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Exact(String),
    Prefix(String),
    Present,
    Absent,
}

/// A request, as conditions ask for it.
pub struct Asked<'a> {
    pub parts: &'a Parts,
    host: OnceCell<Option<Cow<'a, str>>>,
}

/// The order of routes with one path; the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    derived: bool,
    count: Reverse<usize>,
    priority: Reverse<i32>,
    /// Of two with as many conditions the one that is narrower in each has more of it.
    strength: Reverse<usize>,
}

impl Rank {
    /// Whether only how narrow they are can tell the two apart.
    pub fn ties(self, other: Self) -> bool {
        (self.derived, self.count, self.priority) == (other.derived, other.count, other.priority)
    }

    /// What puts it before another, for operators.
    pub fn why_before(self, other: Self) -> &'static str {
        if self.derived != other.derived {
            "a route of the file goes before a derived one"
        } else if self.count != other.count {
            "a route with more conditions goes first"
        } else if self.priority != other.priority {
            "a route with a greater priority goes first"
        } else {
            "a narrower route goes first"
        }
    }
}

/// More than the length of any value that is compared.
const WHOLE: usize = 1 << 16;

impl Conditions {
    /// Explicit before derived, more conditions before fewer, greater priority before smaller, narrower before wider.
    pub fn rank(&self) -> Rank {
        let fields =
            || self.headers.iter().map(|(_, wanted)| wanted).chain(self.query.iter().map(|(_, wanted)| wanted));
        let host = match &self.host {
            Some(host) if host.starts_with('*') => host.len(),
            Some(_) => WHOLE,
            None => 0,
        };
        let method = usize::from(self.method.as_ref() == Some(&Method::HEAD));
        Rank {
            derived: self.derived,
            count: Reverse(usize::from(self.method.is_some()) + usize::from(self.host.is_some()) + fields().count()),
            priority: Reverse(self.priority),
            strength: Reverse(method + host + fields().map(Wanted::strength).sum::<usize>()),
        }
    }

    /// Whether headers and query are as they must be.
    pub fn fields_hold(&self, asked: &Asked<'_>) -> bool {
        self.headers.iter().all(|(name, wanted)| asked.header(name, wanted))
            && self.query.iter().all(|(name, wanted)| asked.parameter(name, wanted))
    }

    /// What the request lacks, a fragment each; nothing if all holds.
    pub fn lacking(&self, asked: &Asked<'_>) -> Vec<String> {
        let mut lacking = Vec::new();
        let method = &asked.parts.method;
        if let Some(wanted) = &self.method
            && !takes(Some(wanted), method)
        {
            lacking.push(format!("the method is {method}, not {wanted}"));
        }
        if let Some(wanted) = &self.host
            && !asked.host().is_some_and(|own| host::is_below(wanted, own))
        {
            lacking.push(format!("the host is {}, not {wanted}", asked.host().unwrap_or("not named")));
        }
        let headers = self.headers.iter().filter(|(name, wanted)| !asked.header(name, wanted));
        lacking.extend(headers.map(|(name, wanted)| format!("the header {name} is not {wanted}")));
        let query = self.query.iter().filter(|(name, wanted)| !asked.parameter(name, wanted));
        lacking.extend(query.map(|(name, wanted)| format!("the query parameter {name} is not {wanted}")));
        lacking
    }

    /// Whether this takes every request that `other` could.
    pub fn cover(&self, other: &Self) -> bool {
        let implied = |wanted: &Wanted, found: Option<&Wanted>| found.is_some_and(|found| found.implies(wanted));
        covers_method(self.method.as_ref(), other.method.as_ref())
            && covers_host(self.host.as_deref(), other.host.as_deref())
            && self.headers.iter().all(|(name, wanted)| implied(wanted, of(&other.headers, name)))
            && self.query.iter().all(|(name, wanted)| implied(wanted, of(&other.query, name)))
    }

    /// Whether some request fulfils both.
    pub fn overlap(&self, other: &Self) -> bool {
        let excluded = |wanted: &Wanted, found: Option<&Wanted>| found.is_some_and(|found| found.excludes(wanted));
        let (method, others) = (self.method.as_ref(), other.method.as_ref());
        let (host, its) = (self.host.as_deref(), other.host.as_deref());
        (covers_method(method, others) || covers_method(others, method))
            && (covers_host(host, its) || covers_host(its, host))
            && !self.headers.iter().any(|(name, wanted)| excluded(wanted, of(&other.headers, name)))
            && !self.query.iter().any(|(name, wanted)| excluded(wanted, of(&other.query, name)))
    }
}

/// Whether a route for `method` takes a request with `asked`.
pub fn takes(method: Option<&Method>, asked: &Method) -> bool {
    covers_method(method, Some(asked))
}

fn covers_method(method: Option<&Method>, other: Option<&Method>) -> bool {
    match (method, other) {
        (None, _) => true,
        (Some(method), Some(other)) => method == other || (*method == Method::GET && *other == Method::HEAD),
        (Some(_), None) => false,
    }
}

fn covers_host(host: Option<&str>, other: Option<&str>) -> bool {
    match (host, other) {
        (None, _) => true,
        (Some(host), Some(other)) => host == other || host::is_below(host, other.trim_start_matches('*')),
        (Some(_), None) => false,
    }
}

fn of<'a, K: PartialEq>(fields: &'a [(K, Wanted)], name: &K) -> Option<&'a Wanted> {
    fields.iter().find(|(own, _)| own == name).map(|(_, wanted)| wanted)
}

impl Wanted {
    fn strength(&self) -> usize {
        match self {
            Self::Exact(_) => WHOLE,
            Self::Prefix(prefix) => prefix.len(),
            Self::Present | Self::Absent => 0,
        }
    }

    /// Whether whatever is as wanted here is also as `other` wants it.
    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(value) | Self::Prefix(value), Self::Prefix(prefix)) => value.starts_with(prefix),
            (Self::Exact(_) | Self::Prefix(_), Self::Present) => true,
            (own, other) => own == other,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, other) | (other, Self::Absent) => *other != Self::Absent,
            (Self::Exact(one), Self::Exact(other)) => one != other,
            (Self::Exact(value), Self::Prefix(prefix)) | (Self::Prefix(prefix), Self::Exact(value)) => {
                !value.starts_with(prefix)
            }
            (Self::Prefix(one), Self::Prefix(other)) => !one.starts_with(other) && !other.starts_with(one),
            (Self::Present, _) | (_, Self::Present) => false,
        }
    }

    fn holds<V: AsRef<[u8]>>(&self, mut values: impl Iterator<Item = V>) -> bool {
        match (self, values.next()) {
            (Self::Absent, first) => first.is_none(),
            (Self::Present, first) => first.is_some(),
            (_, None) => false,
            (_, Some(_)) if values.next().is_some() => false,
            (Self::Exact(wanted), Some(value)) => value.as_ref() == wanted.as_bytes(),
            (Self::Prefix(wanted), Some(value)) => value.as_ref().starts_with(wanted.as_bytes()),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(value) => write!(f, "`{value}`"),
            Self::Prefix(prefix) => write!(f, "`{prefix}…`"),
            Self::Present => f.write_str("there"),
            Self::Absent => f.write_str("absent"),
        }
    }
}

impl<'a> Asked<'a> {
    pub fn new(parts: &'a Parts) -> Self {
        Self { parts, host: OnceCell::new() }
    }

    /// The host in lower case, without port.
    pub fn host(&self) -> Option<&str> {
        self.host.get_or_init(|| host::named(self.parts)).as_deref()
    }

    fn header(&self, name: &HeaderName, wanted: &Wanted) -> bool {
        wanted.holds(self.parts.headers.get_all(name).iter())
    }

    fn parameter(&self, name: &str, wanted: &Wanted) -> bool {
        let query = self.parts.uri.query().unwrap_or_default();
        // What doesn't decode has no name that a route could ask for.
        let pairs = query::pairs(query).filter_map(Result::ok);
        wanted.holds(pairs.filter(|(own, _)| own == name).map(|(_, value)| value.into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn exact(value: &str) -> Wanted {
        Wanted::Exact(value.to_owned())
    }

    fn prefix(value: &str) -> Wanted {
        Wanted::Prefix(value.to_owned())
    }

    fn header(wanted: Wanted) -> Conditions {
        Conditions { headers: vec![(HeaderName::from_static("x-version"), wanted)], ..Conditions::default() }
    }

    #[test]
    fn a_header_is_asked_for_by_presence_value_or_prefix() {
        let holds = |wanted, headers: &[(&str, &str)]| header(wanted).fields_hold(&Asked::new(&asked("/", headers)));
        let two = [("x-version", "2.1")];
        for (wanted, expected) in [
            (Wanted::Present, true),
            (Wanted::Absent, false),
            (exact("2.1"), true),
            (exact("2"), false),
            (prefix("2."), true),
            (prefix("3."), false),
        ] {
            assert_eq!(holds(wanted.clone(), &two), expected, "{wanted:?}");
        }
        assert!(holds(Wanted::Absent, &[]));
        assert!(!holds(prefix("2"), &[]));
    }

    #[test]
    fn what_is_there_twice_has_no_value() {
        let parts = asked("/?v=1&v=2", &[("x-version", "1"), ("x-version", "2")]);
        let asked = Asked::new(&parts);
        let query = |wanted| Conditions { query: vec![("v".to_owned(), wanted)], ..Conditions::default() };
        for conditions in [header(exact("1")), header(exact("2")), query(exact("1")), query(prefix("2"))] {
            assert!(!conditions.fields_hold(&asked), "{conditions:?}");
        }
        assert!(header(Wanted::Present).fields_hold(&asked) && query(Wanted::Present).fields_hold(&asked));
    }

    #[test]
    fn a_parameter_is_compared_decoded() {
        let parts = asked("/?na%6De=a%20b&%ff=1", &[]);
        let conditions = Conditions { query: vec![("name".to_owned(), exact("a b"))], ..Conditions::default() };
        assert!(conditions.fields_hold(&Asked::new(&parts)));
    }

    #[test]
    fn narrower_goes_before_wider() {
        let host = |host: &str| Conditions { host: Some(host.to_owned()), ..Conditions::default() };
        let method = |method| Conditions { method: Some(method), ..Conditions::default() };
        for (narrow, wide) in [
            (host("a.b.test"), host("*.b.test")),
            (host("*.b.test"), host("*.test")),
            (header(exact("2.1")), header(prefix("2."))),
            (header(prefix("2.1")), header(prefix("2"))),
            (header(prefix("2")), header(Wanted::Present)),
            (method(Method::HEAD), method(Method::GET)),
        ] {
            assert!(narrow.rank() < wide.rank(), "{narrow:?} {wide:?}");
            assert!(wide.cover(&narrow) && !narrow.cover(&wide), "{narrow:?} {wide:?}");
        }
        assert!(!host("*.b.test").cover(&host("b.test")));
        assert!(!host("*.b.test").overlap(&host("*.c.test")));
        assert!(!header(Wanted::Absent).overlap(&header(exact("1"))));
        assert!(!header(exact("1")).overlap(&header(exact("2"))));
        assert!(header(exact("1")).overlap(&method(Method::PUT)));
    }
}
