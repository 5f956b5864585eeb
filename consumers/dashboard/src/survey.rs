//! What the bus says of itself, asked every second: its queues, groups and connections.

use std::collections::BTreeMap;

use bus::{Bus, Error, GroupStatus, Mode, QueueStatus, Transport};
use events::Name;

use crate::{
    board::Board,
    view::{Connections, GroupTold, Log, milliseconds},
};

const LISTED: usize = 100;

/// Looks once; gives the queues' names.
pub(crate) async fn look(bus: &Bus, board: &Board) -> Result<Vec<Name>, Error> {
    let queues = bus.queues().await?;
    for queue in &queues {
        board.log(&queue.settings.name, log(queue));
    }
    let mut groups: Vec<GroupTold> = bus.groups().await?.into_iter().map(group).collect();
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    board.groups(groups);
    board.connections(connections(bus).await?);
    Ok(queues.into_iter().map(|queue| queue.settings.name).collect())
}

fn log(queue: &QueueStatus) -> Log {
    Log {
        partitions: queue.partitions.len(),
        head: queue.partitions.iter().map(|partition| partition.next.saturating_sub(1)).sum(),
        kept: queue.partitions.iter().map(|partition| partition.next.saturating_sub(partition.floor.max(1))).sum(),
    }
}

fn group(group: GroupStatus) -> GroupTold {
    GroupTold {
        name: group.name,
        filter: group.filter.to_string(),
        mode: match group.mode {
            Mode::Parallel => "parallel",
            Mode::Keyed => "keyed",
            Mode::Exclusive => "exclusive",
        },
        lag: group.lag,
        in_flight: group.in_flight,
        retrying: group.retrying,
        parked: group.parked,
        dead: group.dead,
        blocked: group.blocked_by_key,
        oldest: group.oldest.filter(|_| group.lag > 0).map(milliseconds),
    }
}

async fn connections(bus: &Bus) -> Result<Connections, Error> {
    let mut listed = bus.connections().await?;
    let mut transports = BTreeMap::new();
    for connection in &listed {
        *transports.entry(transport(connection.transport)).or_default() += 1;
    }
    let total = listed.len();
    listed.sort_by(|one, other| (one.since, &one.id).cmp(&(other.since, &other.id)));
    listed.truncate(LISTED);
    Ok(Connections { total, transports, listed })
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::WebSocket => "web_socket",
        Transport::Sse => "sse",
        Transport::LongPoll => "long_poll",
        Transport::Grpc => "grpc",
        Transport::Member => "member",
    }
}
