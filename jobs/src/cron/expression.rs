//! When a schedule fires: its expression, and which of the firings that are over are still to happen.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use time::{Duration, OffsetDateTime};

use super::{MAX_MISSED, Missed, utc::Utc};
use crate::Error;

/// A firing that is later than this was missed.
const LATE: Duration = Duration::seconds(60);
/// The most firings that aren't: one a second.
const IN_TIME: usize = 61;

/// When it fires.
#[derive(Clone, Debug)]
pub(crate) struct Expression(Cron);

impl Expression {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Invalid(format!("expression: {text:?}: {reason}"));
        // Longer ones only cost time.
        if text.len() > 256 {
            return Err(Error::Invalid("expression: must be at most 256 bytes".to_owned()));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| invalid(error.to_string()))?;
        Ok(Self(cron))
    }

    /// The first firing after a moment; None: there is none within the years to come.
    pub fn after(&self, moment: OffsetDateTime) -> Option<OffsetDateTime> {
        self.0.find_next_occurrence(&Utc(moment), false).ok().map(|Utc(next)| next)
    }

    /// Which firings from `due` to `now` are to happen, oldest first, and the next one after `now`.
    pub fn firings(
        &self,
        due: OffsetDateTime,
        now: OffsetDateTime,
        missed: Missed,
    ) -> (Vec<OffsetDateTime>, Option<OffsetDateTime>) {
        let made_up = match missed {
            Missed::Skip => 0,
            Missed::Once => 1,
            Missed::All { most } => most.clamp(1, MAX_MISSED) as usize,
        };
        let most = made_up + IN_TIME;
        let mut firings = std::collections::VecDeque::new();
        let mut next = Some(self.not_too_old(due, now, most));
        while let Some(firing) = next.filter(|firing| *firing <= now) {
            firings.push_back(firing);
            if firings.len() > most {
                firings.pop_front();
            }
            next = self.after(firing);
        }
        let late = firings.iter().filter(|firing| now - **firing > LATE).count();
        let left_out = match missed {
            // Any later one makes up for those before it.
            Missed::Once if late > 0 => firings.len() - 1,
            _ => late.saturating_sub(made_up),
        };
        firings.drain(..left_out);
        (firings.into(), next)
    }

    /// Where to begin, so that a schedule of every second isn't walked through a year of absence.
    fn not_too_old(&self, due: OffsetDateTime, now: OffsetDateTime, most: usize) -> OffsetDateTime {
        let mut begin = now;
        for _ in 0..most {
            match self.0.find_previous_occurrence(&Utc(begin), false) {
                Ok(Utc(before)) if before > due => begin = before,
                _ => return due,
            }
        }
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn after(expression: &str, moment: OffsetDateTime) -> OffsetDateTime {
        Expression::parse(expression).unwrap().after(moment).unwrap()
    }

    #[test]
    fn expressions_of_five_and_six_fields() {
        let moment = datetime!(2026-11-21 15:04:05 UTC);
        assert_eq!(after("*/15 * * * *", moment), datetime!(2026-11-21 15:15:00 UTC));
        assert_eq!(after("30 4 * * MON-FRI", moment), datetime!(2026-11-23 4:30:00 UTC));
        assert_eq!(after("*/10 * * * * *", moment), datetime!(2026-11-21 15:04:10 UTC));
        assert_eq!(after("0 0 29 2 *", moment), datetime!(2028-02-29 0:00:00 UTC));
        assert_eq!(after("@hourly", moment), datetime!(2026-11-21 16:00:00 UTC));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in ["", "* * * *", "61 * * * *", "* * * * * * 2027", "every day", &"*,".repeat(400)] {
            let error = Expression::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("expression: "), "{error}");
        }
        assert!(Expression::parse("0 0 30 2 *").is_err_and(|_| true) || after_never("0 0 30 2 *"));
    }

    fn after_never(text: &str) -> bool {
        Expression::parse(text).unwrap().after(datetime!(2026-01-01 0:00 UTC)).is_none()
    }

    #[test]
    fn missed_firings_by_policy() {
        let hourly = Expression::parse("0 * * * *").unwrap();
        let (due, now) = (datetime!(2026-11-21 10:00 UTC), datetime!(2026-11-21 15:30 UTC));
        let hour = |hour| datetime!(2026-11-21 0:00 UTC) + Duration::hours(hour);
        let next = Some(hour(16));
        assert_eq!(hourly.firings(due, now, Missed::Skip), (vec![], next));
        assert_eq!(hourly.firings(due, now, Missed::Once), (vec![hour(15)], next));
        assert_eq!(hourly.firings(due, now, Missed::All { most: 3 }), (vec![hour(13), hour(14), hour(15)], next));
        assert_eq!(hourly.firings(due, now, Missed::All { most: 100 }).0.len(), 6);
        assert_eq!(hourly.firings(hour(15), hour(15) + LATE, Missed::Skip), (vec![hour(15)], next));
    }

    #[test]
    fn what_is_less_than_a_minute_late_was_not_missed() {
        let often = Expression::parse("*/10 * * * * *").unwrap();
        let due = datetime!(2026-11-21 10:00 UTC);
        let at = |seconds| due + Duration::seconds(seconds);
        for missed in [Missed::Skip, Missed::Once, Missed::All { most: 1 }] {
            let fired = (vec![due, at(10), at(20)], Some(at(30)));
            assert_eq!(often.firings(due, at(25), missed), fired, "{missed:?}");
        }
        // Five minutes: the last minute's aren't missed, and make up for all where one is to.
        let in_time: Vec<_> = (24..=30).map(|ten| at(ten * 10)).collect();
        assert_eq!(often.firings(due, at(300), Missed::Skip).0, in_time);
        assert_eq!(often.firings(due, at(300), Missed::Once).0, [at(300)]);
        assert_eq!(
            often.firings(due, at(300), Missed::All { most: 2 }).0,
            [&[at(220), at(230)], &in_time[..]].concat()
        );
    }

    proptest! {
        #[test]
        fn the_next_firing_is_the_first_minute_that_matches(minute in 0..60_u8, hour in 0..24_u8, start in 0..4_000_000_000_i64) {
            let moment = OffsetDateTime::from_unix_timestamp(start).unwrap();
            let next = after(&format!("{minute} {hour} * * *"), moment);
            prop_assert_eq!((next.hour(), next.minute(), next.second()), (hour, minute, 0));
            prop_assert!(next > moment && next - moment <= Duration::days(1));
        }
    }
}
