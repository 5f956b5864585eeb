//! The task behind a client: one link at a time, and another one whenever it is lost.

use std::{pin::pin, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Error, Options, State,
    backoff::Backoff,
    dial::Dial,
    link::{Ended, Heard, Link},
    session::{Command, Session},
};

/// A link that stood so long was a good one.
const SETTLED: Duration = Duration::from_secs(10);

pub(crate) struct Worker {
    pub dial: Dial,
    pub options: Options,
    pub commands: mpsc::Receiver<Command>,
    /// A subscription has something to say.
    pub wake: Arc<Notify>,
    pub state: watch::Sender<State>,
    pub session: Session,
}

impl Worker {
    pub(crate) async fn run(mut self) {
        let backoff = Backoff { first: self.options.first, most: self.options.most };
        let (mut attempt, mut has_stood) = (0, false);
        let why = loop {
            let opening = Link::open(self.dial.clone(), self.hello(), self.options.opening);
            let ended = match self.meanwhile(opening).await {
                Some(Ok(link)) => {
                    has_stood = true;
                    let stands = Instant::now();
                    let ended = self.serve(link).await;
                    // Who is let in and sent away at once, again and again, has no reason to hurry.
                    if stands.elapsed() > SETTLED {
                        attempt = 0;
                    }
                    ended
                }
                Some(Err(ended)) => ended,
                None => Ended::Done,
            };
            self.session.lost();
            let (reason, after) = match ended {
                Ended::Done => break Error::closed(),
                Ended::Refused(error) => break error,
                Ended::Astray(error) if !has_stood => break error,
                Ended::Astray(error) => (error.to_string(), None),
                Ended::Lost { reason, after } => (reason, after),
            };
            self.state.send_replace(State::Reconnecting(reason));
            if self.meanwhile(sleep(backoff.pause(attempt, after))).await.is_none() {
                break Error::closed();
            }
            attempt += 1;
        };
        self.session.end(&why);
        self.state.send_replace(State::Closed(why));
    }

    fn hello(&self) -> String {
        let mut hello = json!({ "v": 1 });
        if let Some(token) = &self.options.token {
            hello["token"] = json!(token());
        }
        if let Some(name) = &self.options.name {
            hello["client"] = json!(name);
        }
        json!({ "hello": hello }).to_string()
    }

    /// Takes commands in while something else is waited for. None: nobody wants anything any more.
    async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> Option<T> {
        let mut other = pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return Some(done),
                command = self.commands.recv() => {
                    if self.session.command(command?) {
                        return None;
                    }
                }
                () = self.wake.notified() => { self.session.look(Instant::now()); }
            }
        }
    }

    async fn serve(&mut self, mut link: Link) -> Ended {
        self.session.stands();
        self.state.send_replace(State::Open);
        loop {
            let now = Instant::now();
            let look = self.session.look(now);
            let again = sleep_until(look.unwrap_or(now + SETTLED));
            let silent = sleep_until(link.dies());
            tokio::select! {
                came = link.next(&mut self.session.out) => match came {
                    Ok(Heard::Frame(frame)) => self.session.frame(*frame, Instant::now()),
                    Ok(Heard::Life) => {}
                    Err(ended) => return ended,
                },
                command = self.commands.recv() => {
                    if command.is_none_or(|command| self.session.command(command)) {
                        link.close(std::mem::take(&mut self.session.out)).await;
                        return Ended::Done;
                    }
                }
                () = self.wake.notified() => {}
                () = again => {}
                () = silent => return link.died(),
            }
        }
    }
}
