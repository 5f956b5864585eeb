//! `turnpike bus …`: what may be said on the command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use events::{Address, Name};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(Args)]
pub struct Bus {
    #[command(flatten)]
    pub way: Way,
    #[command(subcommand)]
    pub command: Command,
}

/// The way in: a gateway (by default the one of `demo.env`), or Redis itself.
#[derive(Args)]
pub struct Way {
    /// A gateway in front of the bus; default: DEMO_URL, from the environment or the data folder's demo.env.
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// The key to show the gateway; default: the demo's operator signs in.
    #[arg(long, global = true, value_name = "KEY", env = "TURNPIKE_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Reads the bus in this Redis itself, past every gateway.
    #[arg(long, global = true, value_name = "URL", conflicts_with = "url")]
    pub redis: Option<String>,
    /// What the keys in Redis begin with.
    #[arg(long, global = true, value_name = "NAME", default_value_t = ::bus::redis::Options::default().namespace, hide = true)]
    pub namespace: String,
    /// Where demo.env is.
    #[arg(long, global = true, value_name = "FOLDER", default_value = "./turnpike-data")]
    pub data_dir: PathBuf,
    /// For people, or for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables.
    Text,
    /// One document; a line each where there is no end to it.
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// Publishes an event: `turnpike bus publish ORDERS/NOTE '{"text":"hello"}'`.
    Publish(Publish),
    /// The queues: how much they hold, and what they may. `queues set` changes a queue's settings, or makes one.
    #[command(args_conflicts_with_subcommands = true)]
    Queues {
        #[command(subcommand)]
        command: Option<Queues>,
    },
    /// The groups: how far behind, what is in flight, what is dead.
    Groups {
        /// Shows them again every second, with what was published and settled a second.
        #[arg(short, long)]
        watch: bool,
    },
    /// Follows the events of a queue.
    Tail(Tail),
    /// Shows an event with its data.
    Get(Event),
    /// Where an event stands with each group: pending, leased, retrying, parked, acked, dead, …
    Status(Status),
    /// Takes an event back that waits for its time (`publish --in`), by its id.
    Cancel {
        #[arg(value_name = "QUEUE", value_parser = |text: &str| Name::new(text))]
        queue: Name,
        #[arg(value_name = "ID")]
        id: String,
        /// Who published it; default: we did.
        #[arg(long)]
        source: Option<String>,
    },
    /// Dead letters: ls, show, redrive, discard.
    #[command(subcommand)]
    Dlq(Dlq),
    /// Moves a group to another place: what lies between comes again, or is passed over.
    Seek(Seek),
    /// Who is connected, members of groups included.
    Clients,
    /// Whether all is well, and what to do where it isn't. Ends with 1 where something is wrong.
    Doctor,
    /// Copies a bus from a SQLite file to Redis: events keep their positions, groups, cursors and outboxes go on.
    ///
    /// The file must not be in use (stop `turnpike up`), and isn't changed. The queues must not be in Redis yet. Should it be
    /// interrupted, say it again: it goes on where it was.
    Copy(Copy),
    /// Checks the bus's promises on a live Redis (--redis) in a namespace of its own, or on a file of its own.
    ///
    /// Publishes, claims, fails and reads as services do, writes down what it sees, and has that judged by a checker that
    /// knows nothing else. Other queues are not touched, and what it wrote is deleted. Ends with 1 where a promise was broken.
    Verify(Verify),
}

#[derive(Subcommand)]
pub enum Queues {
    /// Changes a queue's settings, or makes one; what isn't said stays, or has its default.
    Set(Set),
}

#[derive(Args)]
pub struct Set {
    #[arg(value_name = "QUEUE", value_parser = |text: &str| Name::new(text))]
    pub queue: Name,
    /// 1 to 256; fixed once the queue has events.
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// How long an event is kept, unless a group still needs it: `1m` to `3650d`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_age: Option<Duration>,
    /// The most events a partition keeps, or `none`.
    #[arg(long, value_name = "N", value_parser = limit)]
    pub max_len: Option<Limit>,
    /// The most bytes a partition keeps: `500MiB`, `2GiB`, or `none`.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_bytes: Option<Limit>,
    /// What becomes of a publish where groups still need all that may be kept.
    #[arg(long, value_name = "WHAT", value_enum)]
    pub overflow: Option<Overflow>,
    /// How long an event published again is known to be there: `0s` to `24h`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub dedupe: Option<Duration>,
    /// Each key's last event is known, and events may expect a version.
    #[arg(long, value_name = "BOOL")]
    pub latest: Option<bool>,
    /// A replay passes over its events.
    #[arg(long, value_name = "BOOL")]
    pub realtime: Option<bool>,
    /// What clients publish survives a flush of Redis.
    #[arg(long, value_name = "BOOL")]
    pub journal: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Overflow {
    /// It is refused.
    Reject,
    /// The oldest events make room, settled or not.
    #[value(alias = "drop_oldest")]
    DropOldest,
}

/// A number, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

/// Which event.
#[derive(Args)]
pub struct Event {
    /// As its publish answered it; with --queue the event's own id.
    #[arg(value_name = "CURSOR")]
    pub cursor: String,
    /// The queue that an id is of; it is found as far back as the queue's dedupe window reaches, also while it waits.
    #[arg(long, value_parser = |text: &str| Name::new(text))]
    pub queue: Option<Name>,
    /// Who published the id; default: we did.
    #[arg(long, requires = "queue")]
    pub source: Option<String>,
}

#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    pub event: Event,
    /// Shows it again when it changes, until every group is done with it. Ends with 1 where one has given up.
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Args)]
pub struct Copy {
    /// The file: `turnpike-data/bus.db`.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Where to: `redis://host:6379`.
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Says what would be copied, and writes nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
pub struct Verify {
    /// These cases alone: `C1,C4`.
    #[arg(long, value_name = "CASES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// What is left to chance; the same number, the same choices.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How often each case is run, each time with another seed.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat: u64,
}

#[derive(Args)]
pub struct Publish {
    /// Where to: `ORDERS/NOTE`.
    #[arg(value_name = "QUEUE/EVENT")]
    pub address: Address,
    /// The data, as JSON; `-` reads it from the standard input.
    pub data: Option<String>,
    /// The entity it is about: `products/42`.
    #[arg(long)]
    pub subject: Option<String>,
    /// What orders it; default: the subject.
    #[arg(long)]
    pub key: Option<String>,
    /// Its id: published twice, it is recorded once.
    #[arg(long)]
    pub id: Option<String>,
    /// The data is not JSON but of this media type.
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Where its receipt goes: `queue:ORDERS_REPLIES`.
    #[arg(long, value_name = "QUEUE")]
    pub reply_to: Option<String>,
    /// So long it waits before it is recorded; until then `cancel` takes it back.
    #[arg(long = "in", value_name = "DURATION", value_parser = duration)]
    pub later: Option<Duration>,
    /// Wait for: `stored`, `fsynced`, `replicated:N`, `delivered`, `delivered:GROUP,GROUP`.
    #[arg(long, value_name = "LEVEL", default_value = "stored")]
    pub confirm: String,
    /// The longest to wait for a level beyond `stored`, at most 60s.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// Each line of the standard input is an event's data.
    #[arg(long, conflicts_with_all = ["data", "id"])]
    pub batch: bool,
}

#[derive(Args)]
pub struct Tail {
    /// Which events: `ORDERS/*`, `DB/{CREATE,UPDATE}`.
    #[arg(value_name = "FILTER")]
    pub filter: String,
    /// Where to begin: `earliest`, `latest`, as long ago as `-5m`, or a cursor.
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    pub from: String,
    /// Ends after so many events.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

#[derive(Args)]
pub struct Seek {
    pub group: String,
    /// Where to: `earliest`, `latest`, a position of each partition, so long ago as `-5m`, or a time (RFC 3339).
    #[arg(long, allow_hyphen_values = true, value_name = "PLACE")]
    pub to: Target,
    /// Says what would happen, and does nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// A place that a group can be moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Earliest,
    Latest,
    Position(u64),
    Time(OffsetDateTime),
    Ago(Duration),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(ago) = text.strip_prefix('-').and_then(|ago| duration(ago).ok()) {
            return Ok(Self::Ago(ago));
        }
        if let Ok(position) = text.parse::<i64>() {
            return u64::try_from(position).map(Self::Position).map_err(|_| "a position is 1 or more".to_owned());
        }
        let time = OffsetDateTime::parse(text, &Rfc3339).map(Self::Time);
        time.map_err(|_| {
            "earliest, latest, a position, so long ago as -5m, or a time such as 2026-11-21T12:00:00Z".to_owned()
        })
    }
}

#[derive(Subcommand)]
pub enum Dlq {
    /// Lists a group's dead letters.
    Ls {
        group: String,
        /// At most so many.
        #[arg(short = 'n', long, default_value_t = 100)]
        count: usize,
    },
    /// Shows one, with its event and what went wrong.
    Show {
        group: String,
        /// As `ls` lists it: `0:42`.
        letter: Letter,
    },
    /// Gives dead letters to their group again.
    Redrive(Chosen),
    /// Forgets dead letters.
    Discard(Chosen),
}

#[derive(Args)]
pub struct Chosen {
    pub group: String,
    /// As `ls` lists them: `0:42`.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub letters: Vec<Letter>,
    /// All of the group's.
    #[arg(long)]
    pub all: bool,
}

/// A dead letter's partition and position: `0:42`, or `42` in the first partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    pub partition: u32,
    pub position: u64,
}

impl std::str::FromStr for Letter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (partition, position) = text.split_once(':').unwrap_or(("0", text));
        let number = || "a partition and a position, as in 0:42".to_owned();
        Ok(Self {
            partition: partition.parse().map_err(|_| number())?,
            position: position.parse().map_err(|_| number())?,
        })
    }
}

/// `300ms`, `5s`, `15m`, `12h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let duration = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)).filter(|_| millis > 0);
    duration.map(Duration::from_millis).ok_or_else(|| "a duration such as 500ms, 5s, 15m, 12h or 7d".to_owned())
}

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        number => number.parse().map(|number| Limit(Some(number))).map_err(|_| "a number, or none".to_owned()),
    }
}

/// `1048576`, `500MiB`, `2GiB`, `none`.
fn size(text: &str) -> Result<Limit, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let one: u64 = match unit {
        _ if text == "none" => return Ok(Limit(None)),
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => 0,
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(one)).filter(|_| one > 0);
    bytes.map(|bytes| Limit(Some(bytes))).ok_or_else(|| "a size such as 500MiB or 2GiB, or none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_named_as_it_is_listed() {
        assert_eq!("3:42".parse(), Ok(Letter { partition: 3, position: 42 }));
        assert_eq!("42".parse(), Ok(Letter { partition: 0, position: 42 }));
        for wrong in ["", ":", "a", "1:2:3", "-1:2"] {
            assert!(wrong.parse::<Letter>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_group_is_moved_to_a_place_in_one_of_five_forms() {
        assert_eq!("earliest".parse(), Ok(Target::Earliest));
        assert_eq!("42".parse(), Ok(Target::Position(42)));
        assert_eq!("-5m".parse(), Ok(Target::Ago(Duration::from_secs(300))));
        assert!(matches!("2026-11-21T12:00:00+01:00".parse(), Ok(Target::Time(_))));
        for wrong in ["", "-5", "-42", "yesterday", "2026-11-21", "99999999999999999999"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("2GiB"), Ok(Limit(Some(2 << 30))));
        assert_eq!((size("1048576"), size("none")), (Ok(Limit(Some(1 << 20))), Ok(Limit(None))));
        for wrong in ["", "GiB", "2GB", "-1", "99999999TiB", "none1"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        for wrong in ["", "5", "m", "5w", "-5m", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
