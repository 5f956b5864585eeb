//! Three sentinels that watch a primary, and make one of its replicas the primary when it is gone for a second.

use std::{fs, time::Duration};

use super::{
    Redis, Tls,
    process::{PATIENCE, Process, folder, program},
};
use crate::{eventually, free_port};

/// What the sentinels call the primary they watch.
pub const PRIMARY: &str = "events";

pub struct RedisSentinels {
    sentinels: Vec<(u16, Process)>,
    tls: bool,
}

impl RedisSentinels {
    /// They know of `replicas` of them when this returns, and of each other.
    ///
    /// # Panics
    /// If they don't start, or don't find each other.
    pub async fn watching(primary: &Redis, replicas: usize) -> Self {
        Self::watching_by(primary, replicas, None, None).await
    }

    /// By TLS, to which they hold all who ask them, and as a user of the servers: its name and its password.
    ///
    /// # Panics
    /// As [`RedisSentinels::watching`].
    pub async fn watching_by(primary: &Redis, replicas: usize, tls: Option<&Tls>, user: Option<(&str, &str)>) -> Self {
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(start(primary.port(), tls, user).await);
        }
        let sentinels = Self { sentinels, tls: tls.is_some() };
        eventually("the sentinels know each other and the replicas", PATIENCE, || {
            let know = sentinels.sentinels.iter().all(|(_, sentinel)| {
                let about = sentinel.command(&["SENTINEL", "MASTER", PRIMARY]).unwrap_or_default();
                let fields: Vec<&str> = about.lines().collect();
                let is = |name: &str, value: usize| {
                    fields.chunks(2).any(|field| field[0] == name && field.get(1) == Some(&value.to_string().as_str()))
                };
                is("num-other-sentinels", 2) && is("num-slaves", replicas)
            });
            async move { know.then_some(()) }
        })
        .await;
        sentinels
    }

    /// As `redis+sentinel://127.0.0.1:PORT,…/events`; `rediss+sentinel://…` where there is TLS.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}+sentinel://{}/{PRIMARY}", hosts.join(","))
    }

    /// The port of whom the first of them takes for the primary.
    pub fn named(&self) -> Option<u16> {
        primary(&self.sentinels[0].1)
    }

    /// Waits until all of them take somebody else for the primary; its port.
    ///
    /// # Panics
    /// If they don't within half a minute.
    pub async fn failover_from(&self, former: u16) -> u16 {
        eventually("the sentinels agree on another primary", PATIENCE, || {
            let mut ports = self.sentinels.iter().map(|(_, sentinel)| primary(sentinel));
            let first = ports.next().flatten().filter(|port| *port != former);
            let agreed = first.filter(|first| ports.all(|port| port == Some(*first)));
            async move { agreed }
        })
        .await
    }

    /// What an operator might type at the first of them.
    ///
    /// # Panics
    /// If it isn't there.
    pub fn command(&self, words: &[&str]) -> String {
        self.sentinels[0].1.command(words).expect("the sentinel answers")
    }

    /// Kills one of them for good.
    pub fn kill(&mut self, which: usize) {
        self.sentinels[which].1.kill();
    }
}

fn primary(sentinel: &Process) -> Option<u16> {
    let address = sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY]).ok()?;
    address.lines().nth(1)?.parse().ok()
}

async fn start(primary: u16, tls: Option<&Tls>, user: Option<(&str, &str)>) -> (u16, Process) {
    for _ in 0..10 {
        let port = free_port();
        let folder = folder();
        // It writes what it learns into its file.
        let file = folder.path().join("sentinel.conf");
        let mut text = vec![
            "bind 127.0.0.1".to_owned(),
            "user testkit on >testkit ~* &* +@all".to_owned(),
            format!("sentinel monitor {PRIMARY} 127.0.0.1 {primary} 2"),
            format!("sentinel down-after-milliseconds {PRIMARY} {}", Duration::from_secs(1).as_millis()),
            format!("sentinel failover-timeout {PRIMARY} {}", Duration::from_secs(3).as_millis()),
        ];
        match tls {
            None => text.push(format!("port {port}")),
            Some(tls) => {
                let clients = if tls.mutual { "yes" } else { "no" };
                text.extend(["port 0".to_owned(), format!("tls-port {port}"), format!("tls-auth-clients {clients}")]);
                text.push("tls-replication yes".to_owned());
                text.extend(tls.certificates.of_the_server().map(|(name, path)| format!("{name} {}", path.display())));
            }
        }
        if let Some((name, password)) = user {
            text.push(format!("sentinel auth-user {PRIMARY} {name}"));
            text.push(format!("sentinel auth-pass {PRIMARY} {password}"));
        }
        fs::write(&file, text.join("\n") + "\n").expect("a file in the folder");
        let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
        if let Some(process) = Process::start_in(folder, program(), arguments).await {
            return (port, process);
        }
    }
    panic!("redis-server --sentinel doesn't start, on any of ten ports");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RedisOptions, redis};

    #[tokio::test]
    async fn a_replica_is_made_the_primary_when_that_is_gone() {
        let mut primary = redis().await;
        let replica = primary.replica(RedisOptions::default()).await;
        let sentinels = RedisSentinels::watching(&primary, 1).await;
        assert_eq!(sentinels.named(), Some(primary.port()));
        primary.kill();
        assert_eq!(sentinels.failover_from(primary.port()).await, replica.port());
        assert_eq!(replica.command(&["SET", "a", "1"]), "OK");
    }
}
