//! Limits that gateways count together, in the Redis they share: one script in one round trip for all limits of a request,
//! by the clock of Redis. It counts a request in all of them or, if one refuses it, in none.
//!
//! Where Redis is late or gone, each gateway enforces its share: the limit divided by the gateways that lived when it was
//! last heard of, at least 1, and what it has itself let pass of late counts. What it lets pass then it owes: it tells Redis
//! with the key's next question, so that a Redis that comes and goes doesn't open the gate each time. A question whose
//! answer came too late may have counted nonetheless: an error on the strict side.

use std::{
    num::NonZeroU32,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use http::HeaderMap;
use redis::{RedisResult, Script, aio::ConnectionManager};

use super::{Decision, Limiter, Quota, Verdict};
use crate::{
    context::RequestContext,
    metrics::METRICS,
    shared::{Redis, keys},
};

/// Both algorithms as in `window` and `gcra`, in microseconds. A window is a hash of counts by part. The epoch is that of
/// 2023, so that a double resolves fractions. Where the clock of Redis was set back, what lies ahead of it counts as of now:
/// strict, and over after a window.
///
/// KEYS: one a limit. ARGV: five a limit: `window`, quota, length of a part, or `rate`, interval, burst; then 1 if it is
/// only to be watched; then what was let pass elsewhere. Returns three numbers a limit, up to the one that refuses: allowed,
/// remaining, wait.
static CHECK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = (time[1] - 1700000000) * 1000000 + time[2]
         local function count(key, part, length, requests)
           redis.call('HINCRBY', key, string.format('%.0f', part), requests)
           redis.call('PEXPIRE', key, math.ceil(length * 65 / 1000))
         end
         local function set(key, even)
           redis.call('SET', key, string.format('%.3f', even), 'PX', math.ceil((even - now) / 1000))
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
           local a, b, owed = tonumber(ARGV[i * 5 - 3]), tonumber(ARGV[i * 5 - 2]), tonumber(ARGV[i * 5])
           if owed > 0 then
             if ARGV[i * 5 - 4] == 'window' then
               count(key, math.floor(now / b), b, owed)
             else
               set(key, math.min(even(key, a, b) + owed * a, now + a * b))
             end
           end
         end
         local answer, counts = {}, {}
         for i, key in ipairs(KEYS) do
           local kind, shadow = ARGV[i * 5 - 4], ARGV[i * 5 - 1] == '1'
           local a, b = tonumber(ARGV[i * 5 - 3]), tonumber(ARGV[i * 5 - 2])
           local allowed, remaining, wait
           if kind == 'window' then
             local head = math.floor(now / b)
             local total, oldest, gone = 0, head, {}
             local parts = redis.call('HGETALL', key)
             for p = 1, #parts, 2 do
               local part, requests = tonumber(parts[p]), tonumber(parts[p + 1])
               if part < head - 64 then
                 gone[#gone + 1] = parts[p]
               else
                 total = total + requests
                 oldest = math.min(oldest, part)
                 if part > head then
                   redis.call('HDEL', key, parts[p])
                   count(key, head, b, requests)
                 end
               end
             end
             allowed = total < a
             remaining = allowed and a - total - 1 or 0
             wait = (oldest + 65) * b - now
             counts[i] = allowed and function()
               if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
               count(key, head, b, 1)
             end
           else
             local next = even(key, a, b) + a
             local ahead = next - now
             allowed = ahead <= a * b + 0.1
             remaining = allowed and math.floor((a * b + 0.1 - ahead) / a) or 0
             wait = allowed and a or ahead - a * b
             counts[i] = allowed and function() set(key, next) end
           end
           answer[#answer + 1] = allowed and 1 or 0
           answer[#answer + 1] = remaining
           answer[#answer + 1] = math.ceil(wait)
           if not allowed and not shadow then return answer end
         end
         for i = 1, #KEYS do
           if counts[i] then counts[i]() end
         end
         return answer",
    )
});

/// The limits of one request, each with the request's key.
pub struct Together {
    redis: Arc<Redis>,
    now: Instant,
    /// Those that only this gateway counts: they cost nothing, so they go first.
    own: Vec<(Arc<Limiter>, u128)>,
    shared: Vec<Asked>,
}

struct Asked {
    limiter: Arc<Limiter>,
    key: u128,
    /// The same in Redis.
    redis_key: String,
}

/// A key in Redis, and what the script must know of its limit.
type Arguments = (String, [String; 5]);

/// What was counted here, should it have to be given back.
type Counted = Vec<(Arc<Limiter>, u128)>;

impl Together {
    pub fn new(
        redis: &Arc<Redis>,
        limiters: &[Arc<Limiter>],
        headers: &HeaderMap,
        context: &RequestContext,
        now: Instant,
    ) -> Self {
        let mut together = Self { redis: Arc::clone(redis), now, own: Vec::new(), shared: Vec::new() };
        for limiter in limiters {
            let Some(key) = limiter.key.of(headers, context) else { continue };
            match limiter.key.digest(&limiter.place, headers, context) {
                Some(digest) if limiter.config.shared => {
                    let redis_key = keys::limit(&digest);
                    together.shared.push(Asked { limiter: Arc::clone(limiter), key, redis_key });
                }
                _ => together.own.push((Arc::clone(limiter), key)),
            }
        }
        together
    }

    /// Asks all of them. Waits for Redis no longer than a limit may.
    pub async fn verdict(self) -> Verdict {
        let mut verdict = Verdict::default();
        let mut counted = Counted::new();
        for (limiter, key) in &self.own {
            let decision = limiter.check(*key, self.now);
            if !self.take(&mut verdict, &mut counted, limiter, *key, decision) {
                return verdict;
            }
        }
        if self.shared.is_empty() {
            return verdict;
        }
        let gateways = NonZeroU32::new(self.redis.gateways()).unwrap_or(NonZeroU32::MIN);
        let owed: Vec<u32> = self.shared.iter().map(|asked| asked.limiter.owed.take(asked.key, self.now)).collect();
        let arguments = self.arguments(&owed);
        match self.redis.ask_promptly(move |redis| ask(redis, arguments.clone())).await {
            Ok(answer) => {
                for (asked, decision) in self.shared.iter().zip(decisions(&answer)) {
                    verdict.add(&asked.limiter, &decision);
                    if verdict.refused.is_some() {
                        self.give_back(&counted);
                        return verdict;
                    }
                }
                for (asked, decision) in self.shared.iter().zip(decisions(&answer)) {
                    if decision.allowed {
                        asked.limiter.note(gateways, asked.key, self.now);
                    }
                }
            }
            Err(_) => {
                METRICS.limited_by_share();
                for (Asked { limiter, key, .. }, owed) in self.shared.iter().zip(owed) {
                    limiter.owed.owe(*key, owed, self.now);
                }
                let own = counted.len();
                for Asked { limiter, key, .. } in &self.shared {
                    let decision = limiter.check_share(gateways, *key, self.now);
                    if !self.take(&mut verdict, &mut counted, limiter, *key, decision) {
                        return verdict;
                    }
                }
                for (limiter, key) in &counted[own..] {
                    limiter.owed.owe(*key, 1, self.now);
                }
            }
        }
        verdict
    }

    /// Whether the request may go on to the next limit. If not, what was counted is given back.
    fn take(
        &self,
        verdict: &mut Verdict,
        counted: &mut Counted,
        limiter: &Arc<Limiter>,
        key: u128,
        decision: Decision,
    ) -> bool {
        verdict.add(limiter, &decision);
        if decision.allowed {
            counted.push((Arc::clone(limiter), key));
        }
        let goes_on = verdict.refused.is_none();
        if !goes_on {
            self.give_back(counted);
        }
        goes_on
    }

    fn give_back(&self, counted: &Counted) {
        for (limiter, key) in counted {
            limiter.give_back(*key, self.now);
        }
    }

    fn arguments(&self, owed: &[u32]) -> Vec<Arguments> {
        let arguments = |(asked, owed): (&Asked, &u32)| {
            let owed = owed.to_string();
            let shadow = u8::from(asked.limiter.shadow).to_string();
            let quota = match asked.limiter.config.quota {
                Quota::Window { requests, per } => {
                    let part = per.as_micros().div_ceil(64);
                    ["window".to_owned(), requests.to_string(), part.to_string(), shadow, owed]
                }
                Quota::Rate { per_second, burst } => {
                    let interval = 1_000_000.0 / f64::from(per_second.get());
                    ["rate".to_owned(), interval.to_string(), burst.to_string(), shadow, owed]
                }
            };
            (asked.redis_key.clone(), quota)
        };
        self.shared.iter().zip(owed).map(arguments).collect()
    }
}

async fn ask(mut redis: ConnectionManager, arguments: Vec<Arguments>) -> RedisResult<Vec<i64>> {
    let mut script = CHECK.prepare_invoke();
    for (key, limit) in &arguments {
        script.key(key);
        script.arg(limit.as_slice());
    }
    script.invoke_async(&mut redis).await
}

fn decisions(answer: &[i64]) -> impl Iterator<Item = Decision> {
    answer.chunks_exact(3).map(|said| Decision {
        allowed: said[0] == 1,
        remaining: u32::try_from(said[1].max(0)).unwrap_or(u32::MAX),
        wait: Duration::from_micros(said[2].max(0).unsigned_abs()),
    })
}
