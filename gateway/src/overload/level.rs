//! What is done about memory that runs out, and when.

/// Each does what those before it do, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    #[default]
    Normal,
    ShortenTimeouts,
    CloseConnections,
    Shed,
    StopAccepting,
}

/// How far below the share that takes a level its end is.
const BELOW: f64 = 0.03;

impl Level {
    const ALL: [Self; 5] =
        [Self::Normal, Self::ShortenTimeouts, Self::CloseConnections, Self::Shed, Self::StopAccepting];

    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// The level that follows where so much is used. `shares` are those that take each level but the first.
    pub fn next(self, share: f64, shares: &[f64; 4]) -> Self {
        let taken = |level: Self, share: f64| match level {
            Self::Normal => true,
            level => share >= shares[level as usize - 1],
        };
        let highest = |share: f64| Self::ALL.into_iter().rev().find(|level| taken(*level, share)).unwrap_or_default();
        // Up at once; down only as far as it would not be taken again by a little more.
        highest(share).max(self.min(highest(share + BELOW)))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::ShortenTimeouts => "shorten_timeouts",
            Self::CloseConnections => "close_connections",
            Self::Shed => "shed",
            Self::StopAccepting => "stop_accepting",
        }
    }

    pub fn does(self) -> &'static str {
        match self {
            Self::Normal => "nothing is done",
            Self::ShortenTimeouts => "requests have half of their time",
            Self::CloseConnections => "connections are closed once nothing is under way",
            Self::Shed => "requests are refused",
            Self::StopAccepting => "connections are not taken",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: [f64; 4] = [0.85, 0.92, 0.95, 0.98];

    proptest::proptest! {
        #[test]
        fn what_is_taken_is_held_until_well_below(start in 0_u8..5, share in 0.0..1.2) {
            let start = Level::from_number(start);
            let next = start.next(share, &SHARES);
            // Never below what the share asks for, never higher than it or than what was.
            let asked = Level::Normal.next(share, &SHARES);
            proptest::prop_assert!(next >= asked && next <= start.max(asked));
            if let Some(line) = (next > asked).then(|| SHARES[next as usize - 1]) {
                proptest::prop_assert!(share < line && share + BELOW >= line);
            }
        }
    }
}
