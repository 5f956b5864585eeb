//! An explanation for people.

use std::fmt::{self, Display, Formatter};

use super::{Asked, Explanation, Part, Taken};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        if let Some(host) = &self.host {
            write!(f, " on {host}")?;
        }
        writeln!(f)?;
        if let Some(route) = &self.route {
            taken(route, f)?;
        }
        if let Some(refused) = &self.refused {
            writeln!(f, "no route: {} {}", refused.status, refused.detail)?;
            if !refused.allow.is_empty() {
                writeln!(f, "  allowed: {}", refused.allow.join(", "))?;
            }
        }
        if !self.others.is_empty() {
            writeln!(f, "other routes of this path:")?;
        }
        for other in &self.others {
            writeln!(f, "  {}  {}", name(&other.id, &other.path), other.why)?;
        }
        if self.left_out > 0 {
            writeln!(f, "  and {} more", self.left_out)?;
        }
        Ok(())
    }
}

fn taken(route: &Taken, f: &mut Formatter<'_>) -> fmt::Result {
    let derived = if route.derived { ", derived from an annotation" } else { "" };
    writeln!(f, "route {} ({}{derived})", name(&route.id, &route.path), route.action)?;
    for (name, value) in &route.variables {
        writeln!(f, "  {{{name}}} = {value}")?;
    }
    let width = route.policies.iter().map(|policy| policy.policy.len()).max().unwrap_or(0);
    for policy in &route.policies {
        writeln!(f, "  {:width$}  {}", policy.policy, policy.says)?;
    }
    route.parts.iter().try_for_each(|asked| part(asked, f))?;
    route.upstreams.iter().try_for_each(|asked| upstream(asked, f))
}

fn part(part: &Part, f: &mut Formatter<'_>) -> fmt::Result {
    let Part { part, asks, upstream, after, how } = part;
    let after = if after.is_empty() { String::new() } else { format!(", after {}", after.join(", ")) };
    writeln!(f, "part {part} asks {upstream} for {asks}{after}: {how}")
}

fn upstream(asked: &Asked, f: &mut Formatter<'_>) -> fmt::Result {
    let share = asked.share * 100.0;
    match (asked.mirrors, asked.share < 1.0) {
        (true, _) => writeln!(f, "mirror {} gets copies of {share} %", asked.upstream)?,
        (false, true) => writeln!(f, "upstream {} gets {share} %", asked.upstream)?,
        (false, false) => writeln!(f, "upstream {}", asked.upstream)?,
    }
    for endpoint in &asked.endpoints {
        let state = if endpoint.healthy { "healthy" } else { "unhealthy" };
        let (address, in_flight) = (&endpoint.address, endpoint.in_flight);
        writeln!(f, "  {address}  {state}: {}, {in_flight} in flight", endpoint.reason)?;
    }
    if asked.endpoints.is_empty() { writeln!(f, "  no address is known") } else { Ok(()) }
}

/// The name of a route, with its path where that isn't said by it.
fn name(id: &str, path: &str) -> String {
    if id.ends_with(path) { id.to_owned() } else { format!("{id} {path}") }
}
