//! The tally counts how the callers' requests ended, phase by phase.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use stockade::{Error, Reason};
use tokio::time::Instant;

use crate::{
    exchange::{Answer, HttpError},
    plan::Phase,
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Success,
    /// With an answer of this status.
    Failed(u16),
    /// The connection broke.
    Broken,
    /// Refused or ended by a layer or by the pool.
    Refused {
        layer: &'static str,
        name: Option<&'static str>,
        reason: &'static str,
    },
    /// Returned by the drain: it was never started.
    HandedBack,
}

#[derive(Debug)]
pub(crate) struct Counts {
    /// By how they ended, and by phase.
    pub(crate) ended: BTreeMap<Ended, [u64; 3]>,
    pub(crate) phases: [Span; 3],
    /// Successful answers that are rows in the database.
    pub(crate) stored: u64,
    /// Successful answers that the database did not take, with the last reason.
    pub(crate) not_stored: Option<(u64, String)>,
}

/// A phase, from its first request to its last outcome.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) offered: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    /// Microseconds from when a request was due to its answer, successes only.
    pub(crate) latency: Histogram<u64>,
}

/// The counts, shared by everything that follows a request.
#[derive(Clone, Debug)]
pub(crate) struct Tally(Arc<Mutex<Counts>>);

// === impl Ended ===

impl Ended {
    pub(crate) fn of(result: &Result<Answer, HttpError>) -> Self {
        match result {
            Ok(answer) if answer.status.is_success() => Self::Success,
            Ok(answer) => Self::Failed(answer.status.as_u16()),
            Err(Error::Service(_)) => Self::Broken,
            Err(Error::Rejected(no))
                if no.layer() == "pool" && no.reason() == Reason::PoolClosed =>
            {
                Self::HandedBack
            }
            Err(Error::Rejected(no)) => {
                Self::Refused { layer: no.layer(), name: no.name(), reason: no.reason().as_str() }
            }
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("success"),
            Self::Failed(status) => write!(f, "failed: status {status}"),
            Self::Broken => f.write_str("failed: connection dropped"),
            Self::Refused { layer, name: Some(name), reason } => {
                write!(f, "{layer} `{name}`: {reason}")
            }
            Self::Refused { layer, name: None, reason } => write!(f, "{layer}: {reason}"),
            Self::HandedBack => f.write_str("handed back"),
        }
    }
}

// === impl Tally ===

impl Tally {
    pub(crate) fn new() -> Self {
        let ended = BTreeMap::from([(Ended::Success, [0; 3])]);
        let phases = [Span::new(), Span::new(), Span::new()];
        let counts = Counts { ended, phases, stored: 0, not_stored: None };
        Self(Arc::new(Mutex::new(counts)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that is due.
    pub(crate) fn offer(&self, phase: Phase, due: Instant) {
        let span = &mut self.lock().phases[phase as usize];
        span.offered += 1;
        span.first.get_or_insert(due);
    }

    /// Counts a request that ended after this time.
    pub(crate) fn end(&self, phase: Phase, ended: Ended, took: Duration) {
        let mut counts = self.lock();
        counts.ended.entry(ended).or_default()[phase as usize] += 1;
        let span = &mut counts.phases[phase as usize];
        span.last = Some(Instant::now());
        if ended == Ended::Success {
            span.latency.saturating_record(took.as_micros() as u64);
        }
    }

    /// Counts a row that the database took, or did not take.
    pub(crate) fn store<E: fmt::Display>(&self, result: Result<(), E>) {
        let mut counts = self.lock();
        match result {
            Ok(()) => counts.stored += 1,
            Err(error) => {
                let before = counts.not_stored.take().map_or(0, |(n, _)| n);
                counts.not_stored = Some((before + 1, error.to_string()));
            }
        }
    }
}

// === impl Counts ===

impl Counts {
    pub(crate) fn successes(&self) -> u64 {
        self.ended[&Ended::Success].iter().sum()
    }

    /// The requests that ended otherwise than by being handed back.
    pub(crate) fn outcomes(&self) -> u64 {
        let own = self.ended.iter().filter(|(ended, _)| **ended != Ended::HandedBack);
        own.flat_map(|(_, phases)| phases).sum()
    }
}

// === impl Span ===

impl Span {
    fn new() -> Self {
        let minute = Duration::from_secs(60).as_micros() as u64;
        let latency = Histogram::new_with_max(minute, 3).expect("the bounds are constant");
        Self { offered: 0, first: None, last: None, latency }
    }

    pub(crate) fn duration(&self) -> Duration {
        self.last.zip(self.first).map_or(Duration::ZERO, |(last, first)| last - first)
    }
}
