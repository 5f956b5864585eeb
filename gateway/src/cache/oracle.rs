//! What may be done with an answer, held against RFC 9111 and RFC 5861 as they read: on whole seconds, from what was said
//! rather than from what was parsed.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::{collection::vec, option, prelude::*};

use super::{
    Moment, Rules, Use,
    directives::{Asked, Said},
    freshness::Freshness,
};

const CASES: u32 = 4_000;
const RECEIVED: u64 = 1_800_000_000;

/// An answer, in seconds.
#[derive(Clone, Debug)]
struct Answer {
    /// How long before it was received it says that it was made; below 0 by a clock that is ahead.
    made_before: Option<i64>,
    age: Option<u64>,
    on_its_way: u64,
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    /// After it was received.
    expires_after: Option<i64>,
    while_revalidate: Option<u64>,
    if_error: Option<u64>,
    flags: Vec<&'static str>,
    ttl: Option<u64>,
}

#[derive(Clone, Debug)]
struct Question {
    after: u64,
    no_cache: bool,
    max_age: Option<u64>,
    min_fresh: Option<u64>,
    /// None within: however stale.
    max_stale: Option<Option<u64>>,
    if_error: Option<u64>,
}

#[derive(Debug, PartialEq)]
enum Verdict {
    AsItIs,
    WhileAskedAnew,
    AskFirst,
}

impl Answer {
    fn lifetime(&self) -> i64 {
        let date = -self.made_before.unwrap_or(0);
        let told = self.s_maxage.or(self.max_age).map(|age| age as i64);
        let told = told.or(self.expires_after.map(|after| (after - date).max(0)));
        told.or(self.ttl.map(|ttl| ttl as i64)).unwrap_or(0)
    }

    fn age(&self, after: u64) -> i64 {
        let apparent = self.made_before.unwrap_or(0).max(0);
        apparent.max((self.age.unwrap_or(0) + self.on_its_way) as i64) + after as i64
    }

    fn says(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// Section 5.2.2: who forbids its use when it is stale.
    fn never_stale(&self) -> bool {
        ["must-revalidate", "proxy-revalidate", "no-cache"].into_iter().any(|flag| self.says(flag))
            || self.s_maxage.is_some()
    }

    fn verdict(&self, question: &Question) -> Verdict {
        let (age, lifetime) = (self.age(question.after), self.lifetime());
        let young = question.max_age.is_none_or(|most| most > 0 && age <= most as i64);
        let lasts = question.min_fresh.is_none_or(|least| lifetime - age >= least as i64);
        if self.says("no-cache") || question.no_cache || !lasts {
            return Verdict::AskFirst;
        }
        if age < lifetime {
            return if young { Verdict::AsItIs } else { Verdict::AskFirst };
        }
        let overdue = age - lifetime;
        let takes_it = match question.max_stale {
            None => false,
            Some(None) => true,
            Some(Some(most)) => overdue <= most as i64,
        };
        if self.never_stale() {
            Verdict::AskFirst
        } else if takes_it && young {
            Verdict::AsItIs
        } else if question.max_age.is_none() && overdue < self.while_revalidate.unwrap_or(0) as i64 {
            Verdict::WhileAskedAnew
        } else {
            Verdict::AskFirst
        }
    }

    fn stands_in(&self, question: &Question) -> bool {
        let most = self.if_error.unwrap_or(0).max(question.if_error.unwrap_or(0)) as i64;
        let overdue = (self.age(question.after) - self.lifetime()).max(0);
        !self.never_stale() && !question.no_cache && most > 0 && overdue <= most
    }

    /// Its header; the directives on one line or on several, in either case.
    fn headers(&self, lines: bool, upper: bool) -> HeaderMap {
        let mut directives: Vec<String> = self.flags.iter().map(ToString::to_string).collect();
        for (name, seconds) in [
            ("max-age", self.max_age),
            ("s-maxage", self.s_maxage),
            ("stale-while-revalidate", self.while_revalidate),
            ("stale-if-error", self.if_error),
        ] {
            directives.extend(seconds.map(|seconds| format!("{name}={seconds}")));
        }
        let mut headers = HeaderMap::new();
        cache_control(&mut headers, directives, lines, upper);
        let date = |after: i64| {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(RECEIVED.saturating_add_signed(after));
            HeaderValue::try_from(httpdate::fmt_http_date(at)).unwrap()
        };
        let fields = [
            ("date", self.made_before.map(|before| date(-before))),
            ("expires", self.expires_after.map(date)),
            ("age", self.age.map(HeaderValue::from)),
        ];
        for (name, value) in fields {
            headers.extend(value.map(|value| (HeaderName::from_static(name), value)));
        }
        headers
    }
}

impl Question {
    fn headers(&self, lines: bool, upper: bool) -> HeaderMap {
        let mut directives = Vec::new();
        directives.extend(self.no_cache.then(|| "no-cache".to_owned()));
        for (name, seconds) in
            [("max-age", self.max_age), ("min-fresh", self.min_fresh), ("stale-if-error", self.if_error)]
        {
            directives.extend(seconds.map(|seconds| format!("{name}={seconds}")));
        }
        directives.extend(self.max_stale.map(|most| match most {
            Some(most) => format!("max-stale={most}"),
            None => "max-stale".to_owned(),
        }));
        let mut headers = HeaderMap::new();
        cache_control(&mut headers, directives, lines, upper);
        headers
    }
}

fn cache_control(headers: &mut HeaderMap, directives: Vec<String>, lines: bool, upper: bool) {
    let directives: Vec<String> =
        directives.into_iter().map(|one| if upper { one.to_ascii_uppercase() } else { one }).collect();
    let values = if lines { directives } else { vec![directives.join(" ,, ")] };
    for value in values.into_iter().filter(|value| !value.is_empty()) {
        headers.append("cache-control", HeaderValue::try_from(value).unwrap());
    }
}

fn answers() -> impl Strategy<Value = Answer> {
    let flag = prop::sample::select(vec!["must-revalidate", "proxy-revalidate", "no-cache", "public", "immutable"]);
    let times = (option::of(-20..60_i64), option::of(0..60_u64), 0..20_u64, option::weighted(0.2, 0..90_u64));
    let lives = (option::of(0..90_u64), option::weighted(0.2, 0..90_u64), option::of(-20..90_i64));
    let stale = (option::of(0..60_u64), option::of(0..60_u64), vec(flag, 0..2));
    (times, lives, stale).prop_map(|((made_before, age, on_its_way, ttl), lives, stale)| {
        let ((max_age, s_maxage, expires_after), (while_revalidate, if_error, flags)) = (lives, stale);
        Answer {
            made_before,
            age,
            on_its_way,
            max_age,
            s_maxage,
            expires_after,
            while_revalidate,
            if_error,
            flags,
            ttl,
        }
    })
}

fn questions() -> impl Strategy<Value = Question> {
    let rare = |seconds| option::weighted(0.2, seconds);
    (
        0..150_u64,
        proptest::bool::weighted(0.1),
        rare(0..90_u64),
        rare(0..60_u64),
        rare(0..90_u64).prop_flat_map(|most| option::weighted(0.3, Just(most))),
        rare(0..60_u64),
    )
        .prop_map(|(after, no_cache, max_age, min_fresh, max_stale, if_error)| Question {
            after,
            no_cache,
            max_age,
            min_fresh,
            max_stale,
            if_error,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_done_with_an_answer_is_what_the_rfcs_say(
        answer in answers(),
        questions in vec(questions(), 1..8),
        lines: bool,
        upper: bool,
    ) {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(RECEIVED);
        let sent = Moment { steady: Instant::now(), wall: wall - Duration::from_secs(answer.on_its_way) };
        let received = sent.plus(Duration::from_secs(answer.on_its_way));
        let headers = answer.headers(lines, upper);
        let rules = Rules { ttl: answer.ttl.map(Duration::from_secs), ..Rules::NONE };
        let freshness = Freshness::new(&headers, &Said::read(&headers), &rules, sent, received);
        for question in questions {
            let asked = Asked::read(&question.headers(lines, upper));
            let now = received.plus(Duration::from_secs(question.after));
            let found = match freshness.use_for(&asked, now) {
                Use::Fresh(_) => Verdict::AsItIs,
                Use::Meanwhile(_) => Verdict::WhileAskedAnew,
                Use::Revalidate => Verdict::AskFirst,
            };
            prop_assert_eq!(found, answer.verdict(&question), "{:?} {:?}", &answer, &question);
            let stands_in = freshness.may_stand_in(&asked, now);
            prop_assert_eq!(stands_in, answer.stands_in(&question), "{:?} {:?}", &answer, &question);
            prop_assert_eq!(freshness.age_at(now).as_secs() as i64, answer.age(question.after));
        }
    }
}
