//! What is no mistake, but likely meant otherwise.

use std::collections::{BTreeMap, HashSet};

use super::Compiler;
use crate::{
    config::{Scopes, did_you_mean},
    route::Route,
};

impl Compiler<'_> {
    /// Upstreams that no route asks.
    pub(super) fn unasked<'r>(&mut self, routes: impl Iterator<Item = &'r Route>) {
        let asked: HashSet<usize> = routes.flat_map(|route| route.action.asks()).map(|asks| asks.upstream.0).collect();
        // A route that waits for its service asks it, too.
        let awaited = |name: &String| self.awaited.iter().any(|(_, upstream)| upstream == name);
        let names = self.config.upstreams.keys().enumerate();
        let names = names.filter(|(at, name)| !asked.contains(at) && !awaited(name));
        let notes: Vec<_> = names.map(|(_, name)| format!("upstreams.{name}: no route asks it")).collect();
        self.notes.extend(notes);
    }

    /// Scopes that stand in one place alone and look much like one that stands in several.
    pub(super) fn lonely_scopes(&mut self) {
        let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (at, route) in self.config.routes.iter().enumerate() {
            let own = (format!("routes[{at}].scopes"), route.scopes.as_ref());
            let methods = route.methods.iter();
            let methods =
                methods.map(|(name, own)| (format!("routes[{at}].methods.{name}.scopes"), own.scopes.as_ref()));
            for (place, scopes) in std::iter::once(own).chain(methods) {
                if let Some(Scopes::All(scopes) | Scopes::Any(scopes)) = scopes {
                    scopes.iter().for_each(|scope| places.entry(scope).or_default().push(place.clone()));
                }
            }
        }
        for (scope, places_of_it) in &places {
            let [place] = places_of_it.as_slice() else { continue };
            let usual = places.iter().filter(|(_, places)| places.len() > 1).map(|(scope, _)| *scope);
            let near = did_you_mean(scope, usual);
            if !near.is_empty() {
                self.notes.push(format!("{place}: the scope \"{scope}\" stands nowhere else{near}"));
            }
        }
    }
}
