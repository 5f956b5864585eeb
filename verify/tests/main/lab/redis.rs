//! A Redis of one's own.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use bus::{
    Bus,
    redis::{Options, Redis},
};
use testkit::{FaultProxy, RedisOptions};
use tokio::sync::{Mutex, OnceCell};

use super::{Door, Setup, Stepping};

pub(crate) struct RedisLab {
    pub(crate) server: Mutex<testkit::Redis>,
    pub(crate) proxy: Option<FaultProxy>,
    pub(crate) clock: Stepping,
    url: String,
    folder: PathBuf,
    steps: bool,
    /// The node that is told to keep house.
    keeper: OnceCell<Redis>,
}

impl RedisLab {
    pub(super) async fn open(setup: &Setup) -> Self {
        let options = RedisOptions { aof: setup.aof, settings: setup.settings.clone(), ..RedisOptions::default() };
        let server = testkit::Redis::start(options).await;
        let (mut url, mut proxy) = (server.url(), None);
        if setup.proxied {
            let through = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], server.port())), 7).await;
            url = format!("redis://{}", through.address());
            proxy = Some(through);
        }
        let folder = server.folder().to_owned();
        let clock = Stepping::default();
        let (server, steps) = (Mutex::new(server), setup.clock);
        Self { server, proxy, clock, url, folder, steps, keeper: OnceCell::new() }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Past the network that can fail.
    pub(crate) async fn direct(&self) -> String {
        self.server.lock().await.url()
    }

    fn options(&self) -> Options {
        let mut options = Options::default();
        if self.steps {
            options.clock = Some(Arc::new(self.clock.clone()));
        }
        options
    }

    pub(super) async fn node(&self) -> anyhow::Result<Bus> {
        Ok(Bus::new(Redis::open(&self.url, self.options()).await?))
    }

    pub(super) fn door(&self) -> Door {
        Door::Redis(self.url.clone(), self.options())
    }

    pub(super) async fn housekeep(&self) -> anyhow::Result<()> {
        let keeper = self.keeper.get_or_try_init(|| Redis::open(&self.url, self.options())).await?;
        Ok(keeper.housekeep().await?)
    }

    /// The file that commands are appended to.
    pub(crate) fn log(&self) -> PathBuf {
        let folder = self.folder.join("appendonlydir");
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max().expect("an append-only file")
    }

    /// What an operator might type.
    pub(crate) async fn command(&self, words: &[&str]) -> String {
        self.server.lock().await.command(words)
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        self.command(&["KEYS", "*"]).await.lines().map(str::to_owned).collect()
    }
}
