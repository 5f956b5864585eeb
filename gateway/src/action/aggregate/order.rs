//! Which part is asked after which, and which members the answer has: settled when the configuration loads.

use std::collections::HashMap;

use super::{
    super::ConfigError,
    Described, META,
    part::{Ask, Part},
};

/// The parts, none before one that it needs; those that don't matter to each other stay as they are written. Notes which are
/// read by others.
///
/// # Errors
/// Parts that wait for each other.
pub fn of(parts: &mut [Part]) -> Result<Vec<usize>, ConfigError> {
    let (mut order, mut placed) = (Vec::with_capacity(parts.len()), 0_u32);
    while order.len() < parts.len() {
        let next = parts.iter().enumerate().position(|(at, part)| placed & (1 << at) == 0 && part.needs & !placed == 0);
        let Some(next) = next else { return Err(circle(parts, placed)) };
        placed |= 1 << next;
        order.push(next);
    }
    let read = parts.iter().fold(0, |read, part| read | part.needs);
    parts.iter_mut().enumerate().for_each(|(at, part)| part.is_read = read & (1 << at) != 0);
    Ok(order)
}

/// A circle among the parts that could not be placed: each of them needs another of them.
fn circle(parts: &[Part], placed: u32) -> ConfigError {
    let left = |at: &usize| placed & (1 << at) == 0;
    let mut way: Vec<usize> = (0..parts.len()).filter(left).take(1).collect();
    while let Some(&last) = way.last() {
        let Some(next) = (0..parts.len()).filter(left).find(|at| parts[last].needs & (1 << at) != 0) else { break };
        if let Some(start) = way.iter().position(|at| *at == next) {
            way.drain(..start);
            way.push(next);
            break;
        }
        way.push(next);
    }
    let names: Vec<_> = way.iter().map(|at| parts[*at].name.as_str()).collect();
    let at = way.first().copied().unwrap_or_default();
    ConfigError::new(format!("[{at}]"), format!("waits for itself: {}", names.join(" needs ")))
}

/// Members of one name, and members that are given to what nobody sees.
pub fn collisions(parts: &[Part]) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut members: HashMap<(Option<usize>, &[String], &str), &str> =
        HashMap::from([((None, &[][..], META), "the answer")]);
    for (at, part) in parts.iter().enumerate() {
        let mut taken = |key: &str, owner, list, name| {
            if let Some(other) = members.insert((owner, list, name), &part.name) {
                errors.push(ConfigError::new(
                    format!("[{at}].{key}"),
                    format!("`{name}` is a member of {other} already"),
                ));
            }
        };
        match (&part.each, &part.flatten) {
            (Some(each), _) if let Some((_, name)) = &each.into => {
                taken("into", Some(each.list.part), &each.list.names, name);
            }
            (_, Some(names)) => names.iter().for_each(|name| taken("flatten", None, &[], name)),
            (_, None) => taken("part", None, &[], &part.name),
        }
    }
    for (at, part) in parts.iter().enumerate() {
        let Some(each) = part.each.as_ref().filter(|each| each.into.is_some()) else { continue };
        let source = &parts[each.list.part];
        let picked = source.pick.as_ref().map_or(&[][..], |pick| &pick.names);
        if !each.list.names.starts_with(picked) {
            let message = format!("`{}` picks something else than this list", source.name);
            errors.push(ConfigError::new(format!("[{at}].into"), message));
        }
    }
    errors
}

/// A part, for operators.
pub fn describe(parts: &[Part], at: usize) -> Described<'_> {
    let part = &parts[at];
    let after = (0..parts.len()).filter(|other| part.needs & (1 << other) != 0).map(|other| parts[other].name.as_str());
    let mut how = vec![match (part.required, &part.fallback) {
        (true, _) => "required".to_owned(),
        (false, Some(_)) => "with a fallback".to_owned(),
        (false, None) => "optional".to_owned(),
    }];
    how.push(format!("{:?}", part.timeout));
    if let Some(each) = &part.each {
        let is_batch = matches!(&part.ask, Ask::Rpc(rpc) if rpc.batch.is_some());
        let at_once = if is_batch { "in one call".to_owned() } else { format!("{} at once", each.concurrency) };
        how.push(format!("for each of at most {} elements, {at_once}", each.max_elements));
    }
    Described {
        name: &part.name,
        asks: part.asks(),
        upstream: part.upstream,
        after: after.collect(),
        how: how.join(", "),
    }
}
