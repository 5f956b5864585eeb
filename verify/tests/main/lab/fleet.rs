//! Several nodes on one bus, each behind an address that stays, on a network that does what it is told.

use std::net::SocketAddr;

use testkit::FaultProxy;

use super::{Brokers, Lab, Node};

pub(crate) struct Fleet {
    pub(crate) brokers: Brokers,
    /// None: it is dead.
    nodes: Vec<Option<Node>>,
    fronts: Vec<FaultProxy>,
}

impl Fleet {
    pub(crate) async fn start(lab: &Lab, brokers: Brokers, count: usize, seed: u64) -> anyhow::Result<Self> {
        let mut fleet = Self { brokers, nodes: Vec::new(), fronts: Vec::new() };
        for number in 0..count {
            let node = fleet.brokers.start(lab, anywhere()).await?;
            fleet.fronts.push(FaultProxy::start(node.address, seed + number as u64).await);
            fleet.nodes.push(Some(node));
        }
        Ok(fleet)
    }

    /// The way to a node; beyond the last one, from the first one on again.
    pub(crate) fn front(&self, number: usize) -> &FaultProxy {
        &self.fronts[number % self.fronts.len()]
    }

    /// The node itself, past the network.
    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        self.nodes[number % self.nodes.len()].as_ref().unwrap().address
    }

    /// Every connection is reset.
    pub(crate) fn cut(&self) {
        self.fronts.iter().for_each(FaultProxy::cut);
    }

    /// A node dies with all that is connected to it. Who comes to its address finds the next one that lives.
    pub(crate) async fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        if let Some(node) = self.nodes[number].take() {
            node.kill().await?;
        }
        let heir = self.nodes.iter().cycle().skip(number + 1).take(self.nodes.len()).flatten().next();
        if let Some(heir) = heir {
            self.fronts[number].aim(heir.address);
        }
        Ok(())
    }

    /// Another node in its place.
    pub(crate) async fn replace(&mut self, lab: &Lab, number: usize) -> anyhow::Result<()> {
        self.replace_at(lab, number, anywhere()).await
    }

    /// The same, at the address of the dead one.
    pub(crate) async fn replace_at(&mut self, lab: &Lab, number: usize, at: SocketAddr) -> anyhow::Result<()> {
        let node = self.brokers.start(lab, at).await?;
        self.fronts[number].aim(node.address);
        self.nodes[number] = Some(node);
        Ok(())
    }
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
