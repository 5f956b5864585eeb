//! What balances, ejects, opens and refuses, together and over simulated time: the real machines, endpoints that follow
//! scripts, requests that come by chance, and no socket, thread or clock. A seed decides everything.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    Balance, Breaker, Caps, Config, Ejection, Protocol,
    balance::Balancer,
    breaker::{Admission, Machine, State},
    caps::{Limits, Share},
    choice::Choice,
    endpoint::Shared,
    lane::Lane,
    roster::Roster,
    standing::Event,
};

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// How an endpoint does from some moment on.
#[derive(Clone, Copy, Debug)]
enum Mood {
    /// Takes about so long: as the tails of real services are, a hundredth takes ten times that.
    Takes(Duration),
    /// Answers at once that it can't, so many of a hundred times; else takes as long.
    Fails(u32, Duration),
    /// Nobody listens.
    Absent,
    /// Never answers.
    Frozen,
}

/// From when on, which endpoint, how.
type Script = Vec<(Duration, usize, Mood)>;

/// One core.
struct Core {
    choice: Choice,
    share: Arc<Share>,
}

struct World {
    random: SmallRng,
    begun: Instant,
    now: Instant,
    endpoints: Vec<Arc<Shared>>,
    roster: Arc<Roster>,
    cores: Vec<Core>,
    moods: Vec<Mood>,
    script: Script,
    breaker: Option<Machine>,
    deadline: Duration,
    rate: f64,
    caps: Caps,
    /// When requests end, with what becomes of them.
    ends: BinaryHeap<Reverse<(Instant, usize)>>,
    under_way: Vec<UnderWay>,
    seen: Seen,
}

struct UnderWay {
    core: usize,
    place: usize,
    started: Instant,
    event: Option<Event>,
    /// It said that it can't, and wasn't just silent.
    is_answer: bool,
    round: Option<u64>,
}

/// What happened, by the second.
#[derive(Default)]
struct Seen {
    /// Requests of each second to each endpoint.
    sent: Vec<Vec<usize>>,
    failed: Vec<usize>,
    refused: Vec<usize>,
    capped: usize,
    most_under_way: usize,
    most_ejected: usize,
    /// When each endpoint was ejected and came back.
    out: Vec<Vec<(Duration, bool)>>,
    states: Vec<(Duration, State)>,
}

struct Setting {
    endpoints: usize,
    cores: usize,
    rate: f64,
    config: Config,
    script: Script,
}

impl Default for Setting {
    fn default() -> Self {
        let config = Config { breaker: None, ..Config::new("test", Vec::new(), Protocol::Http1) };
        Self { endpoints: 10, cores: 2, rate: 1000.0, config, script: Vec::new() }
    }
}

impl World {
    fn new(seed: u64, setting: Setting) -> Self {
        let Setting { endpoints, cores, rate, config, script } = setting;
        let mut random = SmallRng::seed_from_u64(seed);
        let now = Instant::now();
        let roster = Arc::new(Roster::default());
        roster.resize(endpoints);
        let endpoint = |number| Shared::new("test", &format!("10.0.0.1:{}", 7001 + number)).unwrap();
        let endpoints: Vec<_> = (0..endpoints).map(|number| Arc::new(endpoint(number).on(&roster, &config))).collect();
        let limits = Limits::new(&config.caps);
        let cores = (0..cores)
            .map(|_| {
                let mut random = SmallRng::seed_from_u64(random.random());
                let mut choice = Choice::new(Balancer::new(config.balance, &mut random), random);
                let lanes = endpoints.iter().map(|endpoint| Lane::for_test(Arc::clone(endpoint))).collect();
                choice.renew(Some(lanes), roster.changes(), now);
                Core { choice, share: limits.share() }
            })
            .collect();
        Self {
            begun: now,
            now,
            moods: vec![Mood::Takes(5 * MS); endpoints.len()],
            script,
            breaker: config.breaker.clone().map(|rules| Machine::new(rules, now)),
            deadline: S,
            rate,
            caps: config.caps,
            ends: BinaryHeap::new(),
            under_way: Vec::new(),
            seen: Seen { out: vec![Vec::new(); endpoints.len()], ..Seen::default() },
            random,
            endpoints,
            roster,
            cores,
        }
    }

    /// Lets requests come for so long.
    fn run(mut self, time: Duration) -> Seen {
        let mut next = self.begun;
        loop {
            next += Duration::from_secs_f64(-(1.0 - self.random.random::<f64>()).ln() / self.rate);
            if next >= self.begun + time {
                return self.seen;
            }
            while let Some(Reverse((at, number))) = self.ends.peek().copied().filter(|Reverse((at, _))| *at <= next) {
                self.ends.pop();
                self.advance(at);
                self.end(number);
            }
            self.advance(next);
            self.begin();
        }
    }

    fn advance(&mut self, to: Instant) {
        self.now = to;
        let passed = to - self.begun;
        while let Some((_, endpoint, mood)) = self.script.first().copied().filter(|(from, ..)| *from <= passed) {
            self.moods[endpoint] = mood;
            self.script.remove(0);
        }
        self.look();
    }

    /// Notes who is out.
    fn look(&mut self) {
        let passed = self.now - self.begun;
        let mut ejected = 0;
        for (endpoint, out) in self.endpoints.iter().zip(&mut self.seen.out) {
            let is_out = endpoint.fitness(self.now).is_out;
            ejected += usize::from(is_out);
            if out.last().map_or(is_out, |(_, was_out)| *was_out != is_out) {
                out.push((passed, is_out));
            }
        }
        self.seen.most_ejected = self.seen.most_ejected.max(ejected);
        if let Some(breaker) = &self.breaker
            && self.seen.states.last().is_none_or(|(_, last)| !is_same(*last, breaker.state()))
        {
            self.seen.states.push((passed, breaker.state()));
        }
    }

    fn second(&mut self) -> usize {
        let second = (self.now - self.begun).as_secs() as usize;
        let Seen { sent, failed, refused, .. } = &mut self.seen;
        if sent.len() <= second {
            sent.resize(second + 1, vec![0; self.endpoints.len()]);
            failed.resize(second + 1, 0);
            refused.resize(second + 1, 0);
        }
        second
    }

    fn begin(&mut self) {
        let (second, now) = (self.second(), self.now);
        let round = match self.breaker.as_mut().map(|breaker| breaker.asked(self.random.random(), now)) {
            None | Some(Admission::Free) => None,
            Some(Admission::Watched(round)) => Some(round),
            Some(Admission::Refused(_)) => {
                self.seen.refused[second] += 1;
                return;
            }
        };
        let core = self.random.random_range(0..self.cores.len());
        let Core { choice, share } = &mut self.cores[core];
        if !choice.is_current(self.roster.changes(), now) {
            choice.renew(None, self.roster.changes(), now);
        }
        let place = choice.pick(None, Some(self.random.random()), now).unwrap();
        if share.take().is_err() {
            self.seen.capped += 1;
            if let (Some(breaker), Some(round)) = (&mut self.breaker, round) {
                breaker.ended(round, None, now);
            }
            return;
        }
        choice.seats[place].lane.load.begin();
        self.seen.sent[second][place] += 1;
        let tail = if self.random.random_ratio(1, 100) { 10.0 } else { 1.0 };
        let varied = |time: Duration, chance: f64| time.mul_f64((0.5 + chance) * tail);
        let chance = self.random.random();
        let (took, event, is_answer) = match self.moods[place] {
            Mood::Takes(time) => (varied(time, chance), Event::Answered, true),
            Mood::Fails(percent, _) if self.random.random_ratio(percent, 100) => (MS / 5, Event::Failed, true),
            Mood::Fails(_, time) => (varied(time, chance), Event::Answered, true),
            Mood::Absent => (MS / 10, Event::Absent, false),
            Mood::Frozen => (self.deadline, Event::Failed, false),
        };
        let (took, event, is_answer) =
            if took >= self.deadline { (self.deadline, Event::Failed, false) } else { (took, event, is_answer) };
        let number = self.under_way.len();
        self.under_way.push(UnderWay { core, place, started: now, event: Some(event), is_answer, round });
        self.ends.push(Reverse((now + took, number)));
        self.seen.most_under_way = self.seen.most_under_way.max(self.ends.len());
        assert!(self.ends.len() <= self.caps.requests as usize, "more than the cap are under way");
    }

    fn end(&mut self, number: usize) {
        let (second, now) = (self.second(), self.now);
        let UnderWay { core, place, started, event, is_answer, round } = &mut self.under_way[number];
        let (event, took) = (event.take().expect("it ends once"), now - *started);
        let Core { choice, share } = &mut self.cores[*core];
        let lane = &choice.seats[*place].lane;
        lane.load.end();
        share.give_back();
        match (event, *is_answer) {
            (Event::Answered, _) => {
                lane.load.observe(took, now);
                lane.endpoint.answered(now);
            }
            (_, true) => lane.load.observe_failure(took, now),
            (_, false) => lane.load.observe_at_least(took, now),
        }
        if event != Event::Answered {
            lane.endpoint.after(event, "it failed", now);
            self.seen.failed[second] += 1;
        }
        if let Some(breaker) = &mut self.breaker {
            match (*round, event) {
                (Some(round), event) => breaker.ended(round, Some(event), now),
                (None, Event::Answered) => breaker.answered(now),
                (None, _) => {
                    if breaker.failed(now) {
                        breaker.open_until(now);
                    }
                }
            }
        }
        self.look();
    }
}

fn is_same(one: State, other: State) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

impl Seen {
    /// Requests to each endpoint from a second on, up to another.
    fn between(&self, from: usize, to: usize) -> Vec<usize> {
        let mut sum = vec![0; self.out.len()];
        for second in &self.sent[from..to.min(self.sent.len())] {
            sum.iter_mut().zip(second).for_each(|(sum, sent)| *sum += sent);
        }
        sum
    }

    /// How far the one that is farthest from its even share is off.
    fn unevenness(&self, from: usize, to: usize) -> f64 {
        let sent = self.between(from, to);
        let mean = sent.iter().sum::<usize>() as f64 / sent.len() as f64;
        sent.iter().map(|sent| (*sent as f64 - mean).abs() / mean).fold(0.0, f64::max)
    }

    fn share(&self, endpoint: usize, from: usize, to: usize) -> f64 {
        let sent = self.between(from, to);
        sent[endpoint] as f64 / sent.iter().sum::<usize>() as f64
    }
}

/// The seeds of a test: a few, or as many as `SIMULATION_SEEDS` says.
fn seeds(few: u64) -> std::ops::Range<u64> {
    let many = std::env::var("SIMULATION_SEEDS").ok().and_then(|many| many.parse().ok());
    0..many.unwrap_or(few)
}

#[test]
fn healthy_endpoints_share_within_a_tenth() {
    for seed in seeds(5) {
        for balance in [Balance::P2c, Balance::LeastRequest, Balance::RoundRobin] {
            let config = Config { balance, ..Setting::default().config };
            let seen = World::new(seed, Setting { rate: 2000.0, config, ..Setting::default() }).run(15 * S);
            let off = seen.unevenness(2, 15);
            assert!(off < 0.1, "{balance:?}, seed {seed}: {off:.3} {:?}", seen.between(2, 15));
        }
    }
}

#[test]
fn one_that_is_ten_times_slower_gets_under_a_twentieth_within_two_seconds() {
    for seed in seeds(40) {
        let rate = [100.0, 300.0, 1000.0, 2000.0][seed as usize % 4];
        let endpoints = [2, 3, 10][seed as usize % 3];
        let script = vec![(4 * S, 0, Mood::Takes(50 * MS))];
        let setting = Setting { rate, endpoints, cores: 1 + seed as usize % 4, script, ..Setting::default() };
        let seen = World::new(seed, setting).run(9 * S);
        let share = seen.share(0, 6, 9);
        // With two, one in a hundred of each draw, and what the other has under way besides.
        let most = [(2, 0.12), (3, 0.08), (10, 0.05)].into_iter().find(|(of, _)| *of == endpoints).unwrap().1;
        assert!(share < most, "seed {seed}: {share:.3} of {endpoints} at {rate}");
    }
}

#[test]
fn never_more_are_ejected_than_may_be_and_each_comes_back() {
    for seed in seeds(40) {
        let mut random = SmallRng::seed_from_u64(seed);
        let endpoints = random.random_range(1..25);
        // Any of them does anything at any time; at the end all are well.
        let mut script: Script = (0..random.random_range(1..30))
            .map(|_| {
                let mood = match random.random_range(0..5) {
                    0 => Mood::Absent,
                    1 => Mood::Frozen,
                    2 => Mood::Fails(random.random_range(0..=100), 5 * MS),
                    3 => Mood::Takes(random.random_range(1..200) * MS),
                    _ => Mood::Takes(5 * MS),
                };
                (random.random_range(0..20) * S / 2, random.random_range(0..endpoints), mood)
            })
            .collect();
        script.sort_by_key(|(from, ..)| *from);
        script.extend((0..endpoints).map(|endpoint| (10 * S, endpoint, Mood::Takes(5 * MS))));
        let ejection = Ejection { time: 2 * S, longest: 6 * S, ..Ejection::default() };
        let balance =
            [Balance::P2c, Balance::LeastRequest, Balance::RoundRobin, Balance::RingHash][random.random_range(0..4)];
        let slow_start = random.random_range(0..2) * S;
        let config = Config { ejection: Some(ejection), balance, slow_start, ..Setting::default().config };
        let seen =
            World::new(seed, Setting { endpoints, rate: 200.0, config, script, ..Setting::default() }).run(26 * S);
        assert!(seen.most_ejected <= (endpoints / 10).max(1), "seed {seed}: {} of {endpoints}", seen.most_ejected);
        for (endpoint, out) in seen.out.iter().enumerate() {
            assert!(out.last().is_none_or(|(_, is_out)| !is_out), "seed {seed}: {endpoint} stays out");
            for pair in out.windows(2).filter(|pair| pair[0].1) {
                assert!(pair[1].0 - pair[0].0 < 6 * S + S / 5, "seed {seed}: {endpoint} was out for long: {out:?}");
            }
        }
        // What was learnt while they failed is forgotten: everybody has a part of the traffic again.
        let last = seen.between(20, 26);
        assert!(last.iter().all(|sent| *sent > 0), "seed {seed}, {balance:?}: {last:?}");
    }
}

#[test]
fn a_frozen_endpoint_is_noticed_by_its_silence() {
    for seed in seeds(40) {
        let setting = Setting { rate: 200.0, script: vec![(S, 0, Mood::Frozen)], ..Setting::default() };
        let seen = World::new(seed, setting).run(40 * S);
        // It is shunned for its silence long before it has been silent five times.
        assert!(seen.failed.iter().sum::<usize>() < 60, "seed {seed}: {:?}", seen.failed);
        assert!(seen.out[0].first().is_some_and(|(at, _)| *at < 35 * S), "seed {seed}: {:?}", seen.out[0]);
    }
}

#[test]
fn a_breaker_opens_probes_and_closes_as_written() {
    for seed in seeds(40) {
        let mut script: Script = (0..10).map(|endpoint| (5 * S, endpoint, Mood::Fails(100, MS))).collect();
        let back = 18 + seed % 10;
        script.extend((0..10).map(|endpoint| (S * back as u32, endpoint, Mood::Takes(5 * MS))));
        let config = Config { breaker: Some(Breaker::default()), ..Setting::default().config };
        let seen = World::new(seed, Setting { rate: 100.0, config, script, ..Setting::default() }).run(60 * S);
        let states = &seen.states;
        assert!(matches!(states[0].1, State::Closed));
        assert!(matches!(states[1].1, State::Open { .. }), "seed {seed}: {states:?}");
        // Half of what was sent in the ten seconds before has failed by then.
        assert!((8..=13).contains(&states[1].0.as_secs()), "seed {seed}: {states:?}");
        for pair in states.windows(2) {
            let (time, (from, to)) = (pair[1].0 - pair[0].0, (pair[0].1, pair[1].1));
            let is_as_written = match (from, to) {
                (State::Closed, State::Open { .. }) => true,
                (State::Open { .. }, State::HalfOpen { .. }) => time >= 10 * S && time < 12 * S,
                (State::HalfOpen { .. }, State::Open { .. } | State::Closing { .. }) => true,
                (State::Closing { .. }, State::Closed) => time >= 10 * S && time < 12 * S,
                _ => false,
            };
            assert!(is_as_written, "seed {seed}: {from:?} for {time:?}, then {to:?}");
        }
        assert!(matches!(states.last().unwrap().1, State::Closed), "seed {seed}: {states:?}");
        // While it is open, a probe at a time and no more.
        let open = seen.sent[usize::try_from(states[1].0.as_secs()).unwrap() + 1..back as usize].iter().flatten();
        assert!(open.sum::<usize>() <= 3, "seed {seed}");
        assert_eq!(seen.refused[50..].iter().sum::<usize>(), 0, "seed {seed}: all is well again");
    }
}

#[test]
fn a_few_failures_open_no_breaker() {
    for seed in seeds(40) {
        let script = (0..10).map(|endpoint| (Duration::ZERO, endpoint, Mood::Fails(10, 5 * MS))).collect();
        let config = Config { breaker: Some(Breaker::default()), ejection: None, ..Setting::default().config };
        let seen = World::new(seed, Setting { rate: 200.0, config, script, ..Setting::default() }).run(5 * S);
        assert_eq!(seen.states.len(), 1, "seed {seed}: {:?}", seen.states);
    }
}

#[test]
fn caps_are_never_exceeded_and_always_had() {
    for seed in seeds(40) {
        let caps = Caps { requests: 1 + (seed as u32 * 7) % 200, ..Caps::default() };
        let script = (0..10).map(|endpoint| (S, endpoint, Mood::Takes(500 * MS))).collect();
        let config = Config { caps: caps.clone(), ..Setting::default().config };
        let setting = Setting { rate: 600.0, cores: 1 + seed as usize % 8, config, script, ..Setting::default() };
        let seen = World::new(seed, setting).run(4 * S);
        assert_eq!(seen.most_under_way, caps.requests as usize, "seed {seed}");
        assert!(seen.capped > 0, "seed {seed}");
    }
}

#[test]
fn a_ring_is_the_same_everywhere_and_moves_only_what_it_must() {
    for seed in seeds(40) {
        let mut random = SmallRng::seed_from_u64(seed);
        let endpoints = random.random_range(2..40);
        let config = Config { balance: Balance::RingHash, ..Setting::default().config };
        let mut world = World::new(seed, Setting { endpoints, config, ..Setting::default() });
        let now = world.now;
        let keys: Vec<u64> = (0..500).map(|_| random.random()).collect();
        let mut places = |core: usize| -> Vec<usize> {
            let choice = &mut world.cores[core].choice;
            choice.renew(None, 0, now);
            keys.iter().map(|key| choice.pick(None, Some(*key), now).unwrap()).collect()
        };
        let before = places(0);
        assert_eq!(places(1), before, "seed {seed}");
        let gone = random.random_range(0..endpoints);
        world.endpoints[gone].set_health(false, "gone", now);
        let mut places = |core: usize| -> Vec<usize> {
            let choice = &mut world.cores[core].choice;
            choice.renew(None, 0, now);
            keys.iter().map(|key| choice.pick(None, Some(*key), now).unwrap()).collect()
        };
        for (before, after) in before.iter().zip(places(0)) {
            assert!(*before == after || *before == gone, "seed {seed}");
            assert_ne!(after, gone);
        }
    }
}
