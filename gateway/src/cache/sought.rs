//! What a request asks of the cache: by which keys, and how fresh it must be.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName, Method, header};
use http_body::Body as _;

use super::{
    Asked, Key, Mark, Moment, Policy, Store, Stored, Use,
    storing::{Asker, Reach},
};
use crate::{action::Action, auth::X_API_KEY, context::RequestContext, layers::Request, route::Local};

/// What makes another request of one that looks like this one, for services that look at it.
const OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// What only the service can judge.
const BEYOND: [HeaderName; 3] = [header::IF_MATCH, header::IF_UNMODIFIED_SINCE, header::UPGRADE];

pub struct Sought {
    pub route: Arc<Local>,
    pub policy: Arc<Policy>,
    /// Of what is kept for the caller, and of what is kept for everybody.
    own: Key,
    everybody: Option<Key>,
    pub asked: Asked,
    /// It brings a credential that the gateway knows nothing of.
    credential: bool,
    /// It brings cookies that the service gets to see, of somebody whom the gateway doesn't know.
    cookie: bool,
}

/// What there is.
pub struct Seen {
    /// What is for this request, and what may be done with it.
    pub found: Option<(Reach, Arc<Stored>, Use)>,
    /// What is for other requests.
    pub other: Option<Arc<Stored>>,
    /// Nobody is to wait for another.
    pub passes: bool,
}

impl Sought {
    /// None: the cache has nothing to do with it.
    pub fn new(request: &Request, context: &RequestContext) -> Option<Self> {
        let route = context.route.as_ref()?;
        let policy = route.policy.cache.as_ref()?;
        let headers = request.headers();
        let read = [Method::GET, Method::HEAD].contains(request.method());
        // A body is part of no key: who answers by it must not be believed for those who send none.
        if !read || !request.body().is_end_stream() {
            return None;
        }
        if OVERRIDES.iter().chain(&BEYOND).any(|name| headers.contains_key(name)) {
            return None;
        }
        let principal = context.principal.as_ref().map(|caller| &caller.principal);
        let said = context.said.as_ref().and_then(|said| said.host.as_ref());
        let host = host(request);
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let target = [context.scheme().as_bytes(), b"://", &host, target.as_bytes()];
        let kind: Cow<'_, [u8]> = match said {
            None => Cow::Borrowed(&policy.salt),
            // What a proxy says was asked for goes on to the service.
            Some(said) => Cow::Owned([&policy.salt, said.as_bytes()].concat()),
        };
        let everybody = || Key::of_answer(&kind, &[b"*"], &target);
        let (own, everybody) = match principal {
            _ if policy.public => (everybody(), None),
            None => (Key::of_answer(&kind, &[], &target), Some(everybody())),
            // Two credentials of one subject may differ in what they may see.
            Some(principal) => {
                let caller = serde_json::to_vec(principal).ok()?;
                (Key::of_answer(&kind, &[&caller], &target), Some(everybody()))
            }
        };
        // Only a service that is asked by HTTP sees them.
        let passes_on = principal.is_none() && matches!(route.action, Action::Proxy(_));
        let credential = principal.is_none() && headers.contains_key(header::AUTHORIZATION)
            || passes_on && headers.contains_key(&X_API_KEY);
        let cookie = passes_on && headers.contains_key(header::COOKIE);
        let (route, policy) = (Arc::clone(route), Arc::clone(policy));
        Some(Self { route, policy, own, everybody, asked: Asked::read(headers), credential, cookie })
    }

    /// What of the request decides whether its answer may be kept.
    pub fn asker(&self) -> Asker<'_> {
        Asker { asked: &self.asked, credential: self.credential, cookie: self.cookie }
    }

    /// What there is for it now.
    pub fn look(&self, store: &Store, headers: &HeaderMap, now: Moment) -> Seen {
        let mut seen = Seen { found: None, other: None, passes: false };
        let keys = [(Reach::Caller, Some(&self.own)), (Reach::Everybody, self.everybody.as_ref())];
        for (reach, key) in keys.into_iter().filter_map(|(reach, key)| Some((reach, key?))) {
            let Some(resource) = store.get(key) else { continue };
            let latest = resource.variants.iter().rev();
            let found = latest.clone().find(|stored| stored.selected.fits(headers) && store.stands(stored, now));
            let may = found.map(|stored| stored.freshness.use_for(&self.asked, now));
            if let (Some(stored), Some(Use::Fresh(left))) = (found, may) {
                seen.found = Some((reach, Arc::clone(stored), Use::Fresh(left)));
                return seen;
            }
            let before = seen.found.as_ref().map(|(.., before)| *before);
            if let (Some(stored), Some(may)) = (found, may)
                && (before.is_none() || before == Some(Use::Revalidate))
            {
                seen.found = Some((reach, Arc::clone(stored), may));
            }
            seen.passes |= resource.passes(now);
            seen.other = seen.other.or_else(|| latest.clone().next().cloned());
        }
        seen
    }

    /// What the caller alone is given is kept under it.
    pub fn own(&self) -> &Key {
        &self.own
    }

    pub fn key(&self, reach: Reach) -> &Key {
        match reach {
            Reach::Caller => &self.own,
            Reach::Everybody => self.everybody.as_ref().unwrap_or(&self.own),
        }
    }

    /// By what others who ask for the very same are found.
    pub fn flight(&self, seen: &Seen, headers: &HeaderMap) -> Key {
        let apart = seen.other.as_ref().map(|other| other.selected.signature(headers));
        self.own.with(apart.as_deref().unwrap_or_default())
    }
}

/// What a write to a target, or a name of it, makes old.
pub fn mark_of(host: &[u8], target: &str) -> Mark {
    Mark::of_target(host, target.as_bytes())
}

/// The host that was asked, with its port, in lower case.
pub fn host(request: &Request) -> Cow<'_, [u8]> {
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => request.headers().get(header::HOST).map_or(&b""[..], |host| host.as_bytes()),
    };
    if host.iter().any(u8::is_ascii_uppercase) { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) }
}
