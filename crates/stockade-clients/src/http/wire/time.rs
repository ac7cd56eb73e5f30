//! The time that is left, in a header.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header in which the time that is left travels, and its unit.
///
/// It is a duration, never an instant, so the clocks of the two sides do not matter.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use http::HeaderMap;
/// use stockade_clients::http::TimeHeader;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("grpc-timeout", "1500m".parse().unwrap());
/// assert_eq!(TimeHeader::grpc().read(&headers), Some(Duration::from_millis(1_500)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeHeader {
    name: HeaderName,
    unit: Unit,
}

/// How a header spells a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// A number of seconds. It is rounded down like all others, so a call with less than a second left is refused and not
    /// sent: for servers that know no finer unit.
    Seconds,
    /// A number of milliseconds.
    Millis,
    /// A number of microseconds.
    Micros,
    /// As gRPC does: a number of at most eight digits, and a letter for its unit.
    Grpc,
}

/// The units of gRPC, the finest first, in nanoseconds.
const GRPC: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3_600 * 1_000_000_000),
];

// === impl TimeHeader ===

impl TimeHeader {
    /// Travels in the header `name`, in this unit.
    pub const fn new(name: HeaderName, unit: Unit) -> Self {
        Self { name, unit }
    }

    /// `x-request-timeout-ms`, in milliseconds.
    pub const fn request_timeout() -> Self {
        Self::new(HeaderName::from_static("x-request-timeout-ms"), Unit::Millis)
    }

    /// `x-envoy-expected-rq-timeout-ms`, in milliseconds, which Envoy tells the servers behind it.
    ///
    /// An Envoy between a client and them reads another one from the client: `x-envoy-upstream-rq-timeout-ms`.
    pub const fn envoy() -> Self {
        Self::new(HeaderName::from_static("x-envoy-expected-rq-timeout-ms"), Unit::Millis)
    }

    /// `grpc-timeout`, as gRPC has it.
    pub const fn grpc() -> Self {
        Self::new(HeaderName::from_static("grpc-timeout"), Unit::Grpc)
    }

    /// The name of the header.
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The time in `headers`: of several the shortest. What is negative or no number is none; a number that is too large
    /// is a very long time.
    pub fn read(&self, headers: &HeaderMap) -> Option<Duration> {
        let told = headers.get_all(&self.name).into_iter();
        told.filter_map(|value| self.unit.read(value.as_bytes().trim_ascii())).min()
    }

    /// The time as the value of this header, rounded down; none if that is zero.
    pub(super) fn value(&self, left: Duration) -> Option<HeaderValue> {
        let (number, letter) = self.unit.spell(left);
        if number == 0 {
            return None;
        }
        match letter {
            None => Some(number.into()),
            Some(letter) => HeaderValue::try_from(format!("{number}{letter}")).ok(),
        }
    }
}

// === impl Unit ===

impl Unit {
    const fn nanos(self) -> Option<u64> {
        match self {
            Self::Seconds => Some(1_000_000_000),
            Self::Millis => Some(1_000_000),
            Self::Micros => Some(1_000),
            Self::Grpc => None,
        }
    }

    fn read(self, text: &[u8]) -> Option<Duration> {
        let (digits, nanos) = match self.nanos() {
            Some(nanos) => (text, nanos),
            None => {
                let (letter, digits) = text.split_last()?;
                (digits, GRPC.iter().find(|(unit, _)| unit == letter)?.1)
            }
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let add =
            |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
        let number = digits.iter().fold(0, add);
        Some(Duration::from_nanos(number.saturating_mul(nanos)))
    }

    /// The number and, for gRPC, its unit: the finest in which it has at most eight digits.
    fn spell(self, left: Duration) -> (u64, Option<char>) {
        const MAX: u64 = 99_999_999;
        let nanos = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        if let Some(unit) = self.nanos() {
            return (nanos / unit, None);
        }
        let fits = |(letter, unit): &(u8, u64)| {
            (nanos / unit <= MAX).then(|| (nanos / unit, Some(char::from(*letter))))
        };
        GRPC.iter().find_map(fits).unwrap_or((MAX, Some('H')))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(header: &TimeHeader, value: &[u8]) -> Option<Duration> {
        let value = HeaderValue::from_bytes(value).unwrap();
        header.read(&HeaderMap::from_iter([(header.name().clone(), value)]))
    }

    #[test]
    fn each_header_has_its_unit() {
        let seconds = TimeHeader::new(HeaderName::from_static("x-timeout"), Unit::Seconds);
        let micros = TimeHeader::new(HeaderName::from_static("x-timeout-us"), Unit::Micros);
        let two = Some(Duration::from_secs(2));
        for (header, value) in [
            (TimeHeader::request_timeout(), "2000"),
            (TimeHeader::envoy(), " 2000\t"),
            (seconds, "2"),
            (micros, "2000000"),
            (TimeHeader::grpc(), "2S"),
            (TimeHeader::grpc(), "2000m"),
            (TimeHeader::grpc(), "2000000u"),
        ] {
            assert_eq!(read(&header, value.as_bytes()), two, "{header:?}");
        }
        assert_eq!(read(&TimeHeader::grpc(), b"2M"), Some(Duration::from_secs(120)));
        assert_eq!(read(&TimeHeader::grpc(), b"2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(read(&TimeHeader::grpc(), b"2n"), Some(Duration::from_nanos(2)));
    }

    #[test]
    fn what_is_no_duration_is_none_and_what_is_too_long_is_very_long() {
        for value in
            [&b""[..], b"-5", b"+5", b"1e30", b"1.5", b"0x10", b"soon", b"5 5", b"\xff", b"5ms"]
        {
            assert_eq!(read(&TimeHeader::request_timeout(), value), None, "{value:?}");
        }
        for value in [&b"m"[..], b"-5m", b"5", b"5x", b"5 m", b"5\xff"] {
            assert_eq!(read(&TimeHeader::grpc(), value), None, "{value:?}");
        }
        let long = Duration::from_nanos(u64::MAX);
        let number = [&b"1"[..], &[b'0'; 30]].concat();
        assert_eq!(read(&TimeHeader::request_timeout(), &number), Some(long));
        assert_eq!(read(&TimeHeader::grpc(), &[&number[..], b"H"].concat()), Some(long));
        assert_eq!(read(&TimeHeader::request_timeout(), b"0"), Some(Duration::ZERO));
    }

    #[test]
    fn nothing_left_has_no_value() {
        assert_eq!(TimeHeader::request_timeout().value(Duration::from_micros(999)), None);
        assert_eq!(TimeHeader::grpc().value(Duration::ZERO), None);
        assert_eq!(TimeHeader::grpc().value(Duration::from_nanos(1)).unwrap(), "1n");
    }

    proptest! {
        /// The other side never has more time than was left, and loses no more than the unit.
        #[test]
        fn what_is_written_is_read_again_rounded_down(nanos in 1_000_000_u64.., grpc: bool) {
            let header = if grpc { TimeHeader::grpc() } else { TimeHeader::request_timeout() };
            let left = Duration::from_nanos(nanos);
            let value = header.value(left).unwrap();
            prop_assert!(!grpc || value.len() <= 9);
            let told = read(&header, value.as_bytes()).unwrap();
            prop_assert!(told <= left);
            let unit = Duration::from_millis(1);
            let most = if grpc { unit.max(left / 99_999) } else { unit };
            prop_assert!(left - told <= most);
        }
    }
}
