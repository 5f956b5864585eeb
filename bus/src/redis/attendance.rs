//! Who attends, beside the partitions of `PRESENCE` and `ROOMS`: one script takes in what a node tells, finds what follows
//! from that and from the time, and records it.

use std::{collections::BTreeMap, sync::LazyLock};

use events::Name;
use futures_util::future::try_join_all;
use redis::{FromRedisValue as _, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    latest, publisher,
    queue::{self, Shape},
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{
    Attended, Error, Partition, Queue,
    clock::moment,
    metrics,
    presence::{
        self, Attendee, BOUNDS, Crowded, MOST_CONNECTIONS, MOST_MEMBERS, Member, Members, Move, Room, Scope, Template,
        Told,
    },
};

static ATTEND: LazyLock<Script> = LazyLock::new(|| Script::recording(include_str!("lua/attend.lua"), WhenFull::Runs));

/// Members of a room that are read at once, about.
const PAGE: usize = 1000;

pub(super) async fn attend(shared: &Shared, queue: &Name, partition: u32, told: Told) -> Result<Attended, Error> {
    let known = match shared.find_queue(queue).await? {
        Some(known) => known,
        // Nobody ever was there.
        None if told.steps.is_empty() => return Ok(Attended::default()),
        None => made(shared, queue).await?,
    };
    let keys = shared.keys().attendance(queue, partition);
    let keys = [keys.heard, keys.due, keys.scopes, keys.users, keys.told];
    let place = shared.place(queue, partition);
    let now = shared.now_in(&place);
    let time = |millis: i64| moment(millis).format(&Rfc3339).map_err(|_| unexpected());
    let (silent_since, now) = (time(now - BOUNDS.silence)?, time(now)?);
    let template = if *queue == presence::presence() { Template::presence() } else { Template::rooms() };
    let numbers = [
        BOUNDS.silence.to_string(),
        BOUNDS.grace.to_string(),
        BOUNDS.leap.to_string(),
        BOUNDS.piece.to_string(),
        MOST_CONNECTIONS.to_string(),
        MOST_MEMBERS.to_string(),
        silent_since,
    ];
    let (capacity, reach) = (shared.dedupe_events.to_string(), known.dedupe.as_millis().to_string());
    let shape = Shape::of(&known).text();
    let texts = [
        queue.as_str(),
        &capacity,
        &reach,
        if known.latest { "1" } else { "0" },
        &shape,
        &told.node,
        &now,
        &template.arrival,
        &template.departure,
    ];
    let mut args: Vec<&[u8]> = texts.map(str::as_bytes).to_vec();
    args.extend([publisher::DIGESTS.as_bytes().as_slice(), latest::DIGESTS.as_bytes(), Template::source().as_bytes()]);
    args.extend(numbers.iter().map(String::as_bytes));
    for step in &told.steps {
        let what = match step.what {
            Move::Enter => "e",
            Move::Cut => "c",
            Move::Leave => "l",
        };
        args.extend([what, step.scope.as_str(), &step.user, &step.connection].map(str::as_bytes));
    }
    let ran = shared.run_on(&ATTEND, &place, &keys, &args).await?;
    if let Value::Int(_) = ran.value {
        shared.ask_queue(queue).await?;
        return Err(Error::Unavailable(format!("{queue} has other partitions now")));
    }
    let answer = Vec::<u64>::from_redis_value(ran.value).map_err(|_| unexpected())?;
    let [known, more, users, rooms, arrived, departed, outcomes @ ..] = answer.as_slice() else {
        return Err(unexpected());
    };
    metrics::transitions(queue, *arrived, *departed);
    let outcome = |outcome: &u64| match outcome {
        0 => Ok(()),
        1 => Err(Crowded::Connections),
        _ => Err(Crowded::Members),
    };
    Ok(Attended {
        lineage: ran.view.lineage,
        known: *known == 1,
        more: *more == 1,
        there: if *queue == presence::presence() { *users } else { *rooms },
        outcomes: outcomes.iter().map(outcome).collect(),
    })
}

async fn made(shared: &Shared, name: &Name) -> Result<std::sync::Arc<Queue>, Error> {
    queue::declare(shared, Queue::initial(name.clone())).await?;
    shared.find_queue(name).await?.ok_or_else(unexpected)
}

/// See [`crate::Bus::online`].
pub(super) async fn attending(
    shared: &Shared,
    scope: &Scope,
    users: &[String],
) -> Result<Vec<Option<Attendee>>, Error> {
    let queue = scope.queue();
    let Some(known) = shared.find_queue(&queue).await? else { return Ok(vec![None; users.len()]) };
    let mut asked: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, user) in users.iter().enumerate() {
        asked.entry(Partition::of(scope.key(user), known.partitions).index).or_default().push(at);
    }
    let asking = asked.into_iter().map(|(partition, places)| {
        let mut get = redis::cmd("HMGET");
        get.arg(format!("{}{}", shared.keys().attendance(&queue, partition).users, scope.as_str()));
        for at in &places {
            get.arg(&users[*at]);
        }
        async move { Ok::<_, Error>((places, shared.server.ask::<Vec<Option<String>>>(&get).await?)) }
    });
    let mut standings = vec![None; users.len()];
    for (places, stored) in try_join_all(asking).await? {
        for (at, stored) in places.into_iter().zip(stored) {
            standings[at] = stored.and_then(|text| read(&text));
        }
    }
    Ok(standings)
}

/// See [`crate::Bus::members`].
pub(super) async fn members(shared: &Shared, room: &Room, after: Option<&str>, limit: usize) -> Result<Members, Error> {
    let queue = presence::rooms();
    let Some(known) = shared.find_queue(&queue).await? else { return Ok(Members::default()) };
    let after = after.unwrap_or("0");
    if after.is_empty() || !after.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Invalid("after: is not what a page gave as next".to_owned()));
    }
    let partition = Partition::of(room.as_str(), known.partitions).index;
    let key = format!("{}{room}", shared.keys().attendance(&queue, partition).users);
    let mut both = redis::pipe();
    both.cmd("HSCAN").arg(&key).arg(after).arg("COUNT").arg(limit.clamp(1, PAGE)).hlen(&key);
    let ((next, found), count): ((String, Vec<(String, String)>), u64) = shared.server.ask_all(&both).await?;
    let member = |(user, text): (String, String)| {
        let Attendee { since, connections, .. } = read(&text)?;
        Some(Member { user, since, connections })
    };
    let members = found.into_iter().filter_map(member).collect();
    Ok(Members { members, count, next: Some(next).filter(|next| next != "0") })
}

/// As `lua/attend.lua` writes it.
fn read(text: &str) -> Option<Attendee> {
    let mut parts = text.splitn(4, ' ');
    let (since, _, seen, seats) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let connections = seats.matches(';').count();
    Some(Attendee {
        since: OffsetDateTime::parse(since, &Rfc3339).ok()?,
        seen: OffsetDateTime::parse(seen, &Rfc3339).ok().filter(|_| connections == 0),
        connections,
    })
}
