//! Rate limits by where they stand, or by the name they were given: routes that name the same share it. One that stands
//! where it stood, unchanged, keeps what it has counted.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    config::ConfigError,
    limit::{Config, Key, Limit, Limiter, Policies},
    shared::Redis,
    snapshot::Snapshot,
};

pub struct Limiters<'a> {
    previous: Option<&'a HashMap<String, Arc<Limiter>>>,
    redis: Option<&'a Arc<Redis>>,
    made: HashMap<String, Arc<Limiter>>,
    /// Those that hold for every route, except the ones asked before the route is known.
    everywhere: Vec<Limit>,
}

impl<'a> Limiters<'a> {
    pub fn new(previous: Option<&'a Snapshot>, redis: Option<&'a Arc<Redis>>) -> Self {
        let previous = previous.map(|snapshot| &snapshot.limiters);
        Self { previous, redis, made: HashMap::new(), everywhere: Vec::new() }
    }

    /// The section `rate_limit:` of the file. Returns the limits that are asked first of all. Those that routes name too,
    /// as `named` knows, wait until it is known what they cost.
    pub fn global(&mut self, configs: &[Config], named: &HashSet<&str>, errors: &mut Vec<ConfigError>) -> Policies {
        let all = self.section("", "rate_limit", "", configs, errors);
        let (first, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|limit| {
            let config = &limit.limiter.config;
            config.key.is_client_address() && !config.name.as_deref().is_some_and(|name| named.contains(name))
        });
        self.everywhere = later;
        Policies::new(first, self.redis)
    }

    /// A section `rate_limit:` of a route. `owner` is what it is recognised by in the next file, `path` where it stands.
    pub fn section(
        &mut self,
        owner: &str,
        path: &str,
        prefix: &str,
        configs: &[Config],
        errors: &mut Vec<ConfigError>,
    ) -> Vec<Limit> {
        let mut names = HashSet::new();
        let mut limits = Vec::new();
        for (at, config) in configs.iter().enumerate() {
            let name = match &config.name {
                Some(name) => name.clone(),
                None => default_name(prefix, &config.key, &names),
            };
            if !names.insert(name.clone()) {
                errors.push(ConfigError::new(format!("{path}[{at}].name"), format!("`{name}` is there already")));
            }
            // One with a name of its own is the same wherever it stands.
            let place = if config.name.is_some() { format!("name:{name}") } else { format!("{owner}/{name}") };
            if self.made.get(&place).is_some_and(|made| !made.config.is_the_same(config)) {
                errors.push(ConfigError::new(
                    format!("{path}[{at}].name"),
                    format!("`{name}` stands for another limit elsewhere: only `cost` may differ"),
                ));
            }
            limits.push(Limit { limiter: self.limiter(place, &name, config), cost: config.cost });
        }
        limits
    }

    /// All that a route asks: what holds everywhere, and its own. One that is named more than once is asked once, at the
    /// cost that was named last: a route's word goes before the file's, a method's before its route's.
    pub fn policies(&self, own: &[Limit]) -> Policies {
        let all: Vec<_> = self.everywhere.iter().chain(own).collect();
        let again = |at: usize| all[at + 1..].iter().any(|later| Arc::ptr_eq(&later.limiter, &all[at].limiter));
        Policies::new((0..all.len()).filter(|at| !again(*at)).map(|at| all[at].clone()), self.redis)
    }

    fn limiter(&mut self, place: String, name: &str, config: &Config) -> Arc<Limiter> {
        let known = self.made.get(&place).or_else(|| self.previous.and_then(|previous| previous.get(&place)));
        let kept = known.filter(|limiter| limiter.config.is_the_same(config));
        let limiter = kept.cloned().unwrap_or_else(|| Arc::new(Limiter::new(&place, name, config)));
        self.made.insert(place, Arc::clone(&limiter));
        limiter
    }

    pub fn done(self) -> HashMap<String, Arc<Limiter>> {
        self.made
    }
}

fn default_name(prefix: &str, key: &Key, taken: &HashSet<String>) -> String {
    let name = format!("{prefix}{}", key.to_string().replace(':', "-"));
    if !taken.contains(&name) {
        return name;
    }
    (2..).map(|number| format!("{name}-{number}")).find(|name| !taken.contains(name)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_named_in_several_places_is_asked_once_at_the_narrowest_ones_cost() {
        let config = |cost: u32| -> Config {
            let text = format!("{{name: work, requests: 100, per: 1m, key: principal, cost: {cost}}}");
            serde_saphyr::from_str(&text).unwrap()
        };
        let (mut limiters, mut errors) = (Limiters::new(None, None), Vec::new());
        limiters.global(&[config(1)], &HashSet::new(), &mut errors);
        let mut own = limiters.section("a", "routes[0].rate_limit", "route-", &[config(2)], &mut errors);
        own.extend(limiters.section("a/M", "routes[0].methods.M.rate_limit", "method-", &[config(3)], &mut errors));
        assert!(errors.is_empty(), "{errors:?}");
        let costs: Vec<_> = limiters.policies(&own).costs().collect();
        assert_eq!(costs, [3]);
    }
}
