//! Asking for each element of a list: which questions that makes, and what becomes of them.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::{
    super::ConfigError,
    super::template::Escape,
    ROOM,
    config::PartConfig,
    failure::Failure,
    json::{self, Span},
    part::{Ask, Part, member},
    run::{Question, Running},
    text::{Place, Scope, Shape, Values},
};

const CONCURRENCY: usize = 8;
const MOST_AT_ONCE: usize = 64;
const ELEMENTS: usize = 100;
const MOST_ELEMENTS: usize = 1000;

/// What a part is asked for each of.
pub struct Each {
    pub list: Place,
    /// The member that each element gets, as JSON with its colon, and its name.
    pub into: Option<(Vec<u8>, String)>,
    pub concurrency: usize,
    pub max_elements: usize,
}

/// What is asked for the elements.
pub struct Questions {
    /// Each once. Of a batch: the only one, with all keys.
    questions: Vec<Question>,
    /// Of a batch: each once.
    keys: Vec<String>,
    /// For each element which question or key is its own; none if it lacks what is asked by.
    places: Vec<Option<usize>>,
    /// Beyond those that may be asked for.
    left_out: usize,
}

/// What became of them.
pub struct Answers {
    /// For each element which answer is its own; those left out have none.
    pub places: Vec<Option<usize>>,
    pub answers: Vec<Answer>,
    pub left_out: usize,
    /// Why the first that failed did.
    pub failure: Option<Failure>,
}

#[derive(Clone)]
pub enum Answer {
    /// What is taken of it, as JSON.
    Json(Bytes),
    /// The service does not have it.
    Missing,
    Failed,
}

impl Each {
    /// With the shape of the elements.
    ///
    /// # Errors
    /// A list that isn't there, a number out of its range, a member that the elements have already.
    pub fn new(list: &str, config: &PartConfig, scope: &Scope<'_>) -> Result<(Self, Shape), Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut within = |key: &str, value: Option<usize>, default: usize, most: usize| {
            let value = value.unwrap_or(default);
            if !(1..=most).contains(&value) {
                errors.push(ConfigError::new(key, format!("must be within 1 to {most}")));
            }
            value
        };
        let concurrency = within("concurrency", config.concurrency, CONCURRENCY, MOST_AT_ONCE);
        let max_elements = within("max_elements", config.max_elements, ELEMENTS, MOST_ELEMENTS);
        let (list, shape) = match Place::of_list(list, scope) {
            Ok(found) => found,
            Err(message) => {
                errors.push(ConfigError::new("for_each", message));
                return Err(errors);
            }
        };
        if let Some(name) = &config.into {
            let taken = match &shape {
                Shape::Message(message) if name.is_empty() => {
                    Some(format!("names no member of {}", message.full_name()))
                }
                Shape::Message(message) => {
                    let has =
                        message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name)).is_some();
                    has.then(|| format!("{} has a field `{name}` already", message.full_name()))
                }
                _ => Some("only messages whose fields are known can get another member".to_owned()),
            };
            errors.extend(taken.map(|message| ConfigError::new("into", message)));
        }
        let into = config.into.as_ref().map(|name| (member(name), name.clone()));
        if errors.is_empty() { Ok((Self { list, into, concurrency, max_elements }, shape)) } else { Err(errors) }
    }

    /// Where the elements stand in the JSON of the part that has them, as many as may be asked for, and how many more there
    /// are. None if that is no list.
    pub fn elements(&self, json: &[u8]) -> Option<(Vec<Span>, usize)> {
        let (mut spans, mut left_out) = (Vec::new(), 0);
        let is_list = json::each(json, 0..json.len(), &self.list.names, &mut |span| {
            if spans.len() < self.max_elements {
                spans.push(span);
            } else {
                left_out += 1;
            }
        });
        is_list.then_some((spans, left_out))
    }

    /// What is asked for the elements of the list. `draft` is what the request says of it.
    pub fn questions(&self, part: &Part, draft: &[u8], values: &Values<'_>) -> Result<Questions, Failure> {
        let source = values.answers.get(self.list.part).copied().unwrap_or_default();
        let no_list = || Failure::no_input(Some(self.list.part), "what should be a list is none");
        let (spans, left_out) = self.elements(source).ok_or_else(no_list)?;
        let items = spans.into_iter().map(|span| source.get(span).unwrap_or_default());
        let mut made = Questions { questions: Vec::new(), keys: Vec::new(), places: Vec::new(), left_out };
        match &part.ask {
            Ask::Rpc(rpc) if let Some(batch) = &rpc.batch => {
                let mut known = HashMap::new();
                for item in items {
                    let key = batch.key.expand(Escape::None, &Values { item, ..*values });
                    made.places.push(key.map(|key| place(&mut known, &mut made.keys, key.into_owned())));
                }
                if !made.keys.is_empty() {
                    let mut message = draft.to_vec();
                    rpc.finish(&mut message, values)?;
                    for key in &made.keys {
                        let unfit = |reason| Failure::no_input(Some(self.list.part), reason);
                        batch.add(key, &mut message).map_err(unfit)?;
                    }
                    made.questions.push(Question::of_rpc(message.into(), part.tags(values)));
                }
            }
            _ => {
                let (mut known, mut room) = (HashMap::new(), ROOM);
                for item in items {
                    let question = part.question(draft.to_vec(), &Values { item, ..*values }).ok();
                    // Each may hold all of another part's answer.
                    let weight = question.as_ref().map_or(0, Question::weight);
                    room = room.checked_sub(weight).ok_or_else(Failure::too_large)?;
                    made.places.push(question.map(|question| place(&mut known, &mut made.questions, question)));
                }
            }
        }
        Ok(made)
    }
}

/// The place of a thing among those that are known, where it stands once.
fn place<T: Clone + Eq + std::hash::Hash>(known: &mut HashMap<T, usize>, all: &mut Vec<T>, thing: T) -> usize {
    *known.entry(thing).or_insert_with_key(|thing| {
        all.push(thing.clone());
        all.len() - 1
    })
}

impl Questions {
    /// Asks them, so many at once.
    ///
    /// # Errors
    /// The first that fails, where all of them are required.
    pub async fn ask(self, part: &Part, each: &Each, running: Running<'_>) -> Result<Answers, Failure> {
        let Self { questions, keys, places, left_out } = self;
        if part.required && left_out > 0 {
            return Err(Failure::no_input(
                Some(each.list.part),
                format!("{left_out} elements more than may be asked for"),
            ));
        }
        let made = |answers, failure| Answers { places, answers, left_out, failure };
        if let Ask::Rpc(rpc) = &part.ask
            && let Some(batch) = &rpc.batch
        {
            // Nothing is asked where there is nothing to ask for.
            let Some(question) = questions.into_iter().next() else { return Ok(made(Vec::new(), None)) };
            let mut whole = Vec::with_capacity(1024);
            let answer = running.ask(part, question).await;
            let answer = answer.and_then(|answer| rpc.output().write(&answer, &mut whole).map_err(Failure::malformed));
            return match answer {
                Ok(()) => Ok(made(batch.answers(part, &keys, &whole), None)),
                Err(failure) if part.required => Err(failure),
                Err(failure) => Ok(made(vec![Answer::Failed; keys.len()], Some(failure))),
            };
        }
        let mut answers = vec![Answer::Missing; questions.len()];
        let mut first: Option<(usize, Failure)> = None;
        let asked = questions.into_iter().enumerate().map(|(at, question)| async move {
            (at, running.ask(part, question).await.and_then(|answer| taken(part, &answer)))
        });
        let mut asked = stream::iter(asked).buffer_unordered(each.concurrency);
        while let Some((at, answer)) = asked.next().await {
            match answer {
                Ok(json) => answers[at] = Answer::Json(json),
                Err(failure) if failure.reason == "not_found" => {}
                // Nothing else is worth waiting for.
                Err(failure) if part.required => return Err(failure),
                Err(failure) => {
                    answers[at] = Answer::Failed;
                    // By place, not by time: whatever comes first, the answer is the same.
                    if first.as_ref().is_none_or(|(other, _)| at < *other) {
                        first = Some((at, failure));
                    }
                }
            }
        }
        Ok(made(answers, first.map(|(_, failure)| failure)))
    }
}

/// What is taken of one answer, as JSON.
fn taken(part: &Part, answer: &Bytes) -> Result<Bytes, Failure> {
    if let Ask::Http(_) = part.ask {
        let span = part.taken(answer);
        return Ok(span.map_or_else(|| Bytes::from_static(b"null"), |span| answer.slice(span)));
    }
    let mut json = Vec::with_capacity(256);
    part.write(answer, &mut json).map_err(Failure::malformed)?;
    Ok(json.into())
}
