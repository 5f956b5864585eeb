//! The streams of a connection: how far each has come, and who is waited for. A client is waited for where it may send of a
//! body and doesn't, and where it may not be sent of an answer because a window is shut (RFC 9113, section 5.2).

use std::time::Duration;

use super::{
    pace::{Least, Pace},
    reason::Reason,
};
use crate::config::Patience;

/// What a window begins with, before SETTINGS say otherwise (RFC 9113, section 6.9.2).
const WINDOW: i64 = 65_535;
/// How long a stream that may be silent may keep its window shut: as long as it may be silent.
const SHUT: Duration = Duration::from_secs(300);

/// The open streams of a connection.
pub struct Flow {
    /// By their ids, which only grow.
    streams: Vec<Stream>,
    /// The last that the client opened.
    latest: u32,
    /// How much may be sent on the connection; on a new stream.
    to_send: i64,
    first_to_send: i64,
    /// How much may be received on the connection; on a new stream.
    to_receive: i64,
    first_to_receive: i64,
    answers: Pace,
}

struct Stream {
    id: u32,
    /// The whole request has come.
    asked: bool,
    /// The answer has begun; all of it is out.
    answering: bool,
    answered: bool,
    to_send: i64,
    to_receive: i64,
    body: Pace,
    answer: Pace,
    /// Ticks that more of its request was waited for.
    asking: u32,
    /// Ticks that nothing of its answer went out, because a window was shut.
    shut: u32,
}

impl Flow {
    /// Of a new connection, on which each stream may receive so much at once.
    pub fn new(stream_window: u64) -> Self {
        Self {
            streams: Vec::new(),
            latest: 0,
            to_send: WINDOW,
            first_to_send: WINDOW,
            to_receive: WINDOW,
            first_to_receive: i64::try_from(stream_window).unwrap_or(WINDOW),
            answers: Pace::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.streams.len()
    }

    pub fn latest(&self) -> u32 {
        self.latest
    }

    /// The client's HEADERS. False if they begin no stream: trailers, or what the codec will refuse.
    pub fn open(&mut self, id: u32) -> bool {
        if id <= self.latest || id.is_multiple_of(2) {
            return false;
        }
        self.latest = id;
        self.streams.push(Stream {
            id,
            asked: false,
            answering: false,
            answered: false,
            to_send: self.first_to_send,
            to_receive: self.first_to_receive,
            body: Pace::default(),
            answer: Pace::default(),
            asking: 0,
            shut: 0,
        });
        true
    }

    pub fn close(&mut self, id: u32) {
        if let Ok(at) = self.streams.binary_search_by_key(&id, |stream| stream.id) {
            self.streams.remove(at);
        }
    }

    /// The client has said all it had to say.
    pub fn asked(&mut self, id: u32) {
        self.ends(id, |stream| stream.asked = true);
    }

    /// The answer begins.
    pub fn answering(&mut self, id: u32) {
        self.on(id, |stream| stream.answering = true);
    }

    /// All of the answer is out. What is left of the request, the codec takes or breaks off.
    pub fn answered(&mut self, id: u32) {
        self.ends(id, |stream| stream.answered = true);
    }

    /// Bytes of a body.
    pub fn receive(&mut self, id: u32, bytes: u32) {
        self.to_receive -= i64::from(bytes);
        self.on(id, |stream| {
            stream.to_receive -= i64::from(bytes);
            stream.body.pass(bytes);
        });
    }

    /// Bytes of an answer.
    pub fn send(&mut self, id: u32, bytes: u32) {
        self.to_send -= i64::from(bytes);
        self.answers.pass(bytes);
        self.on(id, |stream| {
            stream.to_send -= i64::from(bytes);
            stream.answer.pass(bytes);
        });
    }

    /// The client takes more, on a stream or (0) on the connection.
    pub fn may_send(&mut self, id: u32, more: u32) {
        match id {
            0 => self.to_send += i64::from(more),
            _ => self.on(id, |stream| stream.to_send += i64::from(more)),
        }
    }

    /// The gateway takes more.
    pub fn may_receive(&mut self, id: u32, more: u32) {
        match id {
            0 => self.to_receive += i64::from(more),
            _ => self.on(id, |stream| stream.to_receive += i64::from(more)),
        }
    }

    /// The client says how much each stream may be sent at first, which holds for those that are open too.
    pub fn first_to_send(&mut self, first: u32) {
        let change = i64::from(first) - self.first_to_send;
        self.first_to_send = i64::from(first);
        self.streams.iter_mut().for_each(|stream| stream.to_send += change);
    }

    /// A tick is over. Returns what the client was too slow with. Nobody is hurried while there may be `silence`, but not
    /// waited for without end either.
    pub fn slow(&mut self, patience: &Patience, least: Least, clogged: bool, silence: bool) -> Option<Reason> {
        let answering = self.streams.iter().any(Stream::is_answering);
        // Where all share what is short, all are judged together.
        let shared = answering && (clogged || self.to_send <= 0);
        let starved = self.answers.tick_if(shared && !silence, least);
        let mut found = starved.then_some(Reason::SlowRead);
        for stream in &mut self.streams {
            let may_send = !stream.asked && stream.to_receive > 0 && self.to_receive > 0 && !silence;
            stream.asking += u32::from(may_send);
            if stream.body.tick_if(may_send, least) || least.tick * stream.asking > patience.request {
                found = Some(Reason::SlowBody);
            }
            let shut = stream.is_answering() && stream.to_send <= 0;
            let stuck = (shut || (shared && stream.is_answering())) && stream.answer.is_still();
            stream.shut = if stuck { stream.shut + 1 } else { 0 };
            if stream.answer.tick_if(shut && !silence, least) || least.tick * stream.shut >= SHUT {
                found = Some(Reason::SlowRead);
            }
        }
        found
    }

    fn on(&mut self, id: u32, change: impl FnOnce(&mut Stream)) {
        let at = self.streams.binary_search_by_key(&id, |stream| stream.id).ok();
        if let Some(stream) = at.and_then(|at| self.streams.get_mut(at)) {
            change(stream);
        }
    }

    /// One side of a stream ends; with both, the stream does.
    fn ends(&mut self, id: u32, change: impl FnOnce(&mut Stream)) {
        let Ok(at) = self.streams.binary_search_by_key(&id, |stream| stream.id) else { return };
        change(&mut self.streams[at]);
        if self.streams[at].asked && self.streams[at].answered {
            self.streams.remove(at);
        }
    }
}

impl Stream {
    fn is_answering(&self) -> bool {
        self.answering && !self.answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks until something is found to be slow, of at most 200.
    fn ticks(flow: &mut Flow, silence: bool, mut each: impl FnMut(&mut Flow)) -> Option<(usize, Reason)> {
        let patience = Patience::default();
        (1..=200).find_map(|tick| {
            each(flow);
            Some((tick, flow.slow(&patience, Least::from(&patience), false, silence)?))
        })
    }

    fn flow(open: &[u32]) -> Flow {
        let mut flow = Flow::new(64 << 10);
        assert!(open.iter().all(|id| flow.open(*id)));
        flow
    }

    #[test]
    fn a_stream_lives_until_both_have_said_all() {
        let mut flow = flow(&[1, 3, 5]);
        assert!(!flow.open(3) && !flow.open(4), "trailers, and what no client may open");
        flow.asked(1);
        assert_eq!(flow.len(), 3);
        flow.answered(1);
        flow.answered(3);
        flow.close(5);
        flow.close(5);
        assert_eq!((flow.len(), flow.latest()), (1, 5));
        flow.asked(3);
        assert_eq!(flow.len(), 0);
    }

    #[test]
    fn a_body_is_waited_for_only_where_there_is_room_for_it() {
        let found = Some((5, Reason::SlowBody));
        assert_eq!(ticks(&mut flow(&[1]), false, |_| ()), found);
        assert_eq!(ticks(&mut flow(&[1]), false, |flow| flow.receive(1, 100)), found);
        let mut full = flow(&[1]);
        full.receive(1, 64 << 10);
        assert_eq!(ticks(&mut full, false, |_| ()), None, "the service doesn't take it");
        full.may_receive(0, 1 << 20);
        full.may_receive(1, 64 << 10);
        assert_eq!(ticks(&mut full, false, |_| ()), found);
        // A request that takes longer than a minute, however fast.
        let fast = ticks(&mut flow(&[1]), false, |flow| {
            flow.receive(1, 10_000);
            flow.may_receive(0, 10_000);
            flow.may_receive(1, 10_000);
        });
        assert_eq!(fast, Some((25, Reason::SlowBody)));
    }

    #[test]
    fn an_answer_is_waited_for_only_while_a_window_is_shut() {
        let mut asked = flow(&[1]);
        asked.asked(1);
        assert_eq!(ticks(&mut asked, false, |_| ()), None, "the service hasn't answered");
        asked.answering(1);
        assert_eq!(ticks(&mut asked, false, |_| ()), None, "the service is slow");
        asked.send(1, 65_535);
        assert_eq!(ticks(&mut asked, false, |_| ()).map(|found| found.1), Some(Reason::SlowRead));
        asked.may_send(0, 1 << 20);
        let drips = |flow: &mut Flow| {
            flow.may_send(1, 10);
            flow.send(1, 10);
        };
        assert_eq!(ticks(&mut asked, false, drips).map(|found| found.1), Some(Reason::SlowRead));
        let mut steady = flow(&[1]);
        steady.asked(1);
        steady.answering(1);
        steady.send(1, 65_535);
        steady.may_send(0, 1 << 20);
        let flows = |flow: &mut Flow| {
            flow.may_send(1, 4_000);
            flow.send(1, 4_000);
        };
        assert_eq!(ticks(&mut steady, false, flows), None);
        steady.first_to_send(65_536);
        assert_eq!(ticks(&mut steady, false, |_| ()), None, "there is room for a byte now");
    }

    #[test]
    fn a_stream_that_may_be_silent_is_waited_for_five_minutes() {
        let mut call = flow(&[1]);
        call.answering(1);
        assert_eq!(ticks(&mut call, true, |_| ()), None);
        call.send(1, 65_535);
        // From the tick after the one in which bytes went out.
        assert_eq!(ticks(&mut call, true, |_| ()), Some((121, Reason::SlowRead)));
    }
}
