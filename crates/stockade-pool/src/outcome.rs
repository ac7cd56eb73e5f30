use std::time::Duration;

use stockade_core::{LayerError, Reason};

/// What became of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<T, E> {
    /// The position of the request in what was run, counted from 0.
    pub id: u64,
    /// What became of it, in one word.
    pub status: Status,
    /// What the service answered, or the pool in its place.
    pub result: Result<T, E>,
    /// How long it was queued, if the pool [measures](crate::PoolBuilder::measure).
    pub queued_for: Option<Duration>,
    /// How long it ran, if the pool [measures](crate::PoolBuilder::measure) and it was started.
    pub ran_for: Option<Duration>,
    /// Which worker ran it, counted from 0; none if it was never started.
    pub worker: Option<usize>,
    /// How often it was tried, as the retry layer inside counted; 0 if it was never started.
    pub attempts: u32,
}

/// What became of a job, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// The service answered.
    Success,
    /// The service returned an error, or a layer inside refused.
    Failed,
    /// A timeout inside the pool ended it.
    TimedOut,
    /// Its caller went away, or the pool was stopped before it had ended.
    Cancelled,
    /// The service panicked.
    Panicked,
    /// Its deadline had passed when its turn came, so it was never started.
    Expired,
    /// It was shed because the pool is overloaded.
    Shed,
}

// === impl Outcome ===

impl<T, E> Outcome<T, E> {
    pub(crate) fn unstarted(id: u64, status: Status, result: Result<T, E>) -> Self {
        Self { id, status, result, queued_for: None, ran_for: None, worker: None, attempts: 0 }
    }
}

// === impl Status ===

impl Status {
    #[inline]
    pub(crate) fn of<T, E: LayerError>(result: &Result<T, E>) -> Self {
        let Err(error) = result else { return Self::Success };
        match error.rejected().map(|rejected| rejected.reason()) {
            Some(Reason::Elapsed) => Self::TimedOut,
            _ => Self::Failed,
        }
    }
}
