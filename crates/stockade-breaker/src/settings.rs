//! What a breaker is told: plain values, which the setters of the layer have checked.

use std::time::Duration;

use crate::Window;

/// What a breaker is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) window: Window,
    pub(crate) failure_rate: f64,
    pub(crate) slow: Option<Slow>,
    pub(crate) consecutive: Option<u32>,
    /// If it was not set, it is [`MIN_CALLS`], or the window where that is smaller.
    pub(crate) min_calls: Option<u32>,
    pub(crate) open_for: Duration,
    pub(crate) probes: u32,
    pub(crate) probe_timeout: Duration,
    /// How long the way from the last probe to closed is.
    pub(crate) ramp: Option<Duration>,
    pub(crate) mode: Mode,
    pub(crate) name: Option<&'static str>,
}

/// How much of its work a breaker does. ForcedOpen by hand works in all modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Normal,
    /// It counts, but stays closed.
    Observing,
    /// It stays closed and counts nothing.
    Disabled,
}

/// From when on a call is slow, and how many of them are too many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slow {
    pub(crate) after: Duration,
    pub(crate) rate: f64,
}

const MIN_CALLS: u32 = 20;

/// The longest open time, unless `open_for` itself is longer.
const CAP: Duration = Duration::from_secs(60);

/// The part of an open time that is left to chance.
const JITTER: f64 = 0.2;

// === impl Settings ===

impl Settings {
    pub(crate) const DEFAULT: Self = Self {
        window: Window::DEFAULT,
        failure_rate: 0.5,
        slow: None,
        consecutive: None,
        min_calls: None,
        open_for: Duration::from_secs(5),
        probes: 3,
        probe_timeout: Duration::from_secs(30),
        ramp: None,
        mode: Mode::Normal,
        name: None,
    };

    pub(crate) const fn min_calls(&self) -> u32 {
        let capacity = self.window.capacity();
        match self.min_calls {
            Some(n) => n,
            None if capacity < MIN_CALLS => capacity,
            None => MIN_CALLS,
        }
    }

    /// How long to be open after `reopened` probations that failed: doubles up to the cap, then the
    /// jitter, for which `random` is from 0 to 1, takes up to a fifth away. It never adds, so what is
    /// configured is never exceeded, and it is as wide at the cap as elsewhere.
    pub(crate) fn open_time(&self, reopened: u32, random: f64) -> Duration {
        let factor = 2_u32.saturating_pow(reopened);
        let full = self.open_for.saturating_mul(factor).min(self.open_for.max(CAP));
        full.saturating_sub(full.mul_f64(JITTER * random.clamp(0.0, 1.0)))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stockade_core::config::MAX_DURATION;

    use super::*;

    #[test]
    fn the_open_time_doubles_up_to_the_cap() {
        let settings = Settings::default();
        let seconds: Vec<_> = (0..6).map(|n| settings.open_time(n, 0.0).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn the_jitter_is_alive_at_the_cap() {
        let settings = Settings::default();
        assert_eq!(settings.open_time(9, 1.0), Duration::from_secs(48));
        assert_eq!(settings.open_time(9, 0.5), Duration::from_secs(54));
    }

    #[test]
    fn an_open_time_above_the_cap_stays_as_configured() {
        let settings = Settings { open_for: CAP * 3, ..Settings::default() };
        assert_eq!(settings.open_time(0, 0.0), CAP * 3);
        assert_eq!(settings.open_time(3, 0.0), CAP * 3);
    }

    proptest! {
        #[test]
        fn the_open_time_is_within_a_fifth_of_what_is_configured(
            nanos in 1..=MAX_DURATION.as_nanos() as u64, reopened: u32, random in 0.0..1.0,
        ) {
            let open_for = Duration::from_nanos(nanos);
            let settings = Settings { open_for, ..Settings::default() };
            let time = settings.open_time(reopened, random);
            prop_assert!(time >= open_for.mul_f64(0.79) && time <= open_for.max(CAP), "{time:?}");
        }
    }

    #[test]
    fn a_window_below_the_default_of_min_calls_lowers_it() {
        let settings = Settings { window: Window::calls(7), ..Settings::default() };
        assert_eq!(settings.min_calls(), 7);
        assert_eq!(Settings::default().min_calls(), MIN_CALLS);
    }
}
