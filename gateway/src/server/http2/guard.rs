//! Judges what a client does with its HTTP/2 connection, by the frames that pass in both directions.
//!
//! The codec keeps the protocol; this keeps its cost. A client that sends frames which are cheap for it and dear for us
//! (resets, pings, settings, endless header blocks) has a budget of each kind; one that lets time pass (headers begun and
//! not finished, bodies that trickle, windows that stay shut) has ten seconds. Only frame heads are read, so it knows
//! nothing of what a request means: whether it is a stream that may be silent, it is told.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    budget::Budget,
    flow::Flow,
    pace::Least,
    reason::Reason,
    scan::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Head, PING, RST_STREAM, SETTINGS, Scanner, Seen,
        WINDOW_UPDATE,
    },
};
use crate::{
    config::{Limits, Patience, http2::Http2},
    server::connection::head,
};

/// The setting of a stream's first window.
const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
/// Codes of RST_STREAM that answer a mistake of the client's: PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED,
/// FRAME_SIZE_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM. The others tell of the gateway or of the service behind it.
const MISTAKES: [u32; 6] = [1, 3, 5, 6, 7, 11];

/// What an examination found.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Look again so much later.
    Again(Duration),
    /// Nothing was asked for long enough.
    Idle,
    End(Reason),
}

/// One connection.
pub struct Guard {
    config: Http2,
    patience: Patience,
    least: Least,
    /// Bytes a header block may have.
    block: u64,
    inbound: Scanner,
    outbound: Scanner,
    budgets: Budgets,
    flow: Flow,
    /// The header block that is under way.
    heading: Option<Heading>,
    /// Since when a frame or a header block is not finished.
    unfinished: Option<Instant>,
    begun: Instant,
    /// The client's first SETTINGS have come.
    greeted: bool,
    idle: Option<Instant>,
    /// The client's socket takes no more.
    pub clogged: bool,
    pub ended: Option<Reason>,
    /// Since when the codec wants to close for what the protocol forbids.
    pub broken: Option<Instant>,
}

struct Budgets {
    resets: Budget,
    mistakes: Budget,
    settings: Budget,
    pings: Budget,
    priorities: Budget,
    empty_data: Budget,
    window_updates: Budget,
}

#[derive(Default)]
struct Heading {
    bytes: u64,
    frames: u32,
}

impl Guard {
    pub fn new(limits: &Limits) -> Self {
        let (config, now) = (limits.http2.clone(), Instant::now());
        let budget = |config| Budget::new(config, now);
        let budgets = Budgets {
            resets: budget(config.resets),
            mistakes: budget(config.mistakes),
            settings: budget(config.settings),
            pings: budget(config.pings),
            priorities: budget(config.priorities),
            empty_data: budget(config.empty_data),
            window_updates: budget(config.window_updates),
        };
        Self {
            patience: limits.patience,
            least: Least::from(&limits.patience),
            // Compressed, headers are shorter than what they say, and what is a little too much is still answered.
            block: 2 * head(limits) as u64,
            inbound: Scanner::inbound(),
            outbound: Scanner::outbound(),
            budgets,
            flow: Flow::new(config.stream_window.0),
            heading: None,
            unfinished: Some(now),
            begun: now,
            greeted: false,
            idle: None,
            clogged: false,
            ended: None,
            broken: None,
            config,
        }
    }

    /// Bytes came in.
    ///
    /// # Errors
    /// If the connection is to end; nobody should read them then.
    pub fn received(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let mut scanner = std::mem::replace(&mut self.inbound, Scanner::outbound());
        let judged = scanner.scan(bytes, |seen| self.inbound(seen));
        self.inbound = scanner;
        if self.heading.is_none() && !self.inbound.is_within_control() {
            self.unfinished = None;
        } else if self.unfinished.is_none() {
            self.unfinished = Some(Instant::now());
        }
        self.judge(judged)
    }

    /// Bytes went out.
    ///
    /// # Errors
    /// If the connection is to end.
    pub fn sent(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.clogged = false;
        let mut scanner = std::mem::replace(&mut self.outbound, Scanner::outbound());
        let judged = scanner.scan(bytes, |seen| self.outbound(seen));
        self.outbound = scanner;
        self.judge(judged)
    }

    /// The last words to the client, if what was sent before them is whole.
    pub fn farewell(&self) -> Option<Vec<u8>> {
        const ENHANCE_YOUR_CALM: u32 = 11;
        let said = self.ended.filter(|_| self.outbound.is_between())?.name();
        let length = u32::try_from(8 + said.len()).unwrap_or(8).to_be_bytes();
        let head = [length[1], length[2], length[3], GOAWAY, 0, 0, 0, 0, 0];
        Some([&head[..], &self.flow.latest().to_be_bytes(), &ENHANCE_YOUR_CALM.to_be_bytes(), said.as_bytes()].concat())
    }

    /// Whether to look at each tick from now on, though it was idle before.
    pub fn is_restless(&self) -> bool {
        self.is_busy() || self.idle.is_none()
    }

    /// Whether time could run out for something before the connection is idle for too long.
    fn is_busy(&self) -> bool {
        !self.greeted || self.unfinished.is_some() || self.broken.is_some() || self.flow.len() > 0
    }

    /// How often to look while it is busy.
    pub fn tick(&self) -> Duration {
        self.least.tick
    }

    /// Looks whether the client lets too much time pass; to be done at each tick while it is busy. Streams that may be
    /// silent are open where `silence` says so.
    pub fn examine(&mut self, now: Instant, silence: bool) -> Verdict {
        if let Some(reason) = self.ended {
            return Verdict::End(reason);
        }
        let patience = self.patience;
        let late = |since: Instant| now.duration_since(since) >= patience.head;
        if (!self.greeted && late(self.begun)) || self.unfinished.is_some_and(late) {
            return self.end(Reason::SlowHead);
        }
        if self.broken.is_some_and(late) {
            return self.end(Reason::Protocol);
        }
        if let Some(reason) = self.flow.slow(&patience, self.least, self.clogged, silence) {
            return self.end(reason);
        }
        if self.is_busy() {
            return Verdict::Again(self.least.tick);
        }
        let idle = now.duration_since(*self.idle.get_or_insert(now));
        match patience.idle.checked_sub(idle) {
            None | Some(Duration::ZERO) => Verdict::Idle,
            Some(left) => Verdict::Again(left),
        }
    }

    fn end(&mut self, reason: Reason) -> Verdict {
        self.ended = Some(reason);
        Verdict::End(reason)
    }

    fn judge(&mut self, judged: Result<(), Reason>) -> Result<(), Reason> {
        self.ended = self.ended.or(judged.err());
        judged
    }

    fn inbound(&mut self, seen: Seen<'_>) -> Result<(), Reason> {
        match seen {
            Seen::Head(head) => self.begins(head),
            Seen::Part(head, bytes) => self.says(head, bytes),
            Seen::End(head) => {
                self.ends(head);
                Ok(())
            }
        }
    }

    /// A frame of the client's begins.
    fn begins(&mut self, head: Head) -> Result<(), Reason> {
        let spent = |good: bool, reason| if good { Ok(()) } else { Err(reason) };
        match head.kind {
            DATA => {
                self.flow.receive(head.stream, head.length);
                let empty = head.length == 0 && !head.has(END_STREAM);
                spent(!empty || self.budgets.empty_data.spend(), Reason::EmptyData)
            }
            HEADERS => {
                self.heading = Some(Heading::default());
                self.block(head)?;
                self.open(head.stream)
            }
            CONTINUATION => self.block(head),
            RST_STREAM => {
                self.flow.close(head.stream);
                spent(self.budgets.resets.spend(), Reason::Resets)
            }
            SETTINGS => spent(self.budgets.settings.spend(), Reason::Settings),
            PING => spent(self.budgets.pings.spend(), Reason::Pings),
            WINDOW_UPDATE => spent(self.budgets.window_updates.spend(), Reason::WindowUpdates),
            _ => spent(self.budgets.priorities.spend(), Reason::Priorities),
        }
    }

    /// A part of a frame of the client's that matters.
    fn says(&mut self, head: Head, bytes: &[u8]) -> Result<(), Reason> {
        match (head.kind, bytes) {
            (SETTINGS, [a, b, value @ ..]) if [*a, *b] == INITIAL_WINDOW_SIZE => self.flow.first_to_send(number(value)),
            (WINDOW_UPDATE, increment) => self.flow.may_send(head.stream, number(increment)),
            // Nothing but padding is nothing.
            (DATA, [padding]) if u32::from(*padding) + 1 >= head.length && !head.has(END_STREAM) => {
                return if self.budgets.empty_data.spend() { Ok(()) } else { Err(Reason::EmptyData) };
            }
            _ => {}
        }
        Ok(())
    }

    /// A frame of the client's has passed.
    fn ends(&mut self, head: Head) {
        if matches!(head.kind, HEADERS | CONTINUATION) && head.has(END_HEADERS) {
            self.heading = None;
        }
        if matches!(head.kind, HEADERS | DATA) && head.has(END_STREAM) {
            self.flow.asked(head.stream);
        }
        self.greeted |= head.kind == SETTINGS;
        if self.heading.is_none() {
            // What comes now has its own time.
            self.unfinished = None;
        }
    }

    /// Another frame of a header block.
    fn block(&mut self, head: Head) -> Result<(), Reason> {
        let heading = self.heading.get_or_insert_default();
        heading.bytes += u64::from(head.length);
        heading.frames += 1;
        let good = heading.bytes <= self.block && heading.frames <= self.config.continuations + 1;
        if good { Ok(()) } else { Err(Reason::Continuations) }
    }

    fn open(&mut self, id: u32) -> Result<(), Reason> {
        if !self.flow.open(id) {
            return Ok(());
        }
        self.idle = None;
        self.budgets.priorities.earn(1.0);
        self.budgets.window_updates.earn(10.0);
        // The codec refuses those beyond the bound one by one, and so they are gone from here: unless the client doesn't
        // even read that.
        let most = 2 * self.config.streams as usize + 1_000;
        if self.flow.len() <= most { Ok(()) } else { Err(Reason::Streams) }
    }

    fn outbound(&mut self, seen: Seen<'_>) -> Result<(), Reason> {
        match seen {
            Seen::Head(head) => match head.kind {
                DATA => {
                    self.flow.send(head.stream, head.length);
                    self.budgets.pings.earn(1.0);
                    self.budgets.window_updates.earn(10.0);
                }
                HEADERS => {
                    self.flow.answering(head.stream);
                    self.budgets.pings.earn(1.0);
                }
                _ => {}
            },
            Seen::Part(head, bytes) => match (head.kind, bytes) {
                (RST_STREAM, code) => {
                    self.flow.close(head.stream);
                    if MISTAKES.contains(&number(code)) && !self.budgets.mistakes.spend() {
                        return Err(Reason::Mistakes);
                    }
                }
                // The codec's own last words: it closes, if the client lets it.
                (GOAWAY, [_, _, _, _, code @ ..]) if number(code) != 0 => self.broken = Some(Instant::now()),
                (WINDOW_UPDATE, increment) => self.flow.may_receive(head.stream, number(increment)),
                _ => {}
            },
            Seen::End(head) => {
                if matches!(head.kind, HEADERS | DATA) && head.has(END_STREAM) {
                    self.flow.answered(head.stream);
                }
            }
        }
        Ok(())
    }
}

/// Four bytes of a frame, without the bit that is reserved.
fn number(bytes: &[u8]) -> u32 {
    let [a, b, c, d] = *bytes else { return 0 };
    u32::from_be_bytes([a, b, c, d]) & !(1 << 31)
}
