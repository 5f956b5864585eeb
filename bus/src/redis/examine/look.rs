//! What is looked at on a server, one thing a function.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Finding, Info, fault, fine, warning};

/// The first version that is enough.
const MAJOR: u32 = 7;
/// Clocks that are further apart are told of.
const SKEW: Duration = Duration::from_secs(5);
/// An answer that takes longer is slow for a bus: each publish waits for one.
const SLOW: Duration = Duration::from_millis(10);
/// Of the memory allowed, in percent, what is nearly all.
const NEARLY_FULL: u64 = 90;
/// Replicas that were silent for longer, in seconds, are behind.
const BEHIND: u64 = 10;

pub(super) fn version(info: &Info) -> Finding {
    let version = info.text("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= MAJOR) {
        return fine("version", format!("Redis {version}"));
    }
    fault("version", format!("Redis is of version {version:?}"), "install 7.0 or later")
}

pub(super) fn role(info: &Info) -> Finding {
    match info.text("role") {
        "master" => fine("role", "a primary".to_owned()),
        role => fault("role", format!("Redis is a {role} here"), "use the URL of the primary, or of its Sentinels"),
    }
}

pub(super) fn eviction(info: &Info) -> Finding {
    match info.text("maxmemory_policy") {
        "noeviction" => fine("eviction", "nothing is evicted".to_owned()),
        policy => fault(
            "eviction",
            format!("Redis evicts keys when its memory is full (maxmemory-policy {policy})"),
            "set maxmemory-policy to noeviction, or events are lost silently",
        ),
    }
}

pub(super) fn memory(info: &Info) -> Finding {
    let mebibytes = |bytes: u64| bytes >> 20;
    let (used, most) = (info.number("used_memory").unwrap_or(0), info.number("maxmemory").unwrap_or(0));
    if most == 0 {
        let what = format!("{} MiB are used, without a limit", mebibytes(used));
        return fine("memory", what);
    }
    let what = format!("{} of {} MiB are used", mebibytes(used), mebibytes(most));
    if used.saturating_mul(100) < most.saturating_mul(NEARLY_FULL) {
        return fine("memory", what);
    }
    let advice = "raise maxmemory, keep less (max_age, max_bytes), or see which group doesn't settle: a full Redis takes \
                  no events";
    warning("memory", what, advice)
}

pub(super) fn persistence(info: &Info, fsync: Option<&str>) -> Finding {
    let guard = "persistence";
    if info.is("loading", "1") {
        return warning(guard, "it loads its data".to_owned(), "wait");
    }
    if !info.is("aof_enabled", "1") {
        let advice = "set appendonly to yes; without it a restart loses what came after the last snapshot";
        return warning(guard, "nothing is written to disk as it comes (appendonly no)".to_owned(), advice);
    }
    for (name, what) in [
        ("aof_last_write_status", "the last write to disk failed"),
        ("aof_last_bgrewrite_status", "the log on disk could not be written anew"),
        ("rdb_last_bgsave_status", "the last snapshot failed"),
    ] {
        if info.is(name, "err") {
            return warning(
                guard,
                what.to_owned(),
                "see Redis's log: mostly the disk is full or there is no memory to fork",
            );
        }
    }
    let what = match fsync {
        Some("always") => "each command is on disk before it is answered: `fsynced` can be confirmed",
        Some("everysec") => "on disk once a second: a power cut loses two seconds at most, and readers are told",
        Some("no") => "on disk when the system likes: a power cut loses up to half a minute, and readers are told",
        _ => "written to disk as it comes; how soon it is there isn't told without +config|get",
    };
    fine(guard, what.to_owned())
}

pub(super) fn replicas(info: &Info) -> Finding {
    let count = info.number("connected_slaves").unwrap_or(0);
    let behind = (0..count).filter(|at| {
        let about = info.text(&format!("slave{at}"));
        let field = |name: &str| about.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let lag = field("lag").and_then(|lag| lag.parse::<u64>().ok()).unwrap_or(0);
        field("state") != Some("online") || lag > BEHIND
    });
    match (count, behind.count()) {
        (0, _) => fine("replicas", "no replica: what is lost with this server is lost".to_owned()),
        (count, 0) => fine("replicas", format!("replicas that keep up: {count}")),
        (count, behind) => warning(
            "replicas",
            format!("{behind} of {count} replicas don't keep up"),
            "see their logs: a failover now loses what they don't have, and readers are told",
        ),
    }
}

/// And by how many milliseconds the server is ahead.
pub(super) fn clock(info: &Info, took: Duration) -> (Finding, i64) {
    let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let Some(there) = info.number("server_time_usec").map(Duration::from_micros) else {
        return (fine("clock", "it doesn't tell its time".to_owned()), 0);
    };
    let apart = here.abs_diff(there).saturating_sub(took);
    let millis = i64::try_from(apart.as_millis()).unwrap_or(i64::MAX);
    let (skew, which) = if there > here { (millis, "ahead of") } else { (-millis, "behind") };
    let what = format!("its clock is {:.1} s {which} this machine's", apart.as_secs_f64());
    let advice = "set both by NTP: leases and retries go by Redis's clock, the times in events by their producers'";
    (if apart > SKEW { warning("clock", what, advice) } else { fine("clock", what) }, skew)
}

pub(super) fn latency(fastest: Duration) -> Finding {
    if fastest == Duration::MAX {
        return warning(
            "latency",
            "no PING was answered".to_owned(),
            "see whether a command or the disk blocks it: SLOWLOG GET",
        );
    }
    let what = format!("an answer takes {:.2} ms", fastest.as_secs_f64() * 1000.0);
    if fastest < SLOW {
        return fine("latency", what);
    }
    warning("latency", what, "run the bus near its Redis, and see what slows it: SLOWLOG GET, LATENCY DOCTOR")
}

/// `asked_as_one`: by the URL of a Cluster. `state`: what CLUSTER INFO says.
pub(super) fn cluster(info: &Info, asked_as_one: bool, state: &Info) -> Finding {
    match (info.is("cluster_enabled", "1"), asked_as_one) {
        (false, false) => fine("cluster", "no Cluster".to_owned()),
        (true, false) => {
            fault("cluster", "it is a node of a Cluster".to_owned(), "use redis+cluster://host:port,host:port")
        }
        (false, true) => fault("cluster", "it is no Cluster".to_owned(), "use redis://host:port"),
        (true, true) => match state.text("cluster_state") {
            "ok" => fine("cluster", format!("a Cluster of {} primaries", state.text("cluster_size"))),
            _ => warning(
                "cluster",
                format!("the Cluster is down: {} of 16384 slots are served", state.text("cluster_slots_ok")),
                "see `redis-cli --cluster check`: partitions whose slot nobody serves wait",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    /// What is found of a server whose clock is so many seconds ahead.
    fn ahead(seconds: i64) -> (Finding, i64) {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        let info = format!("# Server\r\nserver_time_usec:{}\r\n", now + seconds * 1_000_000);
        clock(&Info::read(&info), Duration::ZERO)
    }

    #[test]
    fn a_clock_that_is_minutes_away_is_warned_of() {
        for (seconds, which) in [(120, "ahead of"), (-120, "behind")] {
            let (finding, skew) = ahead(seconds);
            assert_eq!(
                (finding.level, (skew / 1000 - seconds).abs() < 30),
                (Level::Warning, true),
                "{finding:?}, {skew}"
            );
            assert!(finding.what.contains(which) && finding.advice.contains("NTP"), "{finding:?}");
        }
        assert_eq!(clock(&Info::read("redis_version:7.0.15"), Duration::ZERO).0.level, Level::Fine);
    }

    #[test]
    fn what_the_answer_took_is_no_skew() {
        let info = Info::read("server_time_usec:0");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert_eq!(clock(&info, now + Duration::from_secs(60)).0.level, Level::Fine);
    }
}
