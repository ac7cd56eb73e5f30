//! What became of a job.

use std::{collections::VecDeque, task::Waker, time::Duration};

use stockade_core::{LayerError, Reason, Rejected};

/// What became of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome<Req, T, E> {
    /// The position of the request in what was run, counted from 0.
    pub id: u64,
    /// What became of it, in one word.
    pub status: Status,
    /// What the service answered, or the pool in its place.
    pub result: Result<T, E>,
    /// The request of a job that did not succeed, if the pool
    /// [keeps requests](crate::PoolBuilder::keep_requests).
    pub request: Option<Req>,
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
    /// The service returned an error, a layer inside refused, or there was no service.
    Failed,
    /// A timeout inside the pool ended it.
    TimedOut,
    /// Its caller went away, or it ran when the pool was stopped.
    Cancelled,
    /// The service panicked.
    Panicked,
    /// Its deadline had passed when its turn came, so it was not started.
    Expired,
    /// It had waited for too long, or made room for a newer job, so it was not started.
    Shed,
    /// The pool was stopped before it had ended, and its request was handed back.
    HandedBack {
        /// Whether it had been started, so that it may have had an effect.
        started: bool,
    },
}

/// What the one who ends a job says of it. A refusal becomes the error of the stack where the outcome is read, because
/// that is the user's code.
pub(crate) type Ended<Req, T, E> = Outcome<Req, Result<T, E>, Rejected>;

/// Where the jobs of a run end.
pub(crate) struct Mailbox<Req, T, E> {
    pub(crate) ended: VecDeque<Ended<Req, T, E>>,
    pub(crate) reader: Option<Waker>,
}

// === impl Status ===

impl Status {
    pub(crate) fn of<T, E: LayerError>(result: &Result<T, E>) -> Self {
        let Err(error) = result else { return Self::Success };
        match error.rejected().map(|rejected| rejected.reason()) {
            Some(Reason::Elapsed) => Self::TimedOut,
            _ => Self::Failed,
        }
    }

    /// Of a job that the pool itself ends.
    pub(crate) const fn of_refusal(reason: Reason) -> Self {
        match reason {
            Reason::Expired => Self::Expired,
            Reason::Panicked => Self::Panicked,
            Reason::Shed | Reason::WaitExceeded => Self::Shed,
            Reason::PoolClosed => Self::HandedBack { started: false },
            Reason::Unavailable | Reason::QueueFull => Self::Failed,
            _ => Self::Cancelled,
        }
    }
}

// === impl Ended ===

impl<Req, T, E: LayerError> Ended<Req, T, E> {
    pub(crate) fn into_outcome(self) -> Outcome<Req, T, E> {
        let Self { id, status, result, request, queued_for, ran_for, worker, attempts } = self;
        let result = result.unwrap_or_else(|rejected| Err(E::from_rejected(rejected)));
        Outcome { id, status, result, request, queued_for, ran_for, worker, attempts }
    }
}
