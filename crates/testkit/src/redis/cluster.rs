//! A cluster: three primaries that share the slots evenly, each with replicas if wanted.

use super::{Redis, RedisOptions, process::PATIENCE};
use crate::{eventually, free_port};

const SLOTS: usize = 16_384;
const PRIMARIES: usize = 3;

pub struct RedisCluster {
    /// The three primaries at first, then their replicas, in turn.
    pub nodes: Vec<Redis>,
    tls: bool,
}

impl RedisCluster {
    /// Three primaries, `replicas` of each. A node that is silent for two seconds is taken for dead.
    ///
    /// # Panics
    /// If they don't start, or don't find each other.
    pub async fn start(replicas: usize, options: RedisOptions) -> Self {
        let (mut nodes, tls) = (Vec::new(), options.tls.is_some());
        for _ in 0..PRIMARIES * (1 + replicas) {
            let mut options = options.clone();
            options.settings.extend([
                ("cluster-enabled", "yes".to_owned()),
                ("cluster-port", free_port().to_string()),
                ("cluster-node-timeout", "2000".to_owned()),
                ("repl-diskless-sync-delay", "0".to_owned()),
            ]);
            if tls {
                options.settings.push(("tls-cluster", "yes".to_owned()));
            }
            nodes.push(Redis::start(options).await);
        }
        let cluster = Self { nodes, tls };
        cluster.meet().await;
        for (at, replica) in cluster.nodes.iter().enumerate().skip(PRIMARIES) {
            replica.command(&["CLUSTER", "REPLICATE", &cluster.id(at % PRIMARIES)]);
        }
        for replica in &cluster.nodes[PRIMARIES..] {
            replica.follows("up").await;
        }
        cluster.agrees().await;
        cluster
    }

    /// As `redis+cluster://127.0.0.1:PORT,…`; `rediss+cluster://…` where there is TLS.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("{}+cluster://{}", if self.tls { "rediss" } else { "redis" }, hosts.join(","))
    }

    /// A node's id in the cluster.
    pub fn id(&self, node: usize) -> String {
        self.nodes[node].command(&["CLUSTER", "MYID"])
    }

    /// The slot of a key.
    pub fn slot(&self, key: &str) -> u16 {
        self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).parse().expect("a slot")
    }

    /// The node that has a slot, as the nodes see it that answer.
    ///
    /// # Panics
    /// If none has.
    pub fn owner(&self, slot: u16) -> usize {
        let owns = |node: &Redis| {
            let nodes = node.process.command(&["CLUSTER", "NODES"]).unwrap_or_default();
            let own = nodes.lines().find(|line| line.contains("myself,master")).unwrap_or_default();
            own.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            })
        };
        self.nodes.iter().position(owns).expect("somebody has the slot")
    }

    /// Moves a slot with all its keys to another primary, a key at a time, as `redis-cli --cluster reshard` does.
    ///
    /// # Panics
    /// If a node refuses.
    pub fn reshard(&self, slot: u16, to: usize) {
        let from = self.owner(slot);
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let text = slot.to_string();
        let set = |node: &Redis, state: &str, other: usize| {
            assert_eq!(node.command(&["CLUSTER", "SETSLOT", &text, state, &self.id(other)]), "OK");
        };
        set(target, "IMPORTING", from);
        set(source, "MIGRATING", to);
        loop {
            let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &text, "1"]);
            let Some(key) = keys.lines().next() else { break };
            let port = target.port().to_string();
            let moved = source.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "10000"]);
            assert!(moved == "OK" || moved == "NOKEY", "{moved}");
        }
        set(target, "NODE", to);
        set(source, "NODE", to);
    }

    /// Waits until every node that answers says that the cluster is well.
    ///
    /// # Panics
    /// If that takes half a minute.
    pub async fn agrees(&self) {
        eventually("the cluster is well", PATIENCE, || {
            let well = |node: &Redis| {
                let info = node.process.command(&["CLUSTER", "INFO"]);
                info.is_err() || info.is_ok_and(|info| info.contains("cluster_state:ok"))
            };
            let all = self.nodes.iter().all(well);
            async move { all.then_some(()) }
        })
        .await;
    }

    async fn meet(&self) {
        for (at, node) in self.nodes.iter().enumerate() {
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
            if at < PRIMARIES {
                let (first, end) = (SLOTS * at / PRIMARIES, SLOTS * (at + 1) / PRIMARIES);
                node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()]);
            }
            let bus = self.nodes[0].command(&["CONFIG", "GET", "cluster-port"]);
            let bus = bus.lines().nth(1).unwrap_or_default();
            node.command(&["CLUSTER", "MEET", "127.0.0.1", &self.nodes[0].port().to_string(), bus]);
        }
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        eventually("the nodes know each other", PATIENCE, || {
            let all = self.nodes.iter().all(|node| node.command(&["CLUSTER", "INFO"]).contains(&known));
            async move { all.then_some(()) }
        })
        .await;
        self.agrees().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slot_moves_with_its_keys() {
        let cluster = RedisCluster::start(0, RedisOptions::default()).await;
        let slot = cluster.slot("{a}");
        let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
        cluster.nodes[from].command(&["SET", "{a}", "1"]);
        cluster.reshard(slot, to);
        assert_eq!(cluster.nodes[to].command(&["GET", "{a}"]), "1");
        assert!(cluster.nodes[from].command(&["GET", "{a}"]).starts_with("MOVED"));
    }

    #[tokio::test]
    async fn a_replica_takes_the_slots_of_a_dead_primary() {
        let mut cluster = RedisCluster::start(1, RedisOptions::default()).await;
        let slot = cluster.slot("a");
        let dead = cluster.owner(slot);
        cluster.nodes[dead].kill();
        eventually("its replica has them", PATIENCE, || {
            let took = cluster.nodes[PRIMARIES + dead].command(&["SET", "a", "1"]) == "OK";
            async move { took.then_some(()) }
        })
        .await;
        assert_eq!(cluster.owner(slot), PRIMARIES + dead);
    }
}
