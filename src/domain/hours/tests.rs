//! Hours against a clock on the wall, above all where that clock jumps.

use jiff::civil::Weekday;
use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// Hours in words: `mon 09:00-12:00 14:00-18:00, sat 22:00-06:00`.
fn hours(zone_name: &str, words: &str, closed: &[&str]) -> Hours {
    let mut weekly: [Vec<DayTime>; 7] = Default::default();
    for day in words.split(", ") {
        let mut words = day.split(' ');
        let name = words.next().unwrap();
        let times: Vec<_> = words.map(|word| DayTime::read(word).unwrap()).collect();
        for (number, weekday) in
            ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].iter().enumerate()
        {
            if name == "daily" || name == *weekday {
                weekly[number].extend(&times);
            }
        }
    }
    let closed = closed.iter().map(|day| day.parse().unwrap()).collect();
    Hours::new("h".into(), zone(zone_name), weekly, closed).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Checks whether the hours are open at a time, and when they open next if they are closed.
#[track_caller]
fn check(hours: &Hours, now: &str, expected: &str) {
    let now = at(now);
    let found = match (hours.is_open(now), hours.opens_at(now)) {
        (true, _) => "open".to_owned(),
        (false, Some(opens)) => {
            jiff::ZonedDateTime::new(opens, hours.zone.clone()).strftime("%F %H:%M%:z").to_string()
        }
        (false, None) => "never".to_owned(),
    };
    assert_eq!(found, expected, "at {now}");
}

#[test]
fn a_time_of_the_day_is_read_or_refused() {
    for (text, expected) in [
        ("09:00-18:30", Some((540, 1110))),
        ("22:00-06:00", Some((1320, 1800))),
        ("22:00-24:00", Some((1320, 1440))),
        ("22:00-00:00", Some((1320, 1440))),
        ("00:00-24:00", Some((0, 1440))),
        ("00:00-00:00", None),
        ("24:00-06:00", None),
        ("09:00-24:01", None),
        ("9:00-18:00", None),
        ("09:60-18:00", None),
        ("09:00", None),
        ("09:00-18:00-19:00", None),
        ("+9:00-18:00", None),
        ("09:00 - 18:00", None),
    ] {
        let time = DayTime::read(text).map(|time| (time.start, time.end));
        assert_eq!(time, expected, "{text}");
    }
}

#[test]
fn weekly_times_and_closed_days_are_those_of_the_zone() {
    let office = hours(
        "Europe/Berlin",
        "mon 09:00-12:00 13:00-18:00, tue 09:00-18:00, fri 09:00-18:00",
        &["2026-12-25", "2026-12-28"],
    );
    // Monday, winter time: Berlin is an hour ahead of UTC.
    check(&office, "2026-11-30T07:59:59Z", "2026-11-30 09:00+01:00");
    check(&office, "2026-11-30T08:00:00Z", "open");
    check(&office, "2026-11-30T11:00:00Z", "2026-11-30 13:00+01:00");
    check(&office, "2026-11-30T17:00:00Z", "2026-12-01 09:00+01:00");
    check(&office, "2026-12-01T17:00:00Z", "2026-12-04 09:00+01:00");
    // Friday the 25th and Monday the 28th are closed.
    check(&office, "2026-12-22T17:00:00Z", "2026-12-29 09:00+01:00");
    let never = hours("UTC", "mon 09:00-10:00", &[]);
    check(&never, "9999-12-30T00:00:00Z", "never");
}

#[test]
fn a_time_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let night = hours("Europe/Berlin", "fri 22:00-06:00, thu 20:00-24:00", &["2026-12-04"]);
    check(&night, "2026-11-27T20:59:00Z", "2026-11-27 22:00+01:00");
    check(&night, "2026-11-28T04:59:59Z", "open");
    check(&night, "2026-11-28T05:00:00Z", "2026-12-03 20:00+01:00");
    // Friday the 4th is closed: also what would have begun on it and lasted until Saturday.
    check(&night, "2026-12-03T22:59:59Z", "open");
    check(&night, "2026-12-04T22:00:00Z", "2026-12-10 20:00+01:00");
}

#[test]
fn a_skipped_time_is_the_moment_of_the_jump() {
    // On 2026-03-29 the clock of Berlin goes from 02:00 to 03:00, at 01:00 UTC.
    let early = hours("Europe/Berlin", "sun 02:30-05:00, sat 22:00-02:15", &[]);
    check(&early, "2026-03-29T00:59:59Z", "open");
    check(&early, "2026-03-29T01:00:00Z", "open");
    check(&early, "2026-03-29T02:59:59Z", "open");
    check(&early, "2026-03-29T03:00:00Z", "2026-04-04 22:00+02:00");
    let skipped = hours("Europe/Berlin", "sun 02:00-03:00", &[]);
    check(&skipped, "2026-03-29T00:00:00Z", "2026-04-05 02:00+02:00");
    // On 2026-03-08 the clock of New York goes from 02:00 to 03:00, at 07:00 UTC.
    let early = hours("America/New_York", "sun 02:30-05:00", &[]);
    check(&early, "2026-03-08T06:59:59Z", "2026-03-08 03:00-04:00");
    check(&early, "2026-03-08T07:00:00Z", "open");
    // In Cairo the day of 2026-04-24 begins at 01:00, at 22:00 UTC.
    let midnight = hours("Africa/Cairo", "fri 00:00-05:00", &[]);
    check(&midnight, "2026-04-23T21:59:59Z", "2026-04-24 01:00+03:00");
    // Samoa had no 2011-12-30, a Friday.
    let no_day = hours("Pacific/Apia", "fri 09:00-10:00", &[]);
    check(&no_day, "2011-12-29T12:00:00Z", "2012-01-06 09:00+14:00");
}

#[test]
fn a_time_that_is_shown_twice_counts_the_first_time() {
    // On 2026-10-25 the clock of Berlin goes from 03:00 back to 02:00, at 01:00 UTC.
    let early = hours("Europe/Berlin", "sun 02:30-05:00, sat 22:00-02:15", &[]);
    check(&early, "2026-10-25T00:14:59Z", "open");
    check(&early, "2026-10-25T00:15:00Z", "2026-10-25 02:30+02:00");
    check(&early, "2026-10-25T00:30:00Z", "open");
    // The wall shows 02:00 again.
    check(&early, "2026-10-25T01:00:00Z", "open");
    check(&early, "2026-10-25T03:59:59Z", "open");
    check(&early, "2026-10-25T04:00:00Z", "2026-10-31 22:00+01:00");
    // A day of 25 hours is open all the time.
    let always = hours("Europe/Berlin", "daily 00:00-24:00", &[]);
    for hour in 0..30 {
        assert!(always.is_open(at("2026-10-24T21:00:00Z") + Span::new().hours(hour)));
    }
}

/// What a clock on the wall says, apart from the hour that it shows twice.
fn is_open_by_the_wall(hours: &Hours, now: Timestamp) -> bool {
    let local = hours.zone.to_datetime(now);
    let minute = u16::try_from(local.hour()).unwrap() * 60 + u16::try_from(local.minute()).unwrap();
    let shows = |day: Date, minute: u16| {
        let weekday = day.weekday().since(Weekday::Monday);
        let times = &hours.weekly[usize::try_from(weekday).unwrap()];
        let is_closed = hours.closed.contains(&day);
        !is_closed && times.iter().any(|time| (time.start..time.end).contains(&minute))
    };
    shows(local.date(), minute) || shows(local.date().yesterday().unwrap(), minute + DAY)
}

/// Whether the clock shows this time twice.
fn is_shown_twice(hours: &Hours, now: Timestamp) -> bool {
    let local = hours.zone.to_datetime(now);
    let offset = hours.zone.to_ambiguous_timestamp(local).offset();
    matches!(offset, AmbiguousOffset::Fold { .. })
}

fn any_hours() -> impl Strategy<Value = Hours> {
    let zones = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"];
    let time =
        (0u16..1440, 1u16..1440).prop_map(|(start, lasts)| DayTime { start, end: start + lasts });
    let day = prop::collection::vec(time, 0..3);
    let closed = prop::collection::btree_set(0i64..40, 0..4);
    let weekly = prop::array::uniform7(day);
    (prop::sample::select(zones.to_vec()), weekly, closed, any::<bool>()).prop_filter_map(
        "never open",
        |(name, weekly, closed, spring)| {
            let first: Date = if spring { "2026-03-01" } else { "2026-10-15" }.parse().unwrap();
            let closed = closed.iter().map(|days| first + Span::new().days(*days)).collect();
            Hours::new(name.into(), zone(name), weekly, closed)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn hours_are_what_a_clock_on_the_wall_says(
        hours in any_hours(),
        minute in 0i64..40 * 24 * 60,
        spring in any::<bool>(),
    ) {
        let start = at(if spring { "2026-03-01T00:00:00Z" } else { "2026-10-15T00:00:00Z" });
        let now = start + Span::new().seconds(minute * MINUTE);
        if !is_shown_twice(&hours, now) {
            prop_assert_eq!(hours.is_open(now), is_open_by_the_wall(&hours, now), "{}", now);
        }
        if hours.is_open(now) {
            return Ok(());
        }
        // They are open when they open, and not a minute before that.
        let opens = hours.opens_at(now).unwrap();
        prop_assert!(hours.is_open(opens) && opens > now, "{} {}", now, opens);
        let mut before = now;
        while before < opens {
            prop_assert!(!hours.is_open(before), "{} {}", before, opens);
            before += Span::new().minutes(7);
        }
        prop_assert!(!hours.is_open(opens - Span::new().seconds(1)));
    }
}
