//! What goes on behind the page: reading, looking, saving, each at its pace, until the drain.

use std::time::Duration;

use bus::Bus;
use lifecycle::Readiness;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{board::Board, follow::Followers, gateways, store::Store, survey};

/// How often pages are told what changed.
const TELL_EVERY: Duration = Duration::from_millis(150);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long the bus may take to answer a look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// After this long it serves, caught up or not: the page says which queues are behind.
const CATCH_UP: Duration = Duration::from_secs(30);
const SAVE_LAST_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Work {
    pub bus: Bus,
    pub board: Board,
    pub store: Store,
    pub gateways: Vec<String>,
    pub readiness: Readiness,
}

impl Work {
    pub async fn run(self, draining: CancellationToken) {
        let mut followers = Followers::new(self.bus.clone(), self.board.clone());
        followers.follow(self.board.queues().iter());
        let mut gateways = JoinSet::new();
        for url in &self.gateways {
            self.board.gateway(url, gateways::unknown());
            gateways.spawn(gateways::watch(url.clone(), self.board.clone()));
        }
        tokio::select! {
            () = draining.cancelled() => {}
            never = self.look(&mut followers) => match never {},
            never = self.save() => match never {},
            never = self.tell() => match never {},
        }
        self.readiness.not_ready("role", "stopped");
        gateways.shutdown().await;
        followers.stop().await;
        match tokio::time::timeout(SAVE_LAST_TIMEOUT, self.save_now()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last counts are not saved: they will be made again"),
            Err(_) => tracing::error!("the last counts are not saved in time: they will be made again"),
        }
        self.store.close().await;
    }

    /// Finds queues, looks at groups and connections, and is ready once the first queues are caught up with.
    async fn look(&self, followers: &mut Followers) -> std::convert::Infallible {
        let begun = Instant::now();
        let mut timer = every(LOOK_EVERY);
        let mut ready = false;
        // Looked at more often until it is ready, so that a start takes no second.
        let mut eager = every(Duration::from_millis(50));
        loop {
            if ready {
                timer.tick().await
            } else {
                eager.tick().await
            };
            let looked = tokio::time::timeout(LOOK_TIMEOUT, survey::look(&self.bus, &self.board)).await;
            let trouble = match looked {
                Ok(Ok(queues)) => {
                    followers.follow(queues.iter());
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("the bus doesn't answer within {} s", LOOK_TIMEOUT.as_secs())),
            };
            if !ready {
                ready = self.is_ready(begun, trouble.as_deref());
            }
            self.board.trouble("bus", trouble);
            self.board.pass();
        }
    }

    fn is_ready(&self, begun: Instant, trouble: Option<&str>) -> bool {
        let (behind, queues) = self.board.behind();
        let reason = match trouble {
            Some(trouble) => trouble.to_owned(),
            None if behind > 0 => format!("catching up with {behind} of {queues} queues"),
            None => String::new(),
        };
        if reason.is_empty() || begun.elapsed() >= CATCH_UP {
            self.readiness.ready("role");
            return true;
        }
        self.readiness.not_ready("role", reason);
        false
    }

    async fn save(&self) -> std::convert::Infallible {
        let mut timer = every(SAVE_EVERY);
        loop {
            timer.tick().await;
            let trouble = match self.save_now().await {
                Ok(()) => None,
                Err(error) => {
                    tracing::warn!(%error, "the counts are not saved at the moment");
                    Some(format!("the counts are not saved: {error}"))
                }
            };
            self.board.trouble("database", trouble);
        }
    }

    async fn save_now(&self) -> Result<(), database::Error> {
        let unsaved = self.board.unsaved();
        if !unsaved.is_empty() {
            self.store.save(&unsaved).await?;
            self.board.saved(&unsaved);
        }
        Ok(())
    }

    async fn tell(&self) -> std::convert::Infallible {
        let mut timer = every(TELL_EVERY);
        loop {
            timer.tick().await;
            self.board.publish();
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut timer = tokio::time::interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}
