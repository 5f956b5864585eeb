//! The levels that a backend confirms a publish at. `delivered` is not one of them: groups deliver.

use std::{fmt, num::NonZeroU8, str::FromStr};

/// When a publish is answered. Its text form is that of the API: `stored`, `fsynced`, `replicated:2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Confirm {
    /// Once it is written: it survives the process, and the machine but for a tail that the new lineage makes visible.
    #[default]
    Stored,
    /// Once it is on disk.
    Fsynced,
    /// Once so many replicas have it, 1 to 255.
    Replicated(u8),
}

impl Confirm {
    /// Whether this level is no less than another: of replicas more are; what is on disk here and what others have don't
    /// compare.
    pub fn reaches(self, asked: Self) -> bool {
        match (self, asked) {
            (_, Self::Stored) => true,
            (Self::Replicated(has), Self::Replicated(asked)) => has >= asked,
            _ => self == asked,
        }
    }
}

/// A text that is no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be stored, fsynced or replicated:N, N from 1 to 255")]
pub struct ConfirmError;

impl fmt::Display for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored => f.write_str("stored"),
            Self::Fsynced => f.write_str("fsynced"),
            Self::Replicated(replicas) => write!(f, "replicated:{replicas}"),
        }
    }
}

impl FromStr for Confirm {
    type Err = ConfirmError;

    fn from_str(text: &str) -> Result<Self, ConfirmError> {
        match text {
            "stored" => Ok(Self::Stored),
            "fsynced" => Ok(Self::Fsynced),
            _ => {
                let replicas = text.strip_prefix("replicated:").ok_or(ConfirmError)?;
                let digits = replicas.bytes().all(|byte| byte.is_ascii_digit());
                let replicas = replicas.parse().ok().filter(|_| digits).map(NonZeroU8::get);
                replicas.map(Self::Replicated).ok_or(ConfirmError)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_replicas_are_more_and_a_disk_is_no_replica() {
        assert!(Confirm::Replicated(2).reaches(Confirm::Replicated(1)));
        assert!(!Confirm::Replicated(1).reaches(Confirm::Replicated(2)));
        assert!(!Confirm::Replicated(2).reaches(Confirm::Fsynced));
        assert!(!Confirm::Fsynced.reaches(Confirm::Replicated(1)));
        assert!(Confirm::Fsynced.reaches(Confirm::Stored));
    }

    #[test]
    fn a_level_survives_its_text_form() {
        for level in [Confirm::Stored, Confirm::Fsynced, Confirm::Replicated(1), Confirm::Replicated(255)] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        for wrong in ["", "Stored", "replicated", "replicated:", "replicated:0", "replicated:256", "replicated:+1"] {
            assert_eq!(wrong.parse::<Confirm>(), Err(ConfirmError), "{wrong}");
        }
    }
}
