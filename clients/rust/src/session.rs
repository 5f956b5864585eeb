//! What a client wants of the broker, whether there is a link or not: without input or output of its own.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::Value;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    Error,
    backoff::Backoff,
    follow::{Followed, Item, Step},
    frame::Frame,
    publish::{Publish, Publishes},
    told::Told,
};

/// Frames that wait for the link beside what is bounded by itself; then no more is asked for.
const MOST_FRAMES: usize = 256;

pub(crate) enum Command {
    Follow(Box<Followed>),
    Publish(Publish),
    Ask(Question),
    Close,
}

pub(crate) struct Question {
    pub verb: &'static str,
    pub body: Value,
    pub answer: oneshot::Sender<Result<Value, Error>>,
}

pub(crate) struct Session {
    /// What waits to be written.
    pub out: VecDeque<String>,
    backoff: Backoff,
    /// There is a link.
    stands: bool,
    follows: BTreeMap<String, Followed>,
    publishes: Publishes,
    asked: HashMap<u64, Asked>,
    last_id: u64,
}

/// What an answer is to.
enum Asked {
    Follow(String),
    Publish(u64),
    Question(oneshot::Sender<Result<Value, Error>>),
}

impl Session {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            out: VecDeque::new(),
            backoff,
            stands: false,
            follows: BTreeMap::new(),
            publishes: Publishes::default(),
            asked: HashMap::new(),
            last_id: 0,
        }
    }

    /// True: it is to end.
    pub(crate) fn command(&mut self, command: Command) -> bool {
        match command {
            Command::Follow(mut followed) => {
                // Its name may be that of one that was just dropped.
                self.sweep();
                if self.follows.contains_key(&followed.name) {
                    followed.end(Error::new("conflict", format!("there is {} already", followed.name)));
                } else {
                    self.follows.insert(followed.name.clone(), *followed);
                }
            }
            Command::Publish(publish) => self.publishes.add(publish),
            Command::Ask(Question { answer, .. }) if !self.stands => {
                let _ = answer.send(Err(Error::unavailable("there is no connection now")));
            }
            Command::Ask(Question { answer, .. }) if self.asked.len() >= MOST_FRAMES => {
                let _ = answer.send(Err(Error::new("too-many", "too many questions wait for their answer")));
            }
            Command::Ask(Question { verb, body, answer }) => {
                self.ask(verb, &body.to_string(), Some(Asked::Question(answer)));
            }
            Command::Close => return true,
        }
        false
    }

    /// There is a link.
    pub(crate) fn stands(&mut self) {
        self.stands = true;
    }

    /// The link is gone, and with it what was on its way.
    pub(crate) fn lost(&mut self) {
        self.stands = false;
        self.out.clear();
        self.publishes.lost();
        for followed in self.follows.values_mut() {
            followed.lost();
        }
        for asked in std::mem::take(&mut self.asked).into_values() {
            if let Asked::Question(answer) = asked {
                let _ = answer.send(Err(Error::unavailable("the connection is lost")));
            }
        }
    }

    pub(crate) fn end(&mut self, error: &Error) {
        self.lost();
        self.publishes.end(error);
        for mut followed in std::mem::take(&mut self.follows).into_values() {
            followed.end(error.clone());
        }
    }

    /// Says what has become due since; gives when to look again.
    pub(crate) fn look(&mut self, now: Instant) -> Option<Instant> {
        self.sweep();
        if self.stands && self.out.len() < MOST_FRAMES {
            self.speak(now);
        }
        let rests = self.follows.values().filter_map(Followed::rests);
        rests.chain(self.publishes.rests()).filter(|until| *until > now).min()
    }

    /// Ends what the program has dropped.
    fn sweep(&mut self) {
        let over: Vec<String> =
            self.follows.values().filter(|followed| followed.is_over()).map(|followed| followed.name.clone()).collect();
        for name in over {
            if let Some(mut followed) = self.follows.remove(&name)
                && let Some((verb, body)) = followed.leaves()
                && self.stands
            {
                // Who leaves before it was let in may not be answered.
                self.asked.remove(&followed.asked);
                self.ask(verb, &body.to_string(), None);
            }
        }
    }

    fn speak(&mut self, now: Instant) {
        let mut asks = Vec::new();
        for followed in self.follows.values_mut() {
            if let Some(ack) = followed.acknowledges() {
                self.out.push_back(format!(r#"{{"ack":{ack}}}"#));
            }
            if let Some((verb, body)) = followed.asks(now) {
                asks.push((verb, body.to_string(), followed.name.clone()));
            }
        }
        for (verb, body, name) in asks {
            let id = self.ask(verb, &body, Some(Asked::Follow(name.clone())));
            if let Some(followed) = self.follows.get_mut(&name) {
                followed.asked = id;
            }
        }
        while let Some((number, body)) = self.publishes.next(now) {
            self.ask("pub", &body, Some(Asked::Publish(number)));
        }
    }

    pub(crate) fn frame(&mut self, frame: Frame, now: Instant) {
        if let Some(ev) = frame.ev {
            let (prev, cursor) = (ev.told.prev.clone(), ev.told.cursor.clone());
            self.told(&ev.sub, Item::Told(Box::new(Told::Event(ev.told))), Some(&prev), &cursor, now);
        } else if let Some(gap) = frame.gap {
            let (from, to) = (gap.told.from.clone(), gap.told.to.clone());
            self.told(&gap.sub, Item::Told(Box::new(Told::Gap(gap.told))), Some(&from), &to, now);
        } else if let Some(at) = frame.caught_up {
            let cursor = at.told.cursor;
            self.told(&at.sub, Item::Told(Box::new(Told::CaughtUp { cursor: cursor.clone() })), None, &cursor, now);
        } else if let Some(at) = frame.cursor {
            let cursor = at.told.cursor;
            self.told(&at.sub, Item::Moved(cursor.clone()), None, &cursor, now);
        } else if let Some(ended) = frame.ended {
            // One that is being opened is not the one that was ended.
            if self.follows.get(&ended.sub).is_some_and(Followed::is_live)
                && let Some(mut followed) = self.follows.remove(&ended.sub)
            {
                followed.end(Error::new(ended.told.reason, "the server has ended it"));
            }
        } else if let Some(ok) = frame.ok {
            self.answered(frame.id, Ok(ok), now);
        } else if let Some(refusal) = frame.error {
            self.answered(frame.id, Err(refusal.into()), now);
        }
    }

    fn told(&mut self, name: &str, item: Item, prev: Option<&str>, cursor: &str, now: Instant) {
        let Some(followed) = self.follows.get_mut(name) else { return };
        if followed.take(item, prev, cursor, self.backoff, now) == Step::Leave {
            let (verb, body) = followed.leave();
            self.ask(verb, &body.to_string(), None);
        }
    }

    fn answered(&mut self, id: Option<u64>, answer: Result<Value, Error>, now: Instant) {
        let Some(id) = id else { return };
        match self.asked.remove(&id) {
            Some(Asked::Follow(name)) => {
                // Not of a former one of that name.
                let Some(followed) = self.follows.get_mut(&name).filter(|followed| followed.asked == id) else {
                    return;
                };
                match answer {
                    Ok(ok) => followed.opened(ok),
                    Err(error) => {
                        if followed.refused(error, self.backoff, now) {
                            self.follows.remove(&name);
                        }
                    }
                }
            }
            Some(Asked::Publish(number)) => self.publishes.answered(number, answer, self.backoff, now),
            Some(Asked::Question(asker)) => _ = asker.send(answer),
            // An acknowledgement that came too late, or a subscription that is gone.
            None => {}
        }
    }

    fn ask(&mut self, verb: &str, body: &str, asked: Option<Asked>) -> u64 {
        self.last_id += 1;
        self.out.push_back(format!(r#"{{"id":{},"{verb}":{body}}}"#, self.last_id));
        if let Some(asked) = asked {
            self.asked.insert(self.last_id, asked);
        }
        self.last_id
    }
}
