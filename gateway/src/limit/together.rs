//! Limits that gateways count together, in the Redis they share: one script in one round trip for all limits of a request,
//! by the clock of Redis. It counts a request in all of them or, if one refuses it, in none.
//!
//! Where Redis is late or gone, each gateway enforces its share: the limit divided by the gateways that lived when it was
//! last heard of, at least 1, and what it has itself let pass of late counts. What it lets pass then it owes: it tells Redis
//! with the key's next question, so that a Redis that comes and goes doesn't open the gate each time. A question whose
//! answer came too late may have counted nonetheless: an error on the strict side.
//!
//! How much may pass in any span of a window, whatever happens to Redis as long as it keeps what it has counted: what passed
//! through Redis is at most the limit, because Redis counts all of it; what one gateway let pass by its share is at most the
//! share, because it counts all of that itself. So with `n` gateways it is at most `limit + n * max(1, limit / n)`, twice the
//! limit, and with Redis there all the time the limit. A Redis that forgets (one that is emptied, or killed before it has
//! written) is another Redis: the limit once more for each time it forgets.

use std::{
    num::NonZeroU32,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use http::HeaderMap;
use redis::{Cmd, RedisResult, Script};
use time::OffsetDateTime;

use super::{Decision, Limit, Limiter, Quota, Values, Verdict};
use crate::{
    context::RequestContext,
    metrics::METRICS,
    shared::{Away, Redis, command, keys},
};

/// Both algorithms as in `window` and `gcra`, in microseconds. A window is a hash of counts by part. The epoch is that of
/// 2023, so that a double resolves fractions. Where the clock of Redis was set back, what lies ahead of it counts as of now:
/// strict, and over after a window.
///
/// KEYS: one a limit. ARGV: six a limit: `window`, quota, length of a part, or `rate`, interval, burst; then 1 if it is
/// only to be watched; then what was let pass elsewhere; then what the request costs, where 0 only looks. Returns three
/// numbers a limit, up to the one that refuses: allowed, remaining, wait; and at last the moment it counted.
static CHECK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = (time[1] - 1700000000) * 1000000 + time[2]
         local function count(key, part, length, requests)
           redis.call('HINCRBY', key, string.format('%.0f', part), requests)
           redis.call('PEXPIRE', key, math.ceil(length * 65 / 1000))
         end
         local function set(key, even)
           redis.call('SET', key, string.format('%.3f', even), 'PX', math.max(1, math.ceil((even - now) / 1000)))
         end
         local function even(key, interval, burst)
           local even, most = tonumber(redis.call('GET', key) or now), now + interval * burst
           if even > most + 1 then
             set(key, most)
             return most
           end
           return math.max(even, now)
         end
         for i, key in ipairs(KEYS) do
           local a, b, owed = tonumber(ARGV[i * 6 - 4]), tonumber(ARGV[i * 6 - 3]), tonumber(ARGV[i * 6 - 1])
           if owed > 0 then
             if ARGV[i * 6 - 5] == 'window' then
               count(key, math.floor(now / b), b, owed)
             else
               set(key, math.min(even(key, a, b) + owed * a, now + a * b))
             end
           end
         end
         local answer, counts = {}, {}
         local function answered()
           answer[#answer + 1] = now
           return answer
         end
         for i, key in ipairs(KEYS) do
           local kind, shadow, cost = ARGV[i * 6 - 5], ARGV[i * 6 - 2] == '1', tonumber(ARGV[i * 6])
           local a, b = tonumber(ARGV[i * 6 - 4]), tonumber(ARGV[i * 6 - 3])
           local allowed, remaining, wait
           if kind == 'window' then
             local head = math.floor(now / b)
             local total, oldest, gone, counted = 0, head, {}, {}
             local parts = redis.call('HGETALL', key)
             for p = 1, #parts, 2 do
               local part, requests = tonumber(parts[p]), tonumber(parts[p + 1])
               if part < head - 64 then
                 gone[#gone + 1] = parts[p]
               else
                 total = total + requests
                 oldest = math.min(oldest, part)
                 counted[part] = requests
                 if part > head then
                   redis.call('HDEL', key, parts[p])
                   count(key, head, b, requests)
                 end
               end
             end
             allowed = total + cost <= a
             remaining = math.max(a - total - (allowed and cost or 0), 0)
             if not allowed then
               local left = total
               for part = oldest, head do
                 left, oldest = left - (counted[part] or 0), part
                 if left + cost <= a then break end
               end
             end
             wait = (oldest + 65) * b - now
             counts[i] = allowed and cost > 0 and function()
               if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
               count(key, head, b, cost)
             end
           else
             local before = even(key, a, b)
             local next = before + a * cost
             local ahead = next - now
             allowed = ahead <= a * b + 0.1
             remaining = math.floor((a * b + 0.1 - (allowed and ahead or before - now)) / a)
             wait = allowed and a or ahead - a * b
             counts[i] = allowed and cost > 0 and function() set(key, next) end
           end
           answer[#answer + 1] = allowed and 1 or 0
           answer[#answer + 1] = remaining
           answer[#answer + 1] = math.ceil(wait)
           if not allowed and not shadow then return answered() end
         end
         for i = 1, #KEYS do
           if counts[i] then counts[i]() end
         end
         return answered()",
    )
});

/// The limits of one request, each with the request's key.
pub struct Together {
    redis: Arc<Redis>,
    now: Instant,
    /// Those that only this gateway counts: they cost nothing, so they go first.
    own: Vec<(Limit, u128)>,
    shared: Vec<Asked>,
}

struct Asked {
    limit: Limit,
    key: u128,
    /// The same in Redis.
    redis_key: String,
}

/// A key in Redis, and what the script must know of its limit.
type Arguments = (String, [String; 6]);

/// What the limits say of a request, as it comes together.
struct Judging<'a> {
    headers: &'a HeaderMap,
    context: &'a RequestContext,
    now: Instant,
    verdict: Verdict,
    /// What was counted here, should it have to be given back.
    counted: Vec<(Limit, u128)>,
}

impl Together {
    pub fn new(
        redis: &Arc<Redis>,
        limits: &[Limit],
        headers: &HeaderMap,
        context: &RequestContext,
        now: Instant,
    ) -> Self {
        let mut together = Self { redis: Arc::clone(redis), now, own: Vec::new(), shared: Vec::new() };
        for limit in limits {
            let limiter = &limit.limiter;
            let Some(values) = limiter.key.of(headers, context) else { continue };
            let (limit, key) = (limit.clone(), values.hash());
            if limiter.config.shared {
                let redis_key = keys::limit(&values.digest(&limiter.place));
                together.shared.push(Asked { limit, key, redis_key });
            } else {
                together.own.push((limit, key));
            }
        }
        together
    }

    /// Asks all of them. Waits for Redis no longer than a limit may. `headers` and `context` are those it was made with.
    pub async fn verdict(self, headers: &HeaderMap, context: &RequestContext) -> Verdict {
        let now = self.now;
        let mut judging = Judging { headers, context, now, verdict: Verdict::default(), counted: Vec::new() };
        for (limit, key) in &self.own {
            let decision = limit.limiter.check(limit.cost, *key, now);
            if !judging.take(limit, *key, &decision) {
                return judging.verdict;
            }
        }
        if self.shared.is_empty() {
            return judging.verdict;
        }
        let gateways = NonZeroU32::new(self.redis.gateways()).unwrap_or(NonZeroU32::MIN);
        let owed = self.shared.iter().map(|asked| asked.limit.limiter.owed.take(asked.key, now)).collect::<Vec<_>>();
        let arguments: Vec<_> = self.shared.iter().zip(&owed).map(|(asked, owed)| asked.arguments(*owed)).collect();
        match self.redis.ask_promptly(move |redis| ask(redis, arguments.clone())).await {
            Ok(answer) => self.told(gateways, &answer, &mut judging),
            Err(_) => {
                METRICS.limited_by_share();
                for (Asked { limit, key, .. }, owed) in self.shared.iter().zip(owed) {
                    limit.limiter.owed.owe(*key, owed, now);
                }
                self.share(gateways, &mut judging);
            }
        }
        judging.verdict
    }

    /// What Redis says.
    fn told(&self, gateways: NonZeroU32, answer: &[i64], judging: &mut Judging<'_>) {
        let at = answer.last().copied().unwrap_or_default();
        for (asked, decision) in self.shared.iter().zip(decisions(answer)) {
            judging.add(&asked.limit, &decision);
            if judging.verdict.refused.is_some() {
                trace(&asked.limit, at, Judge::Redis, false);
                return judging.give_back();
            }
        }
        for (asked, decision) in self.shared.iter().zip(decisions(answer)) {
            if decision.allowed {
                asked.limit.limiter.note(gateways, asked.limit.cost, asked.key, self.now);
                trace(&asked.limit, at, Judge::Redis, true);
            }
        }
    }

    /// What is said without Redis.
    fn share(&self, gateways: NonZeroU32, judging: &mut Judging<'_>) {
        let own = judging.counted.len();
        for Asked { limit, key, .. } in &self.shared {
            let decision = limit.limiter.check_share(gateways, limit.cost, *key, self.now);
            if !judging.take(limit, *key, &decision) {
                return;
            }
        }
        for (limit, key) in &judging.counted[own..] {
            limit.limiter.owed.owe(*key, limit.cost.get(), self.now);
            if tracing::enabled!(target: TARGET, tracing::Level::TRACE) {
                let at = OffsetDateTime::now_utc() - self.now.elapsed() - EPOCH;
                trace(limit, i64::try_from(at.whole_microseconds()).unwrap_or_default(), Judge::Share, true);
            }
        }
    }
}

impl Judging<'_> {
    /// Whether the request may go on to the next limit. If not, what was counted is given back.
    fn take(&mut self, limit: &Limit, key: u128, decision: &Decision) -> bool {
        self.add(limit, decision);
        if decision.allowed {
            self.counted.push((limit.clone(), key));
        }
        let goes_on = self.verdict.refused.is_none();
        if !goes_on {
            self.give_back();
        }
        goes_on
    }

    fn add(&mut self, limit: &Limit, decision: &Decision) {
        let limiter = &limit.limiter;
        if let Some(values) = limiter.key.of(self.headers, self.context) {
            limiter.pressure.note(&limiter.name, limiter.quota(), limit.cost.get(), decision, &values);
        }
        self.verdict.add(limiter, decision);
    }

    fn give_back(&self) {
        for (limit, key) in &self.counted {
            limit.limiter.give_back(limit.cost, *key, self.now);
        }
    }
}

impl Asked {
    fn arguments(&self, owed: u32) -> Arguments {
        (self.redis_key.clone(), arguments(&self.limit.limiter, owed, self.limit.cost.get()))
    }
}

/// Where the moments are told at which requests were judged, in microseconds of one clock: what an oracle judges by.
const TARGET: &str = "gateway::limit";
/// What the script counts from.
const EPOCH: OffsetDateTime = time::macros::datetime!(2023-11-14 22:13:20 UTC);

#[derive(Clone, Copy, Debug)]
enum Judge {
    Redis,
    Share,
}

fn trace(limit: &Limit, at: i64, judge: Judge, allowed: bool) {
    let (limit, cost) = (&*limit.limiter.name, limit.cost.get());
    tracing::trace!(target: TARGET, limit, cost, at, ?judge, allowed, "judged");
}

fn arguments(limiter: &Limiter, owed: u32, cost: u32) -> [String; 6] {
    let (kind, a, b) = match limiter.config.quota {
        Quota::Window { requests, per } => ("window", requests.to_string(), per.as_micros().div_ceil(64).to_string()),
        Quota::Rate { per_second, burst } => {
            ("rate", (1_000_000.0 / f64::from(per_second.get())).to_string(), burst.to_string())
        }
    };
    [kind.to_owned(), a, b, u8::from(limiter.shadow).to_string(), owed.to_string(), cost.to_string()]
}

/// How many are left to a key by all gateways' count.
///
/// # Errors
/// If Redis doesn't answer.
pub async fn remaining(redis: &Redis, limiter: &Limiter, values: &Values<'_>) -> Result<u32, Away> {
    let looking = (keys::limit(&values.digest(&limiter.place)), arguments(limiter, 0, 0));
    let answer = redis.ask(move |redis| ask(redis, vec![looking.clone()])).await?;
    Ok(decisions(&answer).next().map_or(0, |decision| decision.remaining))
}

/// Forgets what all gateways counted for a key.
///
/// # Errors
/// If Redis doesn't answer.
pub async fn forget(redis: &Redis, limiter: &Limiter, values: &Values<'_>) -> Result<(), Away> {
    redis.ask(command(Cmd::del(keys::limit(&values.digest(&limiter.place))))).await
}

async fn ask(mut redis: redial::Redis, arguments: Vec<Arguments>) -> RedisResult<Vec<i64>> {
    let mut script = CHECK.prepare_invoke();
    for (key, limit) in &arguments {
        script.key(key);
        script.arg(limit.as_slice());
    }
    script.invoke_async(&mut redis).await
}

fn decisions(answer: &[i64]) -> impl Iterator<Item = Decision> + use<'_> {
    answer.chunks_exact(3).map(|said| Decision {
        allowed: said[0] == 1,
        remaining: u32::try_from(said[1].max(0)).unwrap_or(u32::MAX),
        wait: Duration::from_micros(said[2].max(0).unsigned_abs()),
    })
}
