//! Asking the parts: each as soon as those it needs have answered, all that can be at once. One task does it all, so that
//! whoever drops it ends every call.

use std::{
    mem,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::HeaderMap;
use upstream::Options;

use super::{
    super::metadata::Forward,
    each::{Answers, Questions},
    exchange::Asked,
    failure::Failure,
    kept,
    part::{Ask, Part},
    rpc::Parameters,
    text::Values,
};
use crate::{context::RequestContext, error::Error, worker::Worker};

/// What became of a part.
pub enum Outcome {
    /// Its answer as it came.
    Whole(Bytes),
    /// All of its answer as JSON: others are asked by it.
    Json(Bytes),
    /// One answer for each element of a list.
    Each(Answers),
    Failed(Failure),
}

/// One question, whole.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Question {
    asks: Asks,
    /// Of its answer, where that is kept.
    pub tags: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Asks {
    Rpc(Bytes),
    Http(Asked),
}

impl Question {
    pub fn of_rpc(message: Bytes, tags: Vec<String>) -> Self {
        Self { asks: Asks::Rpc(message), tags }
    }

    /// How many bytes it has, about.
    pub fn weight(&self) -> usize {
        match &self.asks {
            Asks::Rpc(message) => message.len(),
            Asks::Http(asked) => asked.weight(),
        }
    }

    /// What tells it from others that the same part asks.
    pub fn bytes(&self) -> Bytes {
        match &self.asks {
            Asks::Rpc(message) => message.clone(),
            Asks::Http(asked) => asked.bytes().into(),
        }
    }
}

/// What is asked for a part.
enum Prepared {
    One(Question),
    Each(Questions),
}

/// What all questions of a request have in common.
#[derive(Clone, Copy)]
pub struct Running<'a> {
    pub worker: &'a Worker,
    pub headers: &'a HeaderMap,
    pub context: &'a RequestContext,
    pub forward: &'a Forward,
    pub options: Options,
    /// How many bytes answers may still have.
    pub room: &'a AtomicUsize,
}

/// Asks every part. `drafts` are what the request says of each, `order` puts no part before one that it needs.
///
/// # Errors
/// That of the first required part that fails; the others are given up.
pub async fn run(
    parts: &[Part],
    order: &[usize],
    mut drafts: Vec<Vec<u8>>,
    parameters: &Parameters<'_>,
    running: Running<'_>,
) -> Result<Vec<Outcome>, Error> {
    let mut outcomes: Vec<Option<Outcome>> = parts.iter().map(|_| None).collect();
    let mut under_way = FuturesUnordered::new();
    let (mut begun, mut done) = (0_u32, 0_u32);
    loop {
        for &at in order {
            let part = &parts[at];
            if begun & (1 << at) != 0 || part.needs & !done != 0 {
                continue;
            }
            begun |= 1 << at;
            match prepare(part, parts, mem::take(&mut drafts[at]), &outcomes, parameters, running.context) {
                Ok(prepared) => {
                    let running = running.within(part);
                    under_way.push(async move { (at, running.answer(part, prepared).await) });
                }
                Err(failure) => {
                    outcomes[at] = Some(note(part, Err(failure), running.context)?);
                    done |= 1 << at;
                }
            }
        }
        let Some((at, outcome)) = under_way.next().await else { break };
        outcomes[at] = Some(note(&parts[at], outcome, running.context)?);
        done |= 1 << at;
    }
    Ok(outcomes.into_iter().flatten().collect())
}

/// Turns the failure of a required part into that of the answer.
fn note(part: &Part, outcome: Result<Outcome, Failure>, context: &RequestContext) -> Result<Outcome, Error> {
    match outcome {
        Err(failure) if part.required => {
            part.ended(context, "failed");
            Err(*failure.error)
        }
        Err(failure) => Ok(Outcome::Failed(failure)),
        Ok(outcome) => Ok(outcome),
    }
}

fn prepare(
    part: &Part,
    parts: &[Part],
    draft: Vec<u8>,
    outcomes: &[Option<Outcome>],
    parameters: &Parameters<'_>,
    context: &RequestContext,
) -> Result<Prepared, Failure> {
    if part.needs == 0 {
        let values = Values { context, parameters, answers: &[], item: &[] };
        return part.question(draft, &values).map(Prepared::One);
    }
    let mut answers = Vec::with_capacity(outcomes.len());
    for (at, outcome) in outcomes.iter().enumerate() {
        answers.push(match outcome {
            Some(Outcome::Json(json)) => &json[..],
            Some(Outcome::Failed(failure)) if part.needs & (1 << at) != 0 => {
                let cause = format!("part {} has failed", parts[at].name);
                let error = Error::new(failure.error.kind, failure.error.detail.clone()).cause(&cause);
                return Err(Failure { error: error.into(), ..Failure::no_input(Some(at), cause) });
            }
            _ => &[],
        });
    }
    let values = Values { context, parameters, answers: &answers, item: &[] };
    match &part.each {
        Some(each) => each.questions(part, &draft, &values).map(Prepared::Each),
        None => part.question(draft, &values).map(Prepared::One),
    }
}

impl Part {
    /// The question, of which the request has said what is in `draft`.
    pub fn question(&self, mut draft: Vec<u8>, values: &Values<'_>) -> Result<Question, Failure> {
        let asks = match &self.ask {
            Ask::Rpc(rpc) => {
                rpc.finish(&mut draft, values)?;
                Asks::Rpc(draft.into())
            }
            Ask::Http(exchange) => Asks::Http(exchange.asked(values)?),
        };
        Ok(Question { asks, tags: self.tags(values) })
    }

    /// Those of an answer that is kept.
    pub fn tags(&self, values: &Values<'_>) -> Vec<String> {
        self.kept.as_ref().map(|kept| kept.tags(values)).unwrap_or_default()
    }
}

impl Running<'_> {
    /// The same, until the part has to be there.
    fn within(self, part: &Part) -> Self {
        let own = Instant::now() + part.timeout;
        let deadline = self.options.deadline.map_or(own, |deadline| deadline.min(own));
        Self { options: Options { deadline: Some(deadline), ..self.options }, ..self }
    }

    async fn answer(self, part: &Part, prepared: Prepared) -> Result<Outcome, Failure> {
        let question = match (prepared, &part.each) {
            (Prepared::One(question), _) => question,
            // In a box, so that all futures are as small as that of one call.
            (Prepared::Each(questions), Some(each)) => {
                return Box::pin(questions.ask(part, each, self)).await.map(Outcome::Each);
            }
            (Prepared::Each(_), None) => return Err(Failure::malformed("asked for each of nothing")),
        };
        let answer = self.ask(part, question).await?;
        match &part.ask {
            Ask::Rpc(rpc) if part.is_read => {
                let mut json = Vec::with_capacity(1024);
                rpc.output().write(&answer, &mut json).map_err(Failure::malformed)?;
                Ok(Outcome::Json(json.into()))
            }
            Ask::Http(_) => Ok(Outcome::Json(answer)),
            Ask::Rpc(_) => Ok(Outcome::Whole(answer)),
        }
    }

    /// One answer as it came: a message, or JSON.
    pub async fn ask(self, part: &Part, question: Question) -> Result<Bytes, Failure> {
        let answer = match &part.kept {
            None => self.asked(part, question, false).await?,
            Some(kept) => Box::pin(self.kept(part, kept, question)).await?,
        };
        let taken = self.room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(answer.len()));
        taken.map(|_| answer).map_err(|_| Failure::too_large())
    }

    /// Asks; `public`: in nobody's name.
    pub async fn asked(self, part: &Part, question: Question, public: bool) -> Result<Bytes, Failure> {
        let mut metadata = self.forward.metadata(self.headers, self.context);
        if public {
            kept::of_nobody(&mut metadata);
        }
        let client = self.worker.client(part.upstream);
        let hash = self.worker.key(part.upstream, self.headers, self.context);
        let options = Options { hash, ..self.options };
        match (&part.ask, question.asks) {
            (Ask::Rpc(rpc), Asks::Rpc(message)) => rpc.ask(client, metadata, message, options).await,
            (Ask::Http(exchange), Asks::Http(asked)) => Box::pin(exchange.ask(client, metadata, asked, options)).await,
            _ => Err(Failure::malformed("a question of another protocol")),
        }
    }
}
