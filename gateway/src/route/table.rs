//! All routes in a trie of path segments. Finding one costs by the length of the path, not by the number of routes.
//!
//! At each segment a literal goes before `*`, and `*` before `**`; where the more exact branch leads nowhere, the next is
//! tried. Routes with one template are told apart by their conditions, in the order of [`Conditions::rank`].

use std::{collections::HashMap, sync::Arc};

use http::{Method, request::Parts};

use super::{Conditions, Segment, Template};

/// Routes of any kind `T`, by template and conditions.
pub struct Table<T> {
    root: Node<T>,
    verbs: bool,
}

struct Node<T> {
    literals: HashMap<Box<str>, Node<T>>,
    any: Option<Box<Node<T>>>,
    /// Templates that end here.
    ends: Vec<Entry<T>>,
    /// Templates that end here with `**`.
    rests: Vec<Entry<T>>,
}

struct Entry<T> {
    template: Arc<Template>,
    conditions: Conditions,
    value: Arc<T>,
}

/// What a path and a method lead to.
pub enum Match<'a, T> {
    Found {
        value: &'a Arc<T>,
        template: &'a Template,
    },
    /// The path is known, but not with this method. HEAD and OPTIONS are among those allowed.
    MethodNotAllowed(Vec<Method>),
    NotFound,
}

/// Why a route doesn't go into the table.
#[derive(Debug)]
pub enum Conflict<T> {
    /// A route that no request can tell from it is there already.
    Clash(Arc<T>),
    /// It is derived, and an explicit route takes all its requests.
    Hidden(Arc<T>),
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), any: None, ends: Vec::new(), rests: Vec::new() }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { root: Node::default(), verbs: false }
    }
}

impl<T> Table<T> {
    /// Adds a route. Explicit ones go first: a derived one they hide is not added.
    ///
    /// # Errors
    /// If it would be ambiguous, or never taken.
    pub fn insert(&mut self, template: Template, conditions: Conditions, value: Arc<T>) -> Result<(), Conflict<T>> {
        let mut node = &mut self.root;
        let mut rest = false;
        for segment in &template.segments {
            match segment {
                Segment::Literal(literal) => node = node.literals.entry(literal.as_str().into()).or_default(),
                Segment::Any => node = node.any.get_or_insert_default(),
                Segment::Rest => rest = true,
            }
        }
        let entries = if rest { &mut node.rests } else { &mut node.ends };
        for other in entries.iter().filter(|other| other.template.verb == template.verb) {
            if other.conditions.clash(&conditions) {
                return Err(Conflict::Clash(Arc::clone(&other.value)));
            }
            if other.conditions.hide(&conditions) {
                return Err(Conflict::Hidden(Arc::clone(&other.value)));
            }
        }
        self.verbs |= template.verb.is_some();
        entries.push(Entry { template: Arc::new(template), conditions, value });
        entries.sort_by_key(|entry| entry.conditions.rank());
        Ok(())
    }

    /// The same table with other values.
    pub fn map<U>(&self, make: &impl Fn(&Arc<T>) -> Arc<U>) -> Table<U> {
        Table { root: self.root.map(make), verbs: self.verbs }
    }

    /// Finds the route of a normalised path.
    pub fn find(&self, path: &str, parts: &Parts) -> Match<'_, T> {
        let mut search = Search { parts, verb: None, allowed: Vec::new() };
        if self.verbs
            && let Some(colon) = path.rfind(':')
            && !path[colon..].contains('/')
        {
            search.verb = Some(&path[colon + 1..]);
            if let Some(entry) = search.descend(&self.root, remainder(&path[..colon])) {
                return entry.found();
            }
            search.verb = None;
        }
        match search.descend(&self.root, remainder(path)) {
            Some(entry) => entry.found(),
            None if search.allowed.is_empty() => Match::NotFound,
            None => Match::MethodNotAllowed(search.allow()),
        }
    }
}

impl<T> Node<T> {
    fn map<U>(&self, make: &impl Fn(&Arc<T>) -> Arc<U>) -> Node<U> {
        let entries = |entries: &[Entry<T>]| entries.iter().map(|entry| entry.map(make)).collect();
        Node {
            literals: self.literals.iter().map(|(literal, node)| (literal.clone(), node.map(make))).collect(),
            any: self.any.as_ref().map(|node| Box::new(node.map(make))),
            ends: entries(&self.ends),
            rests: entries(&self.rests),
        }
    }
}

impl<T> Entry<T> {
    fn map<U>(&self, make: &impl Fn(&Arc<T>) -> Arc<U>) -> Entry<U> {
        Entry { template: Arc::clone(&self.template), conditions: self.conditions.clone(), value: make(&self.value) }
    }

    fn found(&self) -> Match<'_, T> {
        Match::Found { value: &self.value, template: &self.template }
    }
}

/// What follows the first slash; None if nothing does.
fn remainder(path: &str) -> Option<&str> {
    path.strip_prefix('/').filter(|rest| !rest.is_empty())
}

struct Search<'p> {
    parts: &'p Parts,
    verb: Option<&'p str>,
    /// Methods of routes that would have matched with one of them.
    allowed: Vec<Method>,
}

impl Search<'_> {
    fn descend<'t, T>(&mut self, node: &'t Node<T>, rest: Option<&str>) -> Option<&'t Entry<T>> {
        let Some(rest) = rest else {
            return self.choose(&node.ends).or_else(|| self.choose(&node.rests));
        };
        let (segment, after) = match rest.find('/') {
            Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
            None => (rest, None),
        };
        if let Some(child) = node.literals.get(segment)
            && let Some(found) = self.descend(child, after)
        {
            return Some(found);
        }
        if !segment.is_empty()
            && let Some(child) = &node.any
            && let Some(found) = self.descend(child, after)
        {
            return Some(found);
        }
        self.choose(&node.rests)
    }

    fn choose<'t, T>(&mut self, entries: &'t [Entry<T>]) -> Option<&'t Entry<T>> {
        let mut head = None;
        for entry in entries {
            if entry.template.verb.as_deref() != self.verb || !entry.conditions.hold(self.parts) {
                continue;
            }
            match &entry.conditions.method {
                None => return head.or(Some(entry)),
                Some(method) if *method == self.parts.method => return Some(entry),
                // Whatever answers GET answers HEAD, unless a route for HEAD follows.
                Some(method) if self.parts.method == Method::HEAD && *method == Method::GET => {
                    head = head.or(Some(entry))
                }
                Some(method) => self.allowed.push(method.clone()),
            }
        }
        head
    }

    /// The methods for `Allow`, each once, in alphabetical order.
    fn allow(mut self) -> Vec<Method> {
        if self.allowed.contains(&Method::GET) {
            self.allowed.push(Method::HEAD);
        }
        self.allowed.push(Method::OPTIONS);
        self.allowed.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        self.allowed.dedup();
        self.allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(&str, &str)]) -> Table<String> {
        let mut table = Table::default();
        for (method, template) in routes {
            let conditions = Conditions { method: Some(method.parse().unwrap()), ..Conditions::default() };
            let template = Template::parse(template).unwrap();
            let value = Arc::new(template.text.clone());
            assert!(table.insert(template, conditions, value).is_ok());
        }
        table
    }

    fn find(table: &Table<String>, method: &str, path: &str) -> String {
        let parts = http::Request::builder().method(method).uri(path).body(()).unwrap().into_parts().0;
        match table.find(path, &parts) {
            Match::Found { value, .. } => value.to_string(),
            Match::MethodNotAllowed(allow) => {
                format!("405 {}", allow.iter().map(Method::as_str).collect::<Vec<_>>().join(", "))
            }
            Match::NotFound => "404".to_owned(),
        }
    }

    #[test]
    fn the_more_exact_template_wins() {
        let table = table(&[
            ("GET", "/products/{id}"),
            ("GET", "/products/new"),
            ("GET", "/{rest=**}"),
            ("GET", "/products/{id}/reviews"),
            ("POST", "/products/{id}:archive"),
            ("GET", "/"),
        ]);
        for (method, path, route) in [
            ("GET", "/products/new", "/products/new"),
            ("GET", "/products/42", "/products/{id}"),
            ("HEAD", "/products/42", "/products/{id}"),
            ("GET", "/products/42/reviews", "/products/{id}/reviews"),
            ("GET", "/products/42/other", "/{rest=**}"),
            ("GET", "/products/", "/{rest=**}"),
            ("GET", "/products/a:b", "/products/{id}"),
            ("POST", "/products/a:archive", "/products/{id}:archive"),
            ("GET", "/", "/"),
        ] {
            assert_eq!(find(&table, method, path), route, "{method} {path}");
        }
    }

    #[test]
    fn a_branch_that_leads_nowhere_is_left_again() {
        let table = table(&[("GET", "/a/b/c"), ("GET", "/a/{x}/d"), ("GET", "/{y}/b/e")]);
        assert_eq!(find(&table, "GET", "/a/b/d"), "/a/{x}/d");
        assert_eq!(find(&table, "GET", "/a/b/e"), "/{y}/b/e");
        assert_eq!(find(&table, "GET", "/a/b/f"), "404");
    }

    #[test]
    fn a_known_path_with_another_method_tells_what_is_allowed() {
        let table = table(&[("GET", "/products/{id}"), ("PATCH", "/products/{id}"), ("POST", "/products")]);
        assert_eq!(find(&table, "PUT", "/products/42"), "405 GET, HEAD, OPTIONS, PATCH");
        assert_eq!(find(&table, "HEAD", "/products"), "405 OPTIONS, POST");
        assert_eq!(find(&table, "GET", "/products/42/"), "404");
    }

    #[test]
    fn what_no_request_can_tell_apart_clashes() {
        let mut table = table(&[("GET", "/products/{id}")]);
        let get = |derived| Conditions { method: Some(Method::GET), derived, ..Conditions::default() };
        let template = || Template::parse("/products/{other}").unwrap();
        assert!(matches!(table.insert(template(), get(false), Arc::default()), Err(Conflict::Clash(_))));
        assert!(matches!(table.insert(template(), get(true), Arc::default()), Err(Conflict::Hidden(_))));
        let host = Conditions { host: Some("a.example".into()), ..get(false) };
        assert!(table.insert(template(), host, Arc::default()).is_ok());
    }
}
