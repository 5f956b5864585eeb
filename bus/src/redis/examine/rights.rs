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
/// What docs/redis.md says.
const ADVICE: &str = "give the user ~tp:* &tp:* +@all -@dangerous +info (`tp` is the namespace)";

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
            findings.push(denied(&error.to_string()));
        }
    }
    match server.redis().ask(&script).await {
        Ok(Value::Array(refused)) => {
            for each in refused {
                let text: String = redis::from_redis_value(each).map_err(|_| unexpected())?;
                findings.push(denied(&text));
            }
        }
        Ok(_) => return Err(unexpected()),
        // Full: nothing of it ran.
        Err(error) if error.code() == Some("OOM") => {
            let advice = "raise maxmemory, or settle and trim";
            findings.push(warning("rights", "the memory is full: what the user may do isn't known".to_owned(), advice));
        }
        Err(error) => findings.push(denied(&error.to_string())),
    }
    if let Err(error) = server.redis().listen(&keys.hint()).await {
        findings.push(denied(&format!("SUBSCRIBE {}: {error}", keys.hint())));
    }
    if findings.is_empty() {
        findings.push(fine("rights", "the user may do all that the bus does".to_owned()));
    }
    Ok(findings)
}

fn denied(what: &str) -> Finding {
    fault("rights", format!("Redis doesn't allow what the bus needs: {what}"), ADVICE)
}
