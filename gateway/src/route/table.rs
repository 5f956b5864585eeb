//! All routes in a trie of path segments. Finding one costs by the length of the path, not by the number of routes, and
//! allocates nothing.
//!
//! At each segment a literal goes before `*`, and `*` before `**`; where the more exact branch leads nowhere, the next is
//! tried. Templates with a verb have tries of their own, which go first. Routes with one template are told apart by their
//! conditions, in the order of [`Conditions::rank`].

use std::{collections::HashMap, sync::Arc};

use http::{Method, request::Parts};

use super::{
    Conditions, Segment, Template,
    condition::Asked,
    conflict::{self, Conflict},
    ends::{Ends, Entry},
};

/// Routes of any kind `T`, by template and conditions.
pub struct Table<T> {
    root: Node<T>,
    /// By verb, for templates such as `/jobs/{id}:cancel`.
    verbs: HashMap<Box<str>, Node<T>>,
}

struct Node<T> {
    literals: HashMap<Box<str>, Node<T>>,
    any: Option<Box<Node<T>>>,
    /// Templates that end here.
    ends: Ends<T>,
    /// Templates that end here with `**`.
    rests: Ends<T>,
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

/// A route whose template fits a path, and what the request lacks to take it.
pub struct Candidate<'a, T> {
    pub value: &'a Arc<T>,
    pub template: &'a Template,
    pub conditions: &'a Conditions,
    /// Empty: it holds.
    pub lacking: Vec<String>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), any: None, ends: Ends::default(), rests: Ends::default() }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { root: Node::default(), verbs: HashMap::new() }
    }
}

impl<T> Table<T> {
    /// A table of routes, and where they stand in each other's way, by their places in the list.
    pub fn new(routes: impl IntoIterator<Item = (Template, Conditions, Arc<T>)>) -> (Self, Vec<Conflict>) {
        let mut table = Self::default();
        for (number, (template, conditions, value)) in routes.into_iter().enumerate() {
            let rank = conditions.rank();
            table.ends(&template).insert(Entry { template: Arc::new(template), conditions, rank, number, value });
        }
        let mut conflicts = Vec::new();
        table.root.conflicts(&mut conflicts);
        table.verbs.values().for_each(|node| node.conflicts(&mut conflicts));
        conflicts.sort_by_key(|conflict| (conflict.route, conflict.with));
        (table, conflicts)
    }

    fn ends(&mut self, template: &Template) -> &mut Ends<T> {
        let mut node = match &template.verb {
            Some(verb) => self.verbs.entry(verb.as_str().into()).or_default(),
            None => &mut self.root,
        };
        for segment in &template.segments {
            match segment {
                Segment::Literal(literal) => node = node.literals.entry(literal.as_str().into()).or_default(),
                Segment::Any => node = node.any.get_or_insert_default(),
                Segment::Rest => return &mut node.rests,
            }
        }
        &mut node.ends
    }

    /// The same table with other values.
    pub fn map<U>(&self, make: &impl Fn(&Arc<T>) -> Arc<U>) -> Table<U> {
        let verbs = self.verbs.iter().map(|(verb, node)| (verb.clone(), node.map(make))).collect();
        Table { root: self.root.map(make), verbs }
    }

    /// Finds the route of a normalised path.
    pub fn find(&self, path: &str, parts: &Parts) -> Match<'_, T> {
        let asked = Asked::new(parts);
        let mut is_known = false;
        let found = self.walk(path, &mut |ends| {
            is_known = true;
            ends.choose(&asked)
        });
        match found {
            Some(entry) => Match::Found { value: &entry.value, template: &entry.template },
            None if is_known => self.others(path, &asked),
            None => Match::NotFound,
        }
    }

    #[cold]
    fn others(&self, path: &str, asked: &Asked<'_>) -> Match<'_, T> {
        let mut allowed = Vec::new();
        self.walk::<()>(path, &mut |ends| {
            ends.allowed(asked, &mut allowed);
            None
        });
        if allowed.is_empty() {
            return Match::NotFound;
        }
        if allowed.contains(&Method::GET) {
            allowed.push(Method::HEAD);
        }
        allowed.push(Method::OPTIONS);
        allowed.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        allowed.dedup();
        Match::MethodNotAllowed(allowed)
    }

    /// Every route whose template fits the path, in the order they are asked.
    pub fn candidates(&self, path: &str, parts: &Parts) -> Vec<Candidate<'_, T>> {
        let asked = Asked::new(parts);
        let mut candidates = Vec::new();
        self.walk::<()>(path, &mut |ends| {
            let mut entries: Vec<_> = ends.entries().collect();
            entries.sort_by_key(|entry| (entry.rank, entry.number));
            candidates.extend(entries.into_iter().map(|entry| Candidate {
                value: &entry.value,
                template: &entry.template,
                conditions: &entry.conditions,
                lacking: entry.conditions.lacking(&asked),
            }));
            None
        });
        candidates
    }

    /// Shows every place where a template that fits the path ends, the most exact first, until `see` has found what it
    /// wants.
    fn walk<'t, R>(&'t self, path: &str, see: &mut impl FnMut(&'t Ends<T>) -> Option<R>) -> Option<R> {
        if !self.verbs.is_empty()
            && let Some((before, verb)) = path.rsplit_once(':')
            && let Some(node) = self.verbs.get(verb)
            && let Some(found) = node.descend(remainder(before), see)
        {
            return Some(found);
        }
        self.root.descend(remainder(path), see)
    }
}

/// What follows the first slash; None if nothing does.
fn remainder(path: &str) -> Option<&str> {
    path.strip_prefix('/').filter(|rest| !rest.is_empty())
}

impl<T> Node<T> {
    fn descend<'t, R>(&'t self, rest: Option<&str>, see: &mut impl FnMut(&'t Ends<T>) -> Option<R>) -> Option<R> {
        let Some(rest) = rest else {
            return [&self.ends, &self.rests].into_iter().filter(|ends| !ends.is_empty()).find_map(see);
        };
        let (segment, after) = match rest.find('/') {
            Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
            None => (rest, None),
        };
        if let Some(child) = self.literals.get(segment)
            && let Some(found) = child.descend(after, see)
        {
            return Some(found);
        }
        if !segment.is_empty()
            && let Some(child) = &self.any
            && let Some(found) = child.descend(after, see)
        {
            return Some(found);
        }
        if self.rests.is_empty() { None } else { see(&self.rests) }
    }

    fn conflicts(&self, conflicts: &mut Vec<Conflict>) {
        conflicts.extend(conflict::within(&self.ends));
        conflicts.extend(conflict::within(&self.rests));
        self.literals.values().chain(self.any.as_deref()).for_each(|node| node.conflicts(conflicts));
    }

    fn map<U>(&self, make: &impl Fn(&Arc<T>) -> Arc<U>) -> Node<U> {
        Node {
            literals: self.literals.iter().map(|(literal, node)| (literal.clone(), node.map(make))).collect(),
            any: self.any.as_ref().map(|node| Box::new(node.map(make))),
            ends: self.ends.map(make),
            rests: self.rests.map(make),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Kind;

    fn table(routes: &[(&str, &str)]) -> Table<String> {
        let routes = routes.iter().map(|(method, template)| {
            let conditions = Conditions { method: Some(method.parse().unwrap()), ..Conditions::default() };
            (Template::parse(template).unwrap(), conditions, Arc::new((*template).to_owned()))
        });
        let (table, conflicts) = Table::new(routes);
        assert_eq!(conflicts, []);
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
            ("GET", "/lists/{id}/"),
        ]);
        for (method, path, route) in [
            ("GET", "/products/new", "/products/new"),
            ("GET", "/products/42", "/products/{id}"),
            ("HEAD", "/products/42", "/products/{id}"),
            ("GET", "/products/42/reviews", "/products/{id}/reviews"),
            ("GET", "/products/42/other", "/{rest=**}"),
            ("GET", "/products/", "/{rest=**}"),
            ("GET", "/lists/7/", "/lists/{id}/"),
            ("GET", "/lists/7", "/{rest=**}"),
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

    fn conflicts(routes: &[Conditions]) -> Vec<(usize, usize, Kind)> {
        let names = ["/things/{id}", "/things/{other}"];
        let routes = routes
            .iter()
            .enumerate()
            .map(|(at, conditions)| (Template::parse(names[at % 2]).unwrap(), conditions.clone(), Arc::new(())));
        Table::new(routes).1.into_iter().map(|conflict| (conflict.route, conflict.with, conflict.kind)).collect()
    }

    fn get() -> Conditions {
        Conditions { method: Some(Method::GET), ..Conditions::default() }
    }

    fn on(host: &str) -> Conditions {
        Conditions { host: Some(host.to_owned()), ..get() }
    }

    #[test]
    fn what_no_request_can_tell_apart_is_found() {
        assert_eq!(conflicts(&[get(), get()]), [(1, 0, Kind::Same)]);
        assert_eq!(conflicts(&[on("a.test"), on("b.test"), on("a.test")]), [(2, 0, Kind::Same)]);
        assert_eq!(conflicts(&[get(), Conditions::default(), on("a.test")]), []);
    }

    #[test]
    fn what_is_never_taken_is_found() {
        let derived = Conditions { derived: true, ..get() };
        assert_eq!(conflicts(&[derived.clone(), Conditions::default()]), [(0, 1, Kind::Shadowed)]);
        assert_eq!(conflicts(&[on("a.test"), derived]), []);
        let first = Conditions { priority: 1, ..get() };
        assert_eq!(conflicts(&[get(), first]), [(0, 1, Kind::Shadowed)]);
        let below = Conditions { priority: 1, ..on("*.test") };
        assert_eq!(conflicts(&[on("a.test"), below]), [(0, 1, Kind::Shadowed)]);
    }

    #[test]
    fn what_could_be_meant_for_two_is_found() {
        let header = |priority| Conditions {
            headers: vec![(http::HeaderName::from_static("x-beta"), crate::route::Wanted::Present)],
            priority,
            ..get()
        };
        assert_eq!(conflicts(&[on("a.test"), header(0)]), [(1, 0, Kind::Ambiguous)]);
        assert_eq!(
            conflicts(&[on("*.a.test"), header(0), on("b.test")]),
            [(1, 0, Kind::Ambiguous), (2, 1, Kind::Ambiguous)]
        );
        assert_eq!(conflicts(&[on("a.test"), header(1)]), []);
        // The narrower goes first.
        assert_eq!(conflicts(&[on("*.test"), on("a.test")]), []);
    }
}
