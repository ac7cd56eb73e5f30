//! What a breaker does with calls, and why.

use std::fmt;

use crate::window::Tally;

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// Calls are refused until the open time is over.
    Open,
    /// A few calls pass as probes. After them a growing share of the calls passes, if there is a ramp.
    HalfOpen,
    /// Calls are refused until the last [`ForcedOpen`](crate::ForcedOpen) guard is dropped.
    ForcedOpen,
}

/// The state of a breaker, and why it is in it.
///
/// It compares with a plain [`State`]: `*handle.watch().borrow() == State::Open`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// What it does with calls.
    pub state: State,
    /// Why it last opened. `None` once it is closed.
    pub cause: Option<Cause>,
}

/// Why a breaker opened, with the figures of that moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cause {
    /// What made it open.
    pub trip: Trip,
    /// The calls in the window; for [`Trip::Probe`] the probes that have ended. 0 for [`Trip::Forced`].
    pub calls: u32,
    /// How many of them failed.
    pub failures: u32,
    /// How many of them were slow.
    pub slow: u32,
    /// The failures in a row, the last one included.
    pub consecutive: u32,
    /// The share of slow calls for [`Trip::SlowRate`], and of failures otherwise: from 0 to 1.
    pub ratio: f64,
}

/// What made a breaker open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trip {
    /// Too many calls in the window failed.
    FailureRate,
    /// Too many calls in the window were slow.
    SlowRate,
    /// Too many calls failed in a row.
    Consecutive,
    /// A probe failed, or too many probes are overdue.
    Probe,
    /// It was opened by hand.
    Forced,
}

// === impl State ===

impl State {
    pub(crate) const ALL: [Self; 4] = [Self::Closed, Self::Open, Self::HalfOpen, Self::ForcedOpen];
}

stockade_core::spellings! { State:
    Closed "closed" "closed",
    Open "open" "open",
    HalfOpen "half-open" "half_open",
    ForcedOpen "forced open" "forced_open",
}

// === impl Status ===

impl PartialEq<State> for Status {
    fn eq(&self, state: &State) -> bool {
        self.state == *state
    }
}

// === impl Cause ===

impl Cause {
    pub(crate) const FORCED: Self =
        Self { trip: Trip::Forced, calls: 0, failures: 0, slow: 0, consecutive: 0, ratio: 0.0 };

    pub(crate) fn new(trip: Trip, tally: Tally, consecutive: u32) -> Self {
        let Tally { calls, failures, slow } = tally;
        let part = if trip == Trip::SlowRate { slow } else { failures };
        let ratio = f64::from(part) / f64::from(calls.max(1));
        Self { trip, calls, failures, slow, consecutive, ratio }
    }
}

/// For instance `failure rate 0.62 of 50 calls`.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trip, calls, consecutive, ratio, .. } = self;
        match trip {
            Trip::FailureRate | Trip::SlowRate => write!(f, "{trip} {ratio:.2} of {calls} calls"),
            Trip::Consecutive => write!(f, "{consecutive} {trip}"),
            Trip::Probe | Trip::Forced => trip.fmt(f),
        }
    }
}

// === impl Trip ===

stockade_core::spellings! { Trip:
    FailureRate "failure rate" "failure_rate",
    SlowRate "slow rate" "slow_rate",
    Consecutive "consecutive failures" "consecutive_failures",
    Probe "probe failed" "probe_failed",
    Forced "forced" "forced",
}
