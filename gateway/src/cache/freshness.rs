//! How old an answer is and how long it is good (RFC 9111, section 4.2), and what may be done with it when it is good no
//! longer (section 4.2.4, RFC 5861).
//!
//! Nothing is guessed: an answer that doesn't say how long it is good, on a route that doesn't either, is not good for any
//! time at all (no heuristic freshness, section 4.2.2).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header};

use super::{
    Moment, Rules,
    directives::{Asked, Said, seconds, words},
};

/// How long an answer is good.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// When it came.
    pub received: Moment,
    /// How old it was then.
    pub age: Duration,
    pub lifetime: Duration,
    /// It must be asked for again before each use.
    pub always: bool,
    /// It must not be used once it is stale, whoever would take it.
    pub strict: bool,
    pub while_revalidate: Duration,
    pub if_error: Duration,
}

/// What may be done with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// As it is; so long it is still good, below 0 where the client takes it stale.
    Fresh(i64),
    /// As it is, while it is asked for anew.
    Meanwhile(i64),
    /// Only after it was asked for.
    Revalidate,
}

impl Freshness {
    /// `asked` is when the request for it was sent.
    pub fn new(headers: &HeaderMap, said: &Said, rules: &Rules, asked: Moment, received: Moment) -> Self {
        let date = headers.get(header::DATE).and_then(http_date);
        // By the wall's clock, whose seconds are all that `Date` tells.
        let apparent = date.map_or(0, |date| received.seconds().saturating_sub(date));
        let told = age(headers) + received.steady.saturating_duration_since(asked.steady);
        let strict = said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some() || said.no_cache;
        Self {
            received,
            age: told.max(Duration::from_secs(apparent)),
            lifetime: lifetime(headers, said, date.unwrap_or(received.seconds()), rules),
            always: said.no_cache,
            strict,
            while_revalidate: said.stale_while_revalidate.unwrap_or(rules.stale_while_revalidate),
            if_error: said.stale_if_error.unwrap_or(rules.stale_if_error),
        }
    }

    /// Of what is good for so long from now on.
    pub fn of(lifetime: Duration, received: Moment) -> Self {
        let none = Duration::ZERO;
        Self { received, age: none, lifetime, always: false, strict: true, while_revalidate: none, if_error: none }
    }

    pub fn age_at(&self, now: Moment) -> Duration {
        self.age + now.steady.saturating_duration_since(self.received.steady)
    }

    /// Whether it could ever be used as it is.
    pub fn is_ever_good(&self) -> bool {
        !self.always && self.age < self.lifetime
    }

    /// What a request lets be done with it.
    pub fn use_for(&self, asked: &Asked, now: Moment) -> Use {
        let age = self.age_at(now);
        let left = signed(self.lifetime) - signed(age);
        if self.always || asked.no_cache {
            return Use::Revalidate;
        }
        let too_old = asked.max_age.is_some_and(|most| age > most || most.is_zero());
        let too_short = asked.min_fresh.is_some_and(|least| self.lifetime < age.saturating_add(least));
        if age < self.lifetime {
            return if too_old || too_short { Use::Revalidate } else { Use::Fresh(left) };
        }
        let overdue = age - self.lifetime;
        if self.strict || too_short {
            return Use::Revalidate;
        }
        if let Some(most) = asked.max_stale
            && overdue <= most
            && !too_old
        {
            return Use::Fresh(left);
        }
        // Who says how old it may be, has spoken against it.
        if overdue < self.while_revalidate && asked.max_age.is_none() {
            return Use::Meanwhile(left);
        }
        Use::Revalidate
    }

    /// Whether it may be given where the service fails.
    pub fn may_stand_in(&self, asked: &Asked, now: Moment) -> bool {
        if self.strict || asked.no_cache {
            return false;
        }
        let overdue = self.age_at(now).saturating_sub(self.lifetime);
        let most = asked.stale_if_error.map_or(self.if_error, |asked| asked.max(self.if_error));
        !most.is_zero() && overdue <= most
    }
}

fn signed(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Section 4.2.1; where nothing is said, what the route says.
fn lifetime(headers: &HeaderMap, said: &Said, date: u64, rules: &Rules) -> Duration {
    if let Some(age) = said.s_maxage.or(said.max_age) {
        return age;
    }
    if headers.contains_key(header::EXPIRES) {
        // What is no date is past (section 5.3), and so is one of several that differ.
        let mut expires = headers.get_all(header::EXPIRES).iter().map(http_date);
        let first = expires.next().flatten();
        let expires = first.filter(|_| expires.all(|other| other == first)).unwrap_or(0);
        return Duration::from_secs(expires.saturating_sub(date));
    }
    rules.ttl.unwrap_or_default()
}

/// The field `Age`: its first member; what is no number is none (section 5.1).
fn age(headers: &HeaderMap) -> Duration {
    let first = headers.get(header::AGE).and_then(|value| words(value).next());
    seconds(first).unwrap_or_default()
}

/// A date of HTTP in seconds since 1970 (RFC 9110, section 5.6.7), in any of its three forms.
pub fn http_date(value: &HeaderValue) -> Option<u64> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    Some(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const RULES: Rules = Rules::NONE;

    /// 6 November 1994, 08:49:37.
    fn then() -> Moment {
        Moment { steady: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777) }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn fresh(fields: &[(&'static str, &'static str)]) -> Freshness {
        let headers = headers(fields);
        let now = then();
        Freshness::new(&headers, &Said::read(&headers), &RULES, now, now)
    }

    const fn secs(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_date_is_read_in_each_of_its_forms() {
        for good in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(http_date(&HeaderValue::from_static(good)), Some(784_111_777), "{good}");
        }
        for bad in ["", "0", "-1", "now", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Foo 1994 08:49:37 GMT", "784111777"] {
            assert_eq!(http_date(&HeaderValue::from_static(bad)), None, "{bad}");
        }
    }

    #[test]
    fn who_speaks_to_shared_caches_goes_first_and_a_date_last() {
        let lifetime = |fields: &[(&'static str, &'static str)]| fresh(fields).lifetime;
        let expires = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(lifetime(&[expires, date]), secs(60));
        assert_eq!(lifetime(&[expires, date, ("cache-control", "max-age=5")]), secs(5));
        assert_eq!(lifetime(&[("cache-control", "max-age=5, s-maxage=7")]), secs(7));
        assert_eq!(lifetime(&[("expires", "0")]), secs(0));
        assert_eq!(lifetime(&[("last-modified", "Sun, 06 Nov 1993 08:49:37 GMT")]), secs(0), "nothing is guessed");
    }

    #[test]
    fn an_age_is_the_larger_of_what_is_told_and_what_appears() {
        assert_eq!(fresh(&[("age", "10")]).age, secs(10));
        assert_eq!(fresh(&[("date", "Sun, 06 Nov 1994 08:49:07 GMT"), ("age", "10")]).age, secs(30));
        assert_eq!(fresh(&[("date", "Sun, 06 Nov 1994 08:50:07 GMT")]).age, secs(0), "a clock that is ahead");
        for odd in ["-1", "abc", "1.5", ""] {
            assert_eq!(fresh(&[("age", odd)]).age, secs(0), "{odd}");
        }
        let headers = headers(&[("age", "10")]);
        let said = Said::read(&headers);
        let asked = then();
        let slow = Freshness::new(&headers, &said, &RULES, asked, asked.plus(secs(4)));
        assert!(slow.age >= secs(14), "the time on its way counts");
    }

    #[test]
    fn a_request_may_be_stricter_and_laxer_than_the_answer() {
        let answer = fresh(&[("cache-control", "max-age=60, stale-while-revalidate=30")]);
        let at = |after: u64, asked: Asked| answer.use_for(&asked, answer.received.plus(secs(after)));
        let any = Asked::default();
        assert_eq!((at(0, any), at(59, any)), (Use::Fresh(60), Use::Fresh(1)));
        assert_eq!((at(60, any), at(89, any)), (Use::Meanwhile(0), Use::Meanwhile(-29)));
        assert_eq!(at(90, any), Use::Revalidate);
        assert_eq!(at(1, Asked { no_cache: true, ..any }), Use::Revalidate);
        assert_eq!(at(1, Asked { max_age: Some(secs(0)), ..any }), Use::Revalidate);
        assert_eq!(at(10, Asked { max_age: Some(secs(5)), ..any }), Use::Revalidate);
        assert_eq!(at(10, Asked { min_fresh: Some(secs(50)), ..any }), Use::Fresh(50));
        assert_eq!(at(10, Asked { min_fresh: Some(secs(51)), ..any }), Use::Revalidate);
        assert_eq!(at(100, Asked { max_stale: Some(secs(40)), ..any }), Use::Fresh(-40));
        assert_eq!(at(101, Asked { max_stale: Some(secs(40)), ..any }), Use::Revalidate);
        assert_eq!(at(9999, Asked { max_stale: Some(Duration::MAX), ..any }), Use::Fresh(60 - 9999));
    }

    #[test]
    fn what_must_be_asked_for_again_is_never_given_stale() {
        for strict in ["max-age=1, must-revalidate", "max-age=1, proxy-revalidate", "s-maxage=1"] {
            let answer = fresh(&[("cache-control", strict)]);
            let answer = Freshness { while_revalidate: secs(99), if_error: secs(99), ..answer };
            let later = answer.received.plus(secs(5));
            let lax = Asked { max_stale: Some(Duration::MAX), ..Asked::default() };
            assert_eq!(answer.use_for(&lax, later), Use::Revalidate, "{strict}");
            assert!(!answer.may_stand_in(&lax, later), "{strict}");
        }
        let answer = fresh(&[("cache-control", "max-age=1, stale-if-error=10")]);
        let at = |after| answer.may_stand_in(&Asked::default(), answer.received.plus(secs(after)));
        assert!(at(11) && !at(12));
    }
}
