//! The keys of maps, of which none may be there twice. They are compared as they are written, which every key is in but one
//! way.

/// Up to so many are compared each with each.
const FEW: usize = 16;

/// Where in a buffer the keys stand of the maps that are under way, those of an inner one after those of the outer.
#[derive(Default)]
pub struct Keys(Vec<(usize, usize)>);

impl Keys {
    /// To be given to [`Keys::end`] when the map that begins now has ended.
    pub fn begin(&self) -> usize {
        self.0.len()
    }

    pub fn push(&mut self, start: usize, end: usize) {
        self.0.push((start, end));
    }

    /// Whether a key is there twice since `begin`. They are forgotten.
    pub fn end(&mut self, begin: usize, buffer: &[u8]) -> bool {
        let keys = &mut self.0[begin..];
        let key = |(start, end): &(usize, usize)| &buffer[*start..*end];
        let is_repeated = if keys.len() <= FEW {
            keys.iter().enumerate().any(|(at, one)| keys[..at].iter().any(|other| key(one) == key(other)))
        } else {
            keys.sort_unstable_by(|one, other| key(one).cmp(key(other)));
            keys.windows(2).any(|pair| key(&pair[0]) == key(&pair[1]))
        };
        self.0.truncate(begin);
        is_repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_and_many_are_found_twice() {
        let buffer: Vec<u8> = (0..200).collect();
        for count in [1, 2, FEW, FEW + 1, 100] {
            let mut keys = Keys::default();
            keys.push(0, 1);
            let begin = keys.begin();
            for at in 0..count {
                keys.push(at, at + 1);
            }
            assert!(!keys.end(begin, &buffer), "{count}");
            for at in (0..count).chain([0]) {
                keys.push(at, at + 1);
            }
            assert!(keys.end(begin, &buffer), "{count}");
            assert_eq!(keys.begin(), begin);
        }
    }
}
