//! Opening hours: weekly times in a time zone, without the closed days.
//!
//! Times are those of a clock on the wall of that zone. A time that the clock skips in spring counts
//! as the moment of the jump; one that it shows twice in autumn counts the first time. The current
//! time is always an argument.

use std::collections::BTreeSet;

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

/// Minutes of a day, without any jump of the clock.
const DAY: u16 = 24 * 60;

/// Weekly times when somebody is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Hours {
    /// Their name in the configuration.
    pub name: String,
    zone: TimeZone,
    /// From Monday to Sunday, by the day on which a time begins.
    weekly: [Vec<DayTime>; 7],
    closed: BTreeSet<Date>,
}

/// From one time of a day to a later one, perhaps of the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayTime {
    /// In minutes, below 1440.
    start: u16,
    /// In minutes from the start of the same day; not included.
    end: u16,
}

impl DayTime {
    /// Reads `09:00-18:00`. An end that is not after the start is of the next day (`22:00-06:00`);
    /// the end of the day is `24:00`. `None` for anything else, also for two equal times.
    pub fn read(text: &str) -> Option<Self> {
        let (start, end) = text.split_once('-')?;
        let (start, end) = (minutes(start)?, minutes(end)?);
        let is_next_day = end < start;
        let end = if is_next_day { end + DAY } else { end };
        (start < DAY && start != end).then_some(Self { start, end })
    }
}

/// Reads `00:00` to `24:00`.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY).then_some(minutes)
}

/// A moment is in the hours or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OpenTime {
    start: Timestamp,
    end: Timestamp,
}

impl Hours {
    /// `None` if they never open. `weekly` begins with Monday.
    pub fn new(
        name: String,
        zone: TimeZone,
        weekly: [Vec<DayTime>; 7],
        closed: BTreeSet<Date>,
    ) -> Option<Self> {
        let opens = weekly.iter().any(|day| !day.is_empty());
        opens.then_some(Self { name, zone, weekly, closed })
    }

    /// Whether this moment is in the hours.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let today = self.zone.to_datetime(now).date();
        // A time of yesterday may last until today. Tomorrow's may have begun: a clock that goes back at
        // midnight shows today again.
        let days = [today.yesterday().ok(), Some(today), today.tomorrow().ok()];
        let mut open = days.into_iter().flatten().flat_map(|day| self.times_of(day));
        open.any(|time| time.start <= now && now < time.end)
    }

    /// The next time at which the hours begin, after `now`, at which they are closed. `None` beyond
    /// the year 9999.
    pub fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(now).date();
        // A week after the closed days each weekday has come that is not closed; in the second one
        // no time is left that a jump of the clock could swallow, too.
        let days = 7 * (self.closed.len() as i64 + 2);
        (0..=days).find_map(|after| {
            let day = today.checked_add(Span::new().days(after)).ok()?;
            let starts = self.times_of(day).map(|time| time.start);
            starts.filter(|start| *start > now).min()
        })
    }

    /// The times that begin on this day.
    fn times_of(&self, day: Date) -> impl Iterator<Item = OpenTime> {
        let weekday = usize::from(day.weekday().to_monday_zero_offset().unsigned_abs());
        let times = if self.closed.contains(&day) { &[][..] } else { &self.weekly[weekday] };
        times.iter().filter_map(move |time| {
            let (start, end) = (self.moment(day, time.start)?, self.moment(day, time.end)?);
            (start < end).then_some(OpenTime { start, end })
        })
    }

    /// When a clock on the wall first shows this many minutes of a day, or would, if it did not jump.
    fn moment(&self, day: Date, minutes: u16) -> Option<Timestamp> {
        let day = if minutes < DAY { day } else { day.tomorrow().ok()? };
        let (hour, minute) = (minutes % DAY / 60, minutes % 60);
        let time = Time::new(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0).ok()?;
        let local = day.to_datetime(time);
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // Read with the later offset, a skipped time lies before the jump.
                let before_jump = after.to_timestamp(local).ok()?;
                Some(self.zone.following(before_jump).next()?.timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests;
