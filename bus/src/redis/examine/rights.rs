//! What the user may do: each kind of command that the bus sends is tried on keys of its namespace, which are gone after.

use redis::Value;

use super::{Finding, fault, fine, warning};
use crate::{
    Error,
    redis::{
        keys::Keys,
        server::{Server, unexpected},
    },
};

const PROBE: &str = include_str!("../lua/probe.lua");
pub(super) async fn examine(server: &Server, keys: &Keys) -> Result<Vec<Finding>, Error> {
    let key = keys.probe();
    let mut findings = Vec::new();
    // Alone, as outside of scripts: a user may be let do one and not the other.
    let mut alone = vec![redis::cmd("PING"), redis::cmd("HGETALL"), redis::cmd("XRANGE")];
    alone[1].arg(keys.queues());
    alone[2].arg(&key).arg("-").arg("+").arg("COUNT").arg(1);
    let mut script = redis::cmd("EVAL");
    script.arg(PROBE).arg(1).arg(&key).arg(keys.hint());
    for cmd in &alone {
        if let Err(error) = server.redis().ask(cmd).await {
            findings.push(denied(keys, &error.to_string()));
        }
    }
    match server.redis().ask(&script).await {
        Ok(Value::Array(refused)) => {
            for each in refused {
                let text: String = redis::from_redis_value(each).map_err(|_| unexpected())?;
                findings.push(denied(keys, &text));
            }
        }
        Ok(_) => return Err(unexpected()),
        // Full: nothing of it ran.
        Err(error) if error.code() == Some("OOM") => {
            let advice = "raise maxmemory, or settle and trim";
            findings.push(warning("rights", "the memory is full: what the user may do isn't known".to_owned(), advice));
        }
        Err(error) => findings.push(denied(keys, &error.to_string())),
    }
    if let Err(error) = server.redis().listen(&keys.hint()).await {
        findings.push(denied(keys, &format!("SUBSCRIBE {}: {error}", keys.hint())));
    }
    if findings.is_empty() {
        findings.push(fine("rights", "the user may do all that the bus does".to_owned()));
    }
    Ok(findings)
}

/// The advice is what docs/redis.md says.
fn denied(keys: &Keys, what: &str) -> Finding {
    let namespace = keys.namespace();
    let advice = format!("give the user ~{namespace}:* &{namespace}:* +@all -@dangerous +info");
    fault("rights", format!("Redis doesn't allow what the bus needs: {what}"), &advice)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// What a text calls: the words between this and the next quote.
    fn called<'a>(text: &'a str, call: &str) -> BTreeSet<&'a str> {
        text.split(call).skip(1).filter_map(|rest| rest.split('\'').next()).collect()
    }

    #[test]
    fn every_command_of_a_script_is_tried() {
        let tried = called(PROBE, "try('");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/redis/lua");
        let mut scripts = 0;
        for script in fs::read_dir(folder).unwrap() {
            let text = fs::read_to_string(script.unwrap().path()).unwrap();
            let untried: Vec<_> =
                called(&text, "redis.call('").difference(&tried).map(|name| (*name).to_owned()).collect();
            assert!(untried.is_empty(), "{untried:?}");
            scripts += 1;
        }
        assert!(scripts > 10);
    }
}
