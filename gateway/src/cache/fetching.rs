//! Asking the service: with the validators of what is kept, so that it may say that nothing has changed (RFC 9111, section
//! 4.3), and judging what it answers.

use std::{borrow::Cow, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, response::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout_at;
use upstream::Body;

use super::{
    Freshness, Mark, Moment, Room, Said, Selected, Stamp, Store, Stored,
    answering::{Told, answer, is_known, not_modified, opaque},
    sought::{Sought, mark_of},
    storing::{self, Reach},
    tags::{Tags, texts},
    vary,
};
use crate::{
    context::{RequestContext, Variables},
    error::{Error, ErrorKind},
    layers::{Request, Response},
};

/// A body of known length up to so many bytes is waited for, and needs nobody to look after it.
const SMALL: u64 = 64 * 1024;

/// What came of asking.
pub enum Obtained {
    Kept(Arc<Stored>, Told),
    /// The service failed: what there was is given instead.
    StandsIn(Arc<Stored>),
    /// Its body is on its way, and kept when it is there.
    Comes(Box<Parts>, Body, Box<Keep>, Room),
    Passed(Response),
    Failed(Error),
}

/// What makes a header and a body an answer that is kept.
pub struct Keep {
    store: Arc<Store>,
    sought: Arc<Sought>,
    status: StatusCode,
    headers: HeaderMap,
    reach: Reach,
    freshness: Freshness,
    selected: Selected,
    stamp: Stamp,
    target: Mark,
    variables: Variables,
}

/// Asks the service. `found` is what was to be had, and `why` it wasn't enough.
pub async fn obtain<S>(
    inner: &mut S,
    store: &Arc<Store>,
    sought: &Arc<Sought>,
    found: Option<Arc<Stored>>,
    why: &'static str,
    request: Request,
) -> Obtained
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    let (stamp, asked) = (store.stamp(), Moment::now());
    let client = request.headers().clone();
    let (deadline, variables) = match request.extensions().get::<RequestContext>() {
        Some(context) => (context.deadline, Arc::clone(&context.variables)),
        None => (Instant::now(), Variables::default()),
    };
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = mark_of(&super::sought::host(&request), target);
    // A part, or a header alone, is nothing to keep: it is asked for as the client asked for it.
    let is_whole = request.method() == Method::GET && !client.contains_key(header::RANGE);
    let mut request = request;
    let found = found.filter(|_| is_whole);
    let unconditional = found.as_ref().filter(|found| found.headers.contains_key(header::ETAG)).map(|_| copy(&request));
    if is_whole {
        condition(request.headers_mut(), found.as_deref());
    }
    let mut answered = ask(inner, request, deadline).await;
    // It speaks of another version than the one that is kept (RFC 9111, section 4.3.4): only the whole of it helps.
    let is_other = matches!((&answered, &found), (Ok(response), Some(found)) if is_of_another(response, found));
    if is_other && let Some(request) = unconditional {
        answered = ask(inner, request, deadline).await;
    }
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => {
            return match stand_in(found, sought, is_failure(error.kind)) {
                Some(stored) => Obtained::StandsIn(stored),
                None => Obtained::Failed(error),
            };
        }
    };
    let now = Moment::now();
    let mut told = Told::forwarded(why);
    if response.status() == StatusCode::NOT_MODIFIED
        && let Some(found) = &found
    {
        if is_of_another(&response, found) {
            let cause = "it says twice that another version has not changed";
            return Obtained::Failed(
                Error::new(ErrorKind::BadGateway, "the service gave no valid answer").cause(cause),
            );
        }
        told.status = Some(StatusCode::NOT_MODIFIED);
        return revalidated(store, sought, found, response.headers(), &client, Times { stamp, asked, now }, told);
    }
    if response.status().is_server_error()
        && let Some(stored) = stand_in(found, sought, true)
    {
        return Obtained::StandsIn(stored);
    }
    vary::tell(response.headers_mut(), &sought.policy.vary);
    let said = Said::read(response.headers());
    let freshness = Freshness::new(response.headers(), &said, &sought.policy.rules, asked, now);
    let asker = sought.asker();
    let reach = storing::reach(response.status(), response.headers(), &said, &freshness, &asker, &sought.policy);
    let reach = if is_whole { reach } else { Err("partial") };
    let reach = reach.and_then(|reach| match response.body().size_hint().lower() > store.object() as u64 {
        true => Err("size"),
        false => Ok(reach),
    });
    let selected = Selected::new(&client, response.headers(), &sought.policy.vary);
    let (reach, selected) = match (reach, selected) {
        (Ok(reach), Some(selected)) => (reach, selected),
        (refused, _) => {
            told.detail = Some(refused.err().unwrap_or("vary"));
            return Obtained::Passed(passed(response, &client, is_whole, &told, now));
        }
    };
    let mut headers = storing::kept(response.headers());
    // RFC 9110, section 6.6.1.
    headers.entry(header::DATE).or_insert_with(|| http_date(now));
    let (store, sought, status) = (Arc::clone(store), Arc::clone(sought), response.status());
    let keep = Keep { store, sought, status, headers, reach, freshness, selected, stamp, target, variables };
    let is_small = response.body().size_hint().exact().is_some_and(|length| length <= SMALL);
    if !response.body().is_whole() && !is_small {
        let Some(room) = keep.store.room(response.body().size_hint().exact()) else {
            told.detail = Some("busy");
            return Obtained::Passed(passed(response, &client, is_whole, &told, now));
        };
        let (mut parts, body) = response.into_parts();
        told.note(&mut parts.headers);
        return Obtained::Comes(Box::new(parts), body, Box::new(keep), room);
    }
    let (parts, body) = response.into_parts();
    let bytes = match timeout_at(deadline.into(), body.collect()).await {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(error)) => {
            return Obtained::Failed(Error::new(ErrorKind::BadGateway, "the service's answer broke off").cause(error));
        }
        Err(_) => return Obtained::Failed(Error::new(ErrorKind::Timeout, "the answer took too long")),
    };
    told.ttl = Some(keep.left());
    match keep.keep(bytes.clone()) {
        Ok(stored) => {
            told.stored = true;
            Obtained::Kept(stored, told)
        }
        Err(why) => {
            told.detail = Some(why);
            let response = Response::from_parts(parts, bytes.into());
            Obtained::Passed(passed(response, &client, is_whole, &told, now))
        }
    }
}

impl Keep {
    fn left(&self) -> i64 {
        let left = self.freshness.lifetime.as_secs().saturating_sub(self.freshness.age.as_secs());
        i64::try_from(left).unwrap_or(i64::MAX)
    }

    /// # Errors
    /// Why it can't be kept, in a word.
    pub fn keep(self, body: Bytes) -> Result<Arc<Stored>, &'static str> {
        let tags = &self.sought.policy.tags;
        let made = tags_of(tags, &self.variables, &self.headers, &body).ok_or("tags")?;
        let marks = std::iter::once(self.target).chain(made.iter().map(|tag| Mark::of_tag(tag)));
        let stored = Arc::new(Stored {
            status: self.status,
            headers: self.headers,
            body,
            freshness: self.freshness,
            selected: self.selected,
            stamp: self.stamp,
            marks: marks.collect(),
            by_events: !tags.is_empty(),
        });
        self.store.put(self.sought.key(self.reach), Arc::clone(&stored));
        Ok(stored)
    }
}

/// None: there are too many, or the answer is not what they could be read from.
pub fn tags_of(tags: &Tags, variables: &Variables, headers: &HeaderMap, body: &[u8]) -> Option<Vec<String>> {
    if tags.is_empty() {
        return Some(Vec::new());
    }
    let of_path = |name: &str| variables.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.clone());
    let document = if tags.variables().all(|name| of_path(name).is_some()) {
        serde_json::Value::Null
    } else {
        is_json(headers).then(|| serde_json::from_slice(body).ok()).flatten()?
    };
    let made = tags.make(|name| match of_path(name) {
        Some(value) => vec![Cow::Owned(value)],
        None => texts(&document, name),
    });
    made.ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/json") || kind.ends_with(b"+json")
}

/// The client's own conditions are judged here, by what comes; the service is asked by those of what there is.
fn condition(request: &mut HeaderMap, found: Option<&Stored>) {
    const CONDITIONS: [HeaderName; 3] = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_RANGE];
    for name in CONDITIONS {
        request.remove(name);
    }
    let Some(found) = found.filter(|found| found.status == StatusCode::OK) else { return };
    for (validator, name) in [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)]
    {
        if let Some(value) = found.headers.get(validator) {
            request.insert(name, value.clone());
        }
    }
}

/// Asks, and waits no longer than anybody would.
async fn ask<S>(inner: &mut S, request: Request, deadline: Instant) -> Result<Response, Error>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    let answered = timeout_at(deadline.into(), inner.call(request)).await;
    answered.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "the answer took too long")))
}

/// The same request once more, without conditions. It has no body.
fn copy(request: &Request) -> Request {
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    condition(copy.headers_mut(), None);
    copy
}

/// Whether an answer says of another version than the one that is kept that it has not changed.
fn is_of_another(response: &Response, found: &Stored) -> bool {
    let tag = |headers: &HeaderMap| headers.get(header::ETAG).map(|tag| opaque(tag.as_bytes()).to_vec());
    let (told, kept) = (tag(response.headers()), tag(&found.headers));
    response.status() == StatusCode::NOT_MODIFIED && told.is_some() && kept.is_some() && told != kept
}

#[derive(Clone, Copy)]
struct Times {
    stamp: Stamp,
    asked: Moment,
    now: Moment,
}

/// What was there, with what a 304 says of it: that may have made it one that is kept for others, or not at all.
fn revalidated(
    store: &Store,
    sought: &Sought,
    found: &Arc<Stored>,
    said: &HeaderMap,
    client: &HeaderMap,
    times: Times,
    mut told: Told,
) -> Obtained {
    let mut stored = freshened(found, said, sought, times);
    let (status, headers) = (stored.status, &stored.headers);
    let reach =
        storing::reach(status, headers, &Said::read(headers), &stored.freshness, &sought.asker(), &sought.policy);
    let selected = Selected::new(client, headers, &sought.policy.vary).ok_or("vary");
    match reach.and_then(|reach| Ok((reach, selected?))) {
        Ok((reach, selected)) => {
            stored.selected = selected;
            let (before, stored) = (of(store, sought, found), Arc::new(stored));
            if before != reach {
                store.forget(sought.key(before), found);
            }
            store.put(sought.key(reach), Arc::clone(&stored));
            told.stored = true;
            Obtained::Kept(stored, told)
        }
        Err(why) => {
            told.detail = Some(why);
            match answer(&stored, client, &told, times.now) {
                Ok(response) => Obtained::Passed(response),
                Err(error) => Obtained::Failed(error),
            }
        }
    }
}

fn freshened(found: &Stored, told: &HeaderMap, sought: &Sought, times: Times) -> Stored {
    let Times { stamp, asked, now } = times;
    let mut headers = found.headers.clone();
    storing::update(&mut headers, told);
    vary::tell(&mut headers, &sought.policy.vary);
    if !told.contains_key(header::DATE) {
        headers.insert(header::DATE, http_date(now));
    }
    // The age is that of this answer, not of the one before.
    let mut dated = headers.clone();
    if let Some(age) = told.get(header::AGE) {
        dated.insert(header::AGE, age.clone());
    }
    let freshness = Freshness::new(&dated, &Said::read(&headers), &sought.policy.rules, asked, now);
    Stored {
        status: found.status,
        headers,
        body: found.body.clone(),
        freshness,
        selected: found.selected.clone(),
        stamp,
        marks: found.marks.clone(),
        by_events: found.by_events,
    }
}

/// Under which key it is.
fn of(store: &Store, sought: &Sought, found: &Arc<Stored>) -> Reach {
    let everybodys = store.get(sought.key(Reach::Everybody));
    let is_everybodys = everybodys.is_some_and(|all| all.variants.iter().any(|stored| Arc::ptr_eq(stored, found)));
    if is_everybodys { Reach::Everybody } else { Reach::Caller }
}

fn stand_in(found: Option<Arc<Stored>>, sought: &Sought, failed: bool) -> Option<Arc<Stored>> {
    found.filter(|found| failed && found.freshness.may_stand_in(&sought.asked, Moment::now()))
}

/// What RFC 5861, section 4, calls an error.
pub fn is_failure(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Internal
            | ErrorKind::BadGateway
            | ErrorKind::Unavailable
            | ErrorKind::Overloaded
            | ErrorKind::Timeout
    )
}

/// An answer that is not kept. Where the client's conditions were taken out, they are judged now.
fn passed(mut response: Response, client: &HeaderMap, is_whole: bool, told: &Told, now: Moment) -> Response {
    told.note(response.headers_mut());
    let is_known = is_whole && response.status() == StatusCode::OK && is_known(response.headers(), now, client);
    if is_known { not_modified(response.into_parts().0.headers) } else { response }
}

fn http_date(now: Moment) -> HeaderValue {
    let text = httpdate::fmt_http_date(now.wall);
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Purges what a write has made old (RFC 9111, section 4.4): its target, what it names on the same host, and the tags of its
/// route.
/// `response` is None where there is none, and nobody knows.
pub fn invalidate(
    store: &Store,
    host: &[u8],
    target: &str,
    response: Option<&Response>,
    written: Option<(&Tags, &Variables)>,
) {
    if response.is_some_and(|response| response.status().is_client_error() || response.status().is_server_error()) {
        return;
    }
    store.purge(mark_of(host, target));
    let none = HeaderMap::new();
    let headers = response.map_or(&none, |response| response.headers());
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        if let Some(named) = headers.get(name).and_then(|value| same_host(value, host, target)) {
            store.purge(mark_of(host, &named));
        }
    }
    if let Some((tags, variables)) = written {
        let body = response.and_then(|response| response.body().bytes()).map_or(&b""[..], |body| body);
        let made = tags_of(tags, variables, headers, body);
        // Where the fields can't be read, those that need none are purged nonetheless.
        let made = made.or_else(|| tags_of(&tags.of_path(variables), variables, headers, b""));
        for tag in made.unwrap_or_default() {
            store.purge(Mark::of_tag(&tag));
        }
    }
}

/// The path and query of a reference that stays on the host (RFC 3986, section 5.2, but for dot segments).
fn same_host(value: &HeaderValue, host: &[u8], target: &str) -> Option<String> {
    let written = value.to_str().ok()?.split('#').next()?;
    let rest = written.strip_prefix("http:").or_else(|| written.strip_prefix("https:")).unwrap_or(written);
    if let Some(rest) = rest.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let named = rest.as_bytes()[..end].eq_ignore_ascii_case(host);
        return named.then(|| if rest[end..].is_empty() { "/".to_owned() } else { rest[end..].to_owned() });
    }
    match rest {
        "" => None,
        rest if rest.starts_with('/') => Some(rest.to_owned()),
        rest => {
            let path = target.split('?').next().unwrap_or_default();
            let folder = &path[..=path.rfind('/')?];
            Some(format!("{folder}{rest}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_same_host_is_purged() {
        let named = |written: &'static str| same_host(&HeaderValue::from_static(written), b"a.example:80", "/x/y?z");
        for (written, target) in
            [("/b?c", "/b?c"), ("b#d", "/x/b"), ("http://A.example:80/b", "/b"), ("//a.example:80", "/")]
        {
            assert_eq!(named(written).as_deref(), Some(target), "{written}");
        }
        for other in ["http://b.example/b", "https://a.example/b", ""] {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
