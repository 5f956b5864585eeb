//! How durations are spread: counted in buckets whose width grows with the value, 32 to each doubling. What is read back is
//! at most 1.6 % off, whatever the values, and two sketches become that of both without further loss.

use serde::{Deserialize, Serialize};

/// Buckets below this are one microsecond wide.
const EXACT: u64 = 64;
const STEPS: u32 = 32;
/// 19 hours; what is longer counts as that.
const LONGEST: u64 = (1 << 36) - 1;

/// Microseconds, by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u16, u64)>", into = "Vec<(u16, u64)>")]
pub struct Sketch {
    /// The bucket of the first count.
    first: u16,
    /// Half the room, since thousands are kept; a bucket is full at four thousand million.
    counts: Vec<u32>,
}

impl Sketch {
    pub fn record(&mut self, micros: u64) {
        self.add(bucket(micros), 1);
    }

    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.buckets() {
            self.add(bucket, count);
        }
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The value that a share of all is at most, in microseconds; None without any.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((share * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        self.buckets().find_map(|(bucket, count)| {
            below += count;
            (below >= rank).then(|| middle(bucket))
        })
    }

    fn buckets(&self) -> impl Iterator<Item = (u16, u64)> {
        (self.first..)
            .zip(&self.counts)
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| (bucket, u64::from(*count)))
    }

    fn add(&mut self, bucket: u16, count: u64) {
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let more = usize::from(self.first - bucket);
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first = bucket;
        }
        let at = usize::from(bucket - self.first);
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] = self.counts[at].saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

fn bucket(micros: u64) -> u16 {
    let micros = micros.min(LONGEST);
    if micros < EXACT {
        return micros as u16;
    }
    let power = micros.ilog2();
    let step = (micros >> (power - STEPS.ilog2())) as u32 - STEPS;
    (EXACT as u32 + (power - EXACT.ilog2()) * STEPS + step) as u16
}

fn middle(bucket: u16) -> u64 {
    let bucket = u32::from(bucket);
    let Some(above) = bucket.checked_sub(EXACT as u32) else { return bucket.into() };
    let shift = above / STEPS + EXACT.ilog2() - STEPS.ilog2();
    let low = u64::from(STEPS + above % STEPS) << shift;
    low + (1 << shift >> 1)
}

impl From<Vec<(u16, u64)>> for Sketch {
    fn from(buckets: Vec<(u16, u64)>) -> Self {
        let mut sketch = Self::default();
        // A bucket beyond the last is nobody's; it must not make us allocate.
        let last = bucket(LONGEST);
        buckets.into_iter().for_each(|(bucket, count)| sketch.add(bucket.min(last), count));
        sketch
    }
}

impl From<Sketch> for Vec<(u16, u64)> {
    fn from(sketch: Sketch) -> Self {
        sketch.buckets().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_read_back_is_close(micros in 0..LONGEST) {
            let read = middle(bucket(micros));
            proptest::prop_assert!(read.abs_diff(micros) as f64 <= micros as f64 * 0.016, "{micros} became {read}");
        }

        #[test]
        fn quantiles_are_close_and_merging_loses_nothing(
            mut one in proptest::collection::vec(1..10_000_000_u64, 1..200),
            other in proptest::collection::vec(1..10_000_000_u64, 1..200),
            share in 0.0..=1.0_f64,
        ) {
            let of = |values: &[u64]| {
                let mut sketch = Sketch::default();
                values.iter().for_each(|value| sketch.record(*value));
                sketch
            };
            let mut merged = of(&one);
            merged.merge(&of(&other));
            one.extend(other);
            proptest::prop_assert_eq!(Vec::from(merged.clone()), Vec::from(of(&one)));
            let read: Sketch = serde_json::from_str(&serde_json::to_string(&merged).unwrap()).unwrap();
            proptest::prop_assert_eq!(Vec::from(read), Vec::from(merged.clone()));
            one.sort_unstable();
            let rank = ((share * one.len() as f64).ceil() as usize).clamp(1, one.len());
            let (wanted, found) = (one[rank - 1], merged.quantile(share).unwrap());
            proptest::prop_assert!(found.abs_diff(wanted) as f64 <= wanted as f64 * 0.016, "{wanted} became {found}");
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Sketch::default().quantile(0.5), None);
    }
}
