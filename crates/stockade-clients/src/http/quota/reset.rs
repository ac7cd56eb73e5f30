//! When a quota is there again, in the ways in which servers say it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time until `reset`, which is a duration, or an instant that counts from `now`.
pub(super) fn until(reset: &str, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    if let Some(duration) = duration(reset) {
        return Some(duration);
    }
    let instant = since_1970(reset).or_else(|| rfc3339(reset));
    let instant = instant.or_else(|| httpdate::parse_http_date(reset).ok())?;
    Some(instant.duration_since(now()).unwrap_or_default())
}

/// No duration from now on is as long as so many seconds, and no instant is as early.
const SECONDS: f64 = 5e8;
/// The same for an instant in milliseconds, which is later than any in seconds.
const MILLIS: f64 = 5e11;

/// Digits, with a fraction if so.
fn number(text: &str) -> Option<f64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number { text.parse().ok() } else { None }
}

/// `30`, `1.5s`, `20ms` or `6m0s`.
fn duration(text: &str) -> Option<Duration> {
    if let Some(seconds) = number(text) {
        return if seconds < SECONDS { Duration::try_from_secs_f64(seconds).ok() } else { None };
    }
    let (mut sum, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, unit) = rest.split_at(end);
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let seconds = match &unit[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number(value)? * seconds).ok()?;
        sum = sum.checked_add(part)?;
        rest = &unit[end..];
    }
    (!text.is_empty()).then_some(sum)
}

/// The seconds since 1970, or the milliseconds.
fn since_1970(text: &str) -> Option<SystemTime> {
    let number = number(text)?;
    let seconds = if number < MILLIS { number } else { number / 1e3 };
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// `2026-01-27T02:31:00Z`, with a fraction or an offset if so (RFC 3339, section 5.6).
fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let (time, zone) = time.split_at(time.find(['Z', 'z', '+', '-'])?);
    let (time, fraction) = time.split_at(time.find('.').unwrap_or(time.len()));
    let [year, month, day] = fields(date, '-')?;
    let [hour, minute, second] = fields(time, ':')?;
    let is_date = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_date {
        return None;
    }
    let seconds = 86_400 * days_since_1970(year, month, day) + 3_600 * hour + 60 * minute + second;
    let fraction = if fraction.is_empty() { 0.0 } else { number(fraction)? };
    let instant = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_secs_f64(fraction);
    match zone.split_at(1) {
        ("Z" | "z", "") => Some(instant),
        ("+", offset) => instant.checked_sub(offset_of(offset)?),
        ("-", offset) => instant.checked_add(offset_of(offset)?),
        _ => None,
    }
}

fn offset_of(text: &str) -> Option<Duration> {
    let [hours, minutes] = fields(text, ':')?;
    (hours < 24 && minutes < 60).then(|| Duration::from_secs(3_600 * hours + 60 * minutes))
}

/// `N` numbers of at most four digits, with `between` them.
fn fields<const N: usize>(text: &str, between: char) -> Option<[u64; N]> {
    let (mut numbers, mut parts) = ([0; N], text.split(between));
    for number in &mut numbers {
        let part = parts.next().filter(|part| part.len() <= 4)?;
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        *number = if is_number { part.parse().ok()? } else { return None };
    }
    if parts.next().is_some() { None } else { Some(numbers) }
}

/// The days from 1970 to a date after it. The year begins in March here, so that the day that a leap year has more is its
/// last one.
const fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, months) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let before_month = (153 * months + 2) / 5;
    365 * year + leap_days + before_month + day - 719_469
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// At 02:30:00 on the 27th of January 2026.
    fn left(reset: &str) -> Option<Duration> {
        until(reset, || UNIX_EPOCH + Duration::from_secs(1_769_481_000))
    }

    #[test]
    fn a_duration_is_read_in_seconds_and_in_units() {
        for (reset, millis) in [
            ("0", 0),
            ("30", 30_000),
            ("1.5", 1_500),
            ("1s", 1_000),
            ("17.25s", 17_250),
            ("20ms", 20),
            ("1m30s", 90_000),
            ("6m0s", 360_000),
            ("1h2m3s4ms", 3_723_004),
            ("1d", 86_400_000),
            ("5000us", 5),
            ("5000µs", 5),
            ("5000000ns", 5),
        ] {
            assert_eq!(left(reset), Some(Duration::from_millis(millis)), "{reset}");
        }
    }

    #[test]
    fn an_instant_is_read_as_a_date_and_as_the_time_since_1970() {
        for reset in [
            "2026-01-27T02:31:00Z",
            "2026-01-27t02:31:00z",
            "2026-01-27 02:31:00Z",
            "2026-01-27T02:31:00.000000Z",
            "2026-01-27T03:31:00+01:00",
            "2026-01-26T21:01:00-05:30",
            "Tue, 27 Jan 2026 02:31:00 GMT",
            "1769481060",
            "1769481060.0",
            "1769481060000",
        ] {
            assert_eq!(left(reset), Some(Duration::from_secs(60)), "{reset}");
        }
        assert_eq!(left("2026-01-27T02:30:00.25Z"), Some(Duration::from_millis(250)));
        assert_eq!(left("2028-02-29T02:30:00Z"), Some(Duration::from_secs(763 * 86_400)));
    }

    #[test]
    fn an_instant_that_has_passed_is_zero() {
        for reset in ["2026-01-27T02:29:59Z", "1769480999", "Tue, 27 Jan 2026 02:29:59 GMT"] {
            assert_eq!(left(reset), Some(Duration::ZERO), "{reset}");
        }
    }

    #[test]
    fn what_is_neither_is_none() {
        for reset in [
            "",
            ".",
            "..s",
            "-1",
            "-5s",
            "1e9",
            "soon",
            "7x",
            "µ",
            "s",
            "1m30",
            "2026-01-27",
            "2026-01-27T02:31:00",
            "2026-01-27T02:31Z",
            "2026-01-27T02:31:00ZZ",
            "2026-01-27T02:31:00.Z",
            "2026-01-27T02:31:00.1.2Z",
            "2026-01-27T02:31:00+1",
            "2026-01-27T02:31:00+99:00",
            "2026-13-27T02:31:00Z",
            "2026-00-27T02:31:00Z",
            "2026-01-32T02:31:00Z",
            "2026-01-27T24:31:00Z",
            "1969-12-31T23:59:59Z",
            "99999-01-27T02:31:00Z",
            "20é6-01-27T02:31:00Z",
            "+026-01-27T02:31:00Z",
        ] {
            assert_eq!(left(reset), None, "{reset:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_no_panic() {
        let digits = "9".repeat(400);
        for reset in
            [&digits, &format!("{digits}s"), &format!("1h{digits}d"), &format!("1.{digits}")]
        {
            let _ = left(reset);
        }
        assert!(left("9999-12-31T23:59:59Z").unwrap() > Duration::from_secs(200_000_000_000));
    }

    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

    proptest! {
        /// `httpdate` says which day it is.
        #[test]
        fn every_second_until_the_year_9999_is_read(seconds in 0_u64..253_402_300_800) {
            let instant = UNIX_EPOCH + Duration::from_secs(seconds);
            let date = httpdate::fmt_http_date(instant);
            let month = MONTHS.iter().position(|month| *month == &date[8..11]).unwrap() + 1;
            let (year, day, time) = (&date[12..16], &date[5..7], &date[17..25]);
            prop_assert_eq!(rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")), Some(instant));
        }

        #[test]
        fn no_text_panics(text: String, date in "[0-9TZ:. +-]{0,30}") {
            let _ = (left(&text), left(&date));
        }
    }
}
