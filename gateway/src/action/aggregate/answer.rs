//! Putting the parts together, in the order of the configuration.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde::Serialize;
use upstream::Body;

use super::{
    META, ROOM,
    each::{Answer, Answers},
    failure::{Failure, NO_INPUT},
    part::{Part, member},
    run::Outcome,
};
use crate::{context::RequestContext, error::Error, problem};

/// What of an answer is the same for every request.
pub struct Frame {
    /// The name of each part with its colon.
    names: Vec<Vec<u8>>,
    /// The end of an answer in which every part is as it should be.
    whole: Vec<u8>,
}

/// `_meta.parts.<name>`.
#[derive(Default, Serialize)]
struct Meta<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
}

/// Of a list.
#[derive(Serialize)]
struct Counts {
    elements: usize,
    #[serde(skip_serializing_if = "is_zero")]
    failed: usize,
    #[serde(skip_serializing_if = "is_zero")]
    missing: usize,
    #[serde(skip_serializing_if = "is_zero")]
    left_out: usize,
}

/// Bytes that go into a text, and where.
struct Insertion<'a> {
    at: usize,
    name: &'a [u8],
    value: &'a [u8],
}

impl Frame {
    pub fn new(parts: &[Part]) -> Self {
        let metas = parts.iter().map(|_| Meta { status: "ok", ..Meta::default() });
        Self { names: parts.iter().map(|part| member(&part.name)).collect(), whole: ending(parts, metas) }
    }

    /// The answer.
    ///
    /// # Errors
    /// A required part that is not what it has to be, or more than an answer may have.
    pub fn answer(
        &self,
        parts: &[Part],
        mut outcomes: Vec<Outcome>,
        context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let mut json = Vec::with_capacity(1024);
        for (at, part) in parts.iter().enumerate().filter(|(_, part)| part.goes_into().is_none()) {
            let start = json.len();
            if part.flatten.is_none() {
                json.push(if start == 0 { b'{' } else { b',' });
                json.extend_from_slice(&self.names[at]);
            }
            let value = json.len();
            if let Err(failure) = write(at, parts, &outcomes, &mut json) {
                if part.required {
                    part.ended(context, "failed");
                    return Err(*failure.error);
                }
                json.truncate(value);
                json.extend_from_slice(&absent(part));
                outcomes[at] = Outcome::Failed(failure);
            }
            if part.flatten.is_some() {
                unwrap(start, &mut json);
            }
            if json.len() > ROOM {
                return Err(*Failure::too_large().error);
            }
        }
        if json.is_empty() {
            json.push(b'{');
        }
        let is_whole = self.end(parts, &outcomes, context, &mut json);
        let mut response = Response::new(Body::from(Bytes::from(json)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if !is_whole {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        Ok(response)
    }

    /// Writes `_meta`; whether all parts are as they should be.
    fn end(&self, parts: &[Part], outcomes: &[Outcome], context: &RequestContext, json: &mut Vec<u8>) -> bool {
        // Written after some member, but for an answer of nothing else.
        let separator = usize::from(json.len() == 1);
        if outcomes.iter().all(|outcome| matches!(outcome, Outcome::Whole(_) | Outcome::Json(_))) {
            parts.iter().for_each(|part| part.ended(context, "ok"));
            json.extend_from_slice(&self.whole[separator..]);
            return true;
        }
        let metas: Vec<_> = parts.iter().zip(outcomes).map(|(part, outcome)| meta(part, parts, outcome)).collect();
        parts.iter().zip(&metas).for_each(|(part, meta)| part.ended(context, meta.status));
        let is_whole = metas.iter().all(|meta| meta.status == "ok");
        json.extend_from_slice(&ending(parts, metas.into_iter())[separator..]);
        is_whole
    }
}

/// Appends what a part has for its value.
fn write(at: usize, parts: &[Part], outcomes: &[Outcome], json: &mut Vec<u8>) -> Result<(), Failure> {
    let part = &parts[at];
    let start = json.len();
    match &outcomes[at] {
        Outcome::Whole(answer) => part.write(answer, json).map_err(Failure::malformed)?,
        Outcome::Json(whole) => splice(part, whole, &insertions(at, whole, parts, outcomes), json)?,
        Outcome::Each(answers) => {
            json.push(b'[');
            for (index, place) in answers.places.iter().enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                json.extend_from_slice(value(part, answers, *place));
                if json.len() > ROOM {
                    return Err(Failure::too_large());
                }
            }
            json.push(b']');
        }
        Outcome::Failed(_) => json.extend_from_slice(&absent(part)),
    }
    // What is not set has no members.
    if part.flatten.is_some() && json.get(start) != Some(&b'{') {
        json.truncate(start);
        json.extend_from_slice(&nothing(part));
    }
    Ok(())
}

/// Appends what is taken of an answer, with what other parts put into it.
fn splice(part: &Part, whole: &[u8], insertions: &[Insertion<'_>], json: &mut Vec<u8>) -> Result<(), Failure> {
    let Some(span) = part.taken(whole) else {
        json.extend_from_slice(b"null");
        return Ok(());
    };
    let (mut from, mut last) = (span.start, None);
    // What is put into what isn't taken goes with it.
    for Insertion { at, name, value } in insertions.iter().filter(|insertion| span.contains(&insertion.at)) {
        json.extend_from_slice(&whole[from..*at]);
        if last == Some(*at) || whole.get(at - 1) != Some(&b'{') {
            json.push(b',');
        }
        json.extend_from_slice(name);
        json.extend_from_slice(value);
        (from, last) = (*at, Some(*at));
        if json.len() > ROOM {
            return Err(Failure::too_large());
        }
    }
    json.extend_from_slice(&whole[from..span.end]);
    Ok(())
}

/// What other parts put into this one's answer, by place, then in their order. It is the gateway's own JSON: without spaces.
fn insertions<'a>(at: usize, whole: &[u8], parts: &'a [Part], outcomes: &'a [Outcome]) -> Vec<Insertion<'a>> {
    let mut insertions = Vec::new();
    for (part, outcome) in parts.iter().zip(outcomes).filter(|(part, _)| part.goes_into() == Some(at)) {
        let (Some(each), Outcome::Each(answers)) = (&part.each, outcome) else { continue };
        let (Some((name, _)), Some((spans, _))) = (&each.into, each.elements(whole)) else { continue };
        for (span, place) in spans.into_iter().zip(&answers.places) {
            insertions.push(Insertion { at: span.end - 1, name, value: value(part, answers, *place) });
        }
    }
    insertions.sort_by_key(|insertion| insertion.at);
    insertions
}

/// What an element of a list gets.
fn value<'a>(part: &'a Part, answers: &'a Answers, place: Option<usize>) -> &'a [u8] {
    match place.and_then(|place| answers.answers.get(place)) {
        Some(Answer::Json(json)) => json,
        _ => part.fallback.as_deref().unwrap_or(b"null"),
    }
}

/// What stands where a part's value would.
fn absent(part: &Part) -> Cow<'_, [u8]> {
    match &part.fallback {
        // That is for the elements, and there are none.
        _ if part.each.is_some() => Cow::Borrowed(b"null"),
        Some(fallback) => Cow::Borrowed(fallback),
        None => Cow::Borrowed(b"null"),
    }
}

/// The members of a flattened part that has none.
fn nothing(part: &Part) -> Vec<u8> {
    let mut json = vec![b'{'];
    for (at, name) in part.flatten.iter().flatten().enumerate() {
        json.extend_from_slice(if at > 0 { b"," } else { b"" });
        json.extend_from_slice(&member(name));
        json.extend_from_slice(b"null");
    }
    json.push(b'}');
    json
}

/// Makes the members of the object that ends a text those of the text, which is an object that isn't closed yet.
fn unwrap(start: usize, json: &mut Vec<u8>) {
    if json.pop() == Some(b'}') && json.len() > start + 1 {
        json[start] = if start == 0 { b'{' } else { b',' };
    } else {
        json.truncate(start);
    }
}

/// `,"_meta":{"parts":{…}}}`
fn ending<'a>(parts: &[Part], metas: impl Iterator<Item = Meta<'a>>) -> Vec<u8> {
    let mut json = Vec::with_capacity(64 * parts.len());
    json.push(b',');
    json.extend_from_slice(&member(META));
    json.extend_from_slice(br#"{"parts":{"#);
    for (at, (part, meta)) in parts.iter().zip(metas).enumerate() {
        json.extend_from_slice(if at > 0 { b"," } else { b"" });
        json.extend_from_slice(&member(&part.name));
        json.extend_from_slice(&serde_json::to_vec(&meta).unwrap_or_default());
    }
    json.extend_from_slice(b"}}}");
    json
}

fn meta<'a>(part: &Part, parts: &'a [Part], outcome: &Outcome) -> Meta<'a> {
    let in_vain = if part.fallback.is_some() { "fallback" } else { "failed" };
    match outcome {
        Outcome::Whole(_) | Outcome::Json(_) => Meta { status: "ok", ..Meta::default() },
        Outcome::Failed(failure) => Meta {
            status: if failure.reason == NO_INPUT { "skipped" } else { in_vain },
            needs: failure.needs.map(|needs| parts[needs].name.as_str()),
            ..Meta::of(failure)
        },
        Outcome::Each(answers) => {
            let counts = Counts::of(answers);
            let asked = counts.elements - counts.left_out;
            let status = match counts.failed {
                0 if counts.left_out == 0 => "ok",
                failed if failed > 0 && failed == asked => in_vain,
                _ => "partial",
            };
            Meta { status, counts: Some(counts), ..answers.failure.as_ref().map(Meta::of).unwrap_or_default() }
        }
    }
}

impl Meta<'_> {
    fn of(failure: &Failure) -> Self {
        let http_status = Some(problem::status(failure.error.kind).http.as_u16());
        Self { reason: Some(failure.reason), http_status, ..Self::default() }
    }
}

impl Counts {
    fn of(answers: &Answers) -> Self {
        let mut counts = Self {
            elements: answers.places.len() + answers.left_out,
            failed: 0,
            missing: 0,
            left_out: answers.left_out,
        };
        for place in &answers.places {
            match place.and_then(|place| answers.answers.get(place)) {
                Some(Answer::Json(_)) => {}
                Some(Answer::Failed) => counts.failed += 1,
                Some(Answer::Missing) | None => counts.missing += 1,
            }
        }
        counts
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
