//! Which levels of confirmation the server can give, as it said within the last second.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use redis::RedisError;

use super::{server::unavailable, shared::Shared};
use crate::{Confirm, Error, PublishOptions};

/// The first version with WAITAOF.
const WAITS_FOR_DISK: (u32, u32) = (7, 2);

/// What the server can do.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// It writes everything to disk before it answers.
    fsyncs: AtomicBool,
    /// It can tell when something is on disk.
    waits_for_disk: AtomicBool,
    /// Replicas that keep up.
    replicas: AtomicU8,
}

/// What is to be done so that a level is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// Nothing: whatever is recorded has it.
    Has(Confirm),
    /// To wait for it ([`super::wait`]).
    Waits(Confirm),
}

/// How the server gives what is asked for; or less, if that will do.
///
/// # Errors
/// [`Error::NotGiven`] if it can't; the text says what to change.
pub(super) async fn means(shared: &Shared, options: &PublishOptions) -> Result<Means, Error> {
    match (of(&shared.offer, options), options.confirm) {
        // Perhaps it can since a moment ago.
        (Err(_), Confirm::Fsynced | Confirm::Replicated(_)) => {
            learn(shared).await?;
            of(&shared.offer, options)
        }
        (means, _) => means,
    }
}

/// What has what was recorded just now, by a server that was to write it to disk at once; perhaps another one answered.
pub(super) async fn fsynced(shared: &Shared) -> Confirm {
    let fsyncs = || shared.offer.fsyncs.load(Ordering::Relaxed);
    let known = fsyncs() || learn(shared).await.is_ok();
    if known && fsyncs() { Confirm::Fsynced } else { Confirm::Stored }
}

impl Offer {
    /// Another server answers than before, or the same that began anew: it must be asked.
    pub(super) fn forget(&self) {
        self.fsyncs.store(false, Ordering::Relaxed);
    }
}

fn of(offer: &Offer, options: &PublishOptions) -> Result<Means, Error> {
    let replicas = offer.replicas.load(Ordering::Relaxed);
    let lack = match options.confirm {
        Confirm::Stored => return Ok(Means::Has(Confirm::Stored)),
        Confirm::Fsynced if offer.fsyncs.load(Ordering::Relaxed) => return Ok(Means::Has(Confirm::Fsynced)),
        Confirm::Fsynced if offer.waits_for_disk.load(Ordering::Relaxed) => {
            return Ok(Means::Waits(Confirm::Fsynced));
        }
        Confirm::Replicated(wanted) if wanted <= replicas => return Ok(Means::Waits(options.confirm)),
        _ if options.allow_degraded && matches!(options.confirm, Confirm::Replicated(_)) && replicas > 0 => {
            return Ok(Means::Waits(Confirm::Replicated(replicas)));
        }
        _ if options.allow_degraded => return Ok(Means::Has(Confirm::Stored)),
        Confirm::Fsynced => {
            "this Redis can't confirm what is on disk: set its appendonly to yes, and its appendfsync to always, or to \
             everysec from version 7.2 on"
                .to_owned()
        }
        Confirm::Replicated(wanted) => format!("this Redis has {replicas} replicas that keep up, not {wanted}"),
    };
    Err(Error::NotGiven(lack))
}

/// Asks the server. What it won't tell, it can't do.
pub(super) async fn learn(shared: &Shared) -> Result<(), Error> {
    let (server, offer) = (&shared.server, &shared.offer);
    let settings = server.ask_each(redis::cmd("CONFIG").arg("GET").arg("append*")).await?;
    let infos = server.ask_each(redis::cmd("INFO").arg("server").arg("persistence").arg("replication")).await?;
    let settings = settings.into_iter().map(|(_, answer)| {
        let settings = answer.and_then(|answer| Ok(redis::from_redis_value(answer)?));
        settings.unwrap_or_default()
    });
    let settings: Vec<HashMap<String, String>> = settings.collect();
    let is = |of: &HashMap<String, String>, name: &str, value: &str| of.get(name).is_some_and(|set| set == value);
    // Of several servers, what all of them can.
    let fsyncs = settings.iter().all(|of| is(of, "appendonly", "yes") && is(of, "appendfsync", "always"));
    offer.fsyncs.store(fsyncs, Ordering::Relaxed);
    // One that leaves it to the system never hears when it is.
    let hears = settings.iter().all(|of| !is(of, "appendfsync", "no"));
    let infos: Result<Vec<String>, RedisError> =
        infos.into_iter().map(|(_, answer)| Ok(redis::from_redis_value(answer?)?)).collect();
    let infos = infos.map_err(|error| unavailable(&error))?;
    offer.waits_for_disk.store(hears && infos.iter().all(|info| waits_for_disk(info)), Ordering::Relaxed);
    offer.replicas.store(infos.iter().map(|info| replicas(info)).min().unwrap_or(0), Ordering::Relaxed);
    Ok(())
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn waits_for_disk(info: &str) -> bool {
    let mut version = field(info, "redis_version").unwrap_or_default().split('.').map_while(|part| part.parse().ok());
    let version: Option<(u32, u32)> = version.next().zip(version.next());
    field(info, "aof_enabled") == Some("1") && version.is_some_and(|version| version >= WAITS_FOR_DISK)
}

/// `slave0:ip=…,port=…,state=online,…`: one that is still being sent the data isn't counted.
fn replicas(info: &str) -> u8 {
    let online = |line: &&str| {
        let number = line.strip_prefix("slave").and_then(|rest| rest.split_once(':')).map(|(number, _)| number);
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())) && line.contains("state=online")
    };
    u8::try_from(info.lines().filter(online).count()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(fsyncs: bool, waits_for_disk: bool, replicas: u8) -> Offer {
        Offer { fsyncs: fsyncs.into(), waits_for_disk: waits_for_disk.into(), replicas: replicas.into() }
    }

    fn asked(confirm: Confirm, allow_degraded: bool) -> PublishOptions {
        PublishOptions { confirm, allow_degraded, ..PublishOptions::default() }
    }

    #[test]
    fn a_level_is_given_by_what_the_server_can_do() {
        use Confirm::{Fsynced, Replicated, Stored};
        for (offer, confirm, expected, degraded) in [
            (offer(false, false, 0), Stored, Some(Means::Has(Stored)), Means::Has(Stored)),
            (offer(true, true, 0), Fsynced, Some(Means::Has(Fsynced)), Means::Has(Fsynced)),
            (offer(false, true, 0), Fsynced, Some(Means::Waits(Fsynced)), Means::Waits(Fsynced)),
            (offer(false, false, 3), Fsynced, None, Means::Has(Stored)),
            (offer(true, false, 2), Replicated(2), Some(Means::Waits(Replicated(2))), Means::Waits(Replicated(2))),
            (offer(true, false, 1), Replicated(2), None, Means::Waits(Replicated(1))),
            (offer(true, false, 0), Replicated(1), None, Means::Has(Stored)),
        ] {
            assert_eq!(of(&offer, &asked(confirm, false)).ok(), expected, "{confirm}");
            assert_eq!(of(&offer, &asked(confirm, true)).unwrap(), degraded, "{confirm}");
        }
    }

    #[test]
    fn what_info_says_is_understood() {
        let info = "redis_version:7.2.4\r\naof_enabled:1\r\nrole:master\r\nconnected_slaves:2\r\n\
                    slave0:ip=127.0.0.1,port=1,state=online,offset=0,lag=0\r\n\
                    slave1:ip=127.0.0.1,port=2,state=wait_bgsave,offset=0,lag=0\r\nslave_read_repl_offset:9\r\n";
        assert!(waits_for_disk(info));
        assert_eq!(replicas(info), 1);
        assert!(!waits_for_disk(&info.replace("7.2.4", "7.0.15")));
        assert!(!waits_for_disk(&info.replace("aof_enabled:1", "aof_enabled:0")));
    }
}
