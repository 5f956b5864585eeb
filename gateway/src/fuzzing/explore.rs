//! A search through inputs: those that made a target say something new are changed further. What a target says stands in
//! for the branches that a compiler's instruments would count.

use std::{
    collections::HashSet,
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

/// What a target is looked for from.
pub struct Search {
    pub name: &'static str,
    /// Inputs to begin with.
    pub seeds: &'static [&'static str],
    /// What inputs are made of.
    pub words: &'static [&'static str],
    /// How many inputs an ordinary run of the tests tries.
    pub cases: usize,
}

/// The longest input.
const LONGEST: usize = 4096;
/// Inputs that are kept for what they said.
const KEPT: usize = 4096;
/// More than one input may take, on a machine that is busy.
const SLOW: Duration = Duration::from_secs(20);

impl Search {
    /// Tries inputs on a target, which says what became of each in a number and panics where something is wrong. As long as
    /// `TURNPIKE_FUZZ` says (`600s`), from another beginning each time; else a few, always the same.
    pub fn run(&self, target: impl Fn(&[u8]) -> u64) {
        let budget = budget();
        let seed = if budget.is_some() { rand::rng().random() } else { 9651 };
        let mut random = SmallRng::seed_from_u64(seed);
        let (started, mut cases) = (Instant::now(), 0_usize);
        let mut said = HashSet::new();
        let mut corpus: Vec<Vec<u8>> = self.seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
        for seed in &corpus {
            said.insert(self.case(seed, &target));
        }
        while budget.map_or(cases < self.cases, |budget| started.elapsed() < budget) {
            let mut input = corpus.choose(&mut random).cloned().unwrap_or_default();
            for _ in 0..random.random_range(1..=4) {
                self.change(&mut input, &corpus, &mut random);
            }
            input.truncate(LONGEST);
            cases += 1;
            if said.insert(self.case(&input, &target)) && corpus.len() < KEPT {
                corpus.push(input);
            }
        }
        let seconds = started.elapsed().as_secs();
        println!("{}: {cases} inputs in {seconds} s, {} outcomes, seed {seed}", self.name, said.len());
    }

    fn case(&self, input: &[u8], target: &impl Fn(&[u8]) -> u64) -> u64 {
        let started = Instant::now();
        let said = catch_unwind(AssertUnwindSafe(|| target(input)));
        let took = started.elapsed();
        assert!(took < SLOW, "{}: {took:?} for {}", self.name, readable(input));
        said.unwrap_or_else(|_| panic!("{}: {}", self.name, readable(input)))
    }

    fn change(&self, input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut SmallRng) {
        let at = random.random_range(0..=input.len());
        let some = random.random_range(0..=(input.len() - at).min(24));
        match random.random_range(0..8) {
            0 => drop(input.drain(at..at + some)),
            1 => insert(input, at, &[random.random()]),
            2 => insert(input, at, &[*b"/%.;:=,\"\\ \n{}*-0a".choose(random).unwrap_or(&b' ')]),
            3 | 4 => insert(input, at, self.words.choose(random).unwrap_or(&"").as_bytes()),
            5 => {
                let again = input[at..at + some].to_vec();
                insert(input, at, &again);
            }
            6 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            _ => {
                let other = corpus.choose(random).map(Vec::as_slice).unwrap_or_default();
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

fn budget() -> Option<Duration> {
    let text = std::env::var("TURNPIKE_FUZZ").ok()?;
    let seconds = text.trim_end_matches('s').parse().unwrap_or_else(|_| panic!("TURNPIKE_FUZZ is not `600s`: {text}"));
    Some(Duration::from_secs(seconds))
}

fn readable(input: &[u8]) -> String {
    input.escape_ascii().fold(String::new(), |mut text, byte| {
        _ = text.write_char(char::from(byte));
        text
    })
}
