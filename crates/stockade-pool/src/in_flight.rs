//! The job that a worker has in hand, from when it is taken until its answer is handed over.

use std::{task::Poll, time::Duration};

use stockade_core::{
    LayerError, Reason, Rejected, attempts::Counter, deadline::Deadline, priority::Priority,
};
use tokio::time::Instant;

use crate::{
    Status,
    contain::discard,
    outcome::Ended,
    queue::{Carried, Key, Taken},
    span::Span,
    stats::between,
};

/// The job that a worker has in hand. It is filled and emptied in place, because moving jobs about costs a pool more
/// than its locks.
pub(crate) struct InFlight<Req, T, E> {
    /// None while the worker has no job.
    pub(crate) key: Option<Key>,
    /// None once the job is started, or will not be.
    pub(crate) request: Option<Req>,
    pub(crate) started: bool,
    /// None until the job has ended.
    status: Option<Status>,
    /// What the service has answered, until it is handed over.
    pub(crate) result: Option<Result<T, E>>,
    /// What the pool says in its place.
    pub(crate) refusal: Option<Rejected>,
    /// The copy of the request, once the job was stopped or handed over.
    pub(crate) kept: Option<Req>,
    pub(crate) priority: Priority,
    deadline: Option<Instant>,
    counter: Counter,
    /// When it was submitted and taken, and when it has ended, where somebody wants to know.
    pub(crate) since: Option<Instant>,
    taken: Option<Instant>,
    pub(crate) ended: Option<Instant>,
    pub(crate) span: Span,
    pub(crate) carried: Option<Carried>,
}

// === impl InFlight ===

impl<Req, T, E> InFlight<Req, T, E> {
    pub(crate) fn new() -> Self {
        Self {
            key: None,
            request: None,
            started: false,
            status: None,
            result: None,
            refusal: None,
            kept: None,
            priority: Priority::Default,
            deadline: None,
            counter: Counter::default(),
            since: None,
            taken: None,
            ended: None,
            span: Span::NONE,
            carried: None,
        }
    }

    /// Whether the worker could take another job: it has none, or the one it has has ended.
    pub(crate) fn is_free(&self) -> bool {
        self.key.is_none() || self.status.is_some()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.status.is_some()
    }

    /// Takes a job. The one before has been handed over.
    pub(crate) fn fill(&mut self, key: Key, job: Taken<Req>, now: Option<Instant>) {
        let Taken { request, priority, deadline, since, span, carried } = job;
        (self.key, self.status) = (Some(key), None);
        self.request = Some(request);
        self.started = false;
        (self.priority, self.deadline) = (priority, deadline);
        self.counter = Counter::default();
        (self.since, self.taken, self.ended) = (since, now, None);
        self.span = span;
        self.carried = carried;
    }

    /// Whether its deadline has passed; what is due at the deadline is late.
    pub(crate) fn is_expired(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// Polls the call under its deadline and with its priority, and counts its attempts. Returns whether it was answered.
    pub(crate) fn enter(&mut self, poll: impl FnOnce() -> Poll<Result<T, E>>) -> bool
    where
        E: LayerError,
    {
        let Self { priority, deadline, counter, result, .. } = self;
        let _priority = priority.scope();
        // The result is moved once.
        let poll = || {
            *result = match poll() {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            };
        };
        match deadline {
            None => counter.enter(poll),
            Some(at) => Deadline::At(*at).enter(|| counter.enter(poll)),
        }
        self.status = self.result.as_ref().map(Status::of);
        self.status.is_some()
    }

    /// The job has ended with the answer that is there.
    pub(crate) fn end(&mut self, now: Option<Instant>) {
        self.ended = now;
        self.span = Span::NONE;
        if let Some(carried) = self.carried.take() {
            discard(carried);
        }
    }

    /// Notes when the job was taken, if its submitter wants to know how long it was queued.
    pub(crate) fn note_taken(&mut self) {
        if self.since.is_some() && self.taken.is_none() {
            self.taken = Some(Instant::now());
        }
    }

    /// The job ends with a refusal of the pool.
    pub(crate) fn refuse(&mut self, rejected: Rejected, now: Option<Instant>) {
        self.tell(rejected);
        self.reject(rejected);
        self.end(now);
    }

    /// The same, told of later.
    pub(crate) fn reject(&mut self, rejected: Rejected) {
        let stopped = rejected.reason() == Reason::Cancelled && self.kept.is_some();
        self.status = Some(match stopped {
            true => Status::HandedBack { started: true },
            false => Status::of_refusal(rejected.reason()),
        });
        self.refusal = Some(rejected);
    }

    /// Tells of the refusal where the job was submitted, and returns the request.
    pub(crate) fn into_request(mut self, rejected: Rejected) -> Option<Req> {
        self.tell(rejected);
        let request = self.request.take();
        discard(self);
        request
    }

    fn tell(&self, rejected: Rejected) {
        let _inside = self.span.enter();
        rejected.tell();
    }

    /// The job ends with this error, although it was not started.
    pub(crate) fn fail(&mut self, error: E, now: Option<Instant>) {
        (self.status, self.result) = (Some(Status::Failed), Some(Err(error)));
        self.end(now);
    }

    pub(crate) fn status(&self) -> Status {
        self.status.unwrap_or(Status::Cancelled)
    }

    /// How long it was queued, if anybody wants to know.
    pub(crate) fn queued_for(&self) -> Option<Duration> {
        between(self.since, self.taken)
    }

    /// How long it ran, if it was started and anybody wants to know.
    pub(crate) fn ran_for(&self) -> Option<Duration> {
        let ended = self.ended.filter(|_| self.started)?;
        Some(ended.saturating_duration_since(self.taken.unwrap_or(ended)))
    }

    /// What became of it, as the job of this number in a run; none if the answer was handed over.
    pub(crate) fn outcome(&mut self, id: u64, worker: usize) -> Option<Ended<Req, T, E>> {
        let status = self.status();
        // That of a job which succeeded is dropped later, without the lock.
        let request = if status == Status::Success { None } else { self.kept.take() };
        Some(Ended {
            id,
            status,
            result: match self.refusal.take() {
                Some(rejected) => Err(rejected),
                None => Ok(self.result.take()?),
            },
            request,
            queued_for: self.queued_for(),
            ran_for: self.ran_for(),
            worker: self.started.then_some(worker),
            attempts: if self.started { self.counter.attempts() } else { 0 },
        })
    }

    /// The job has been handed over. What nobody reads is left to be [discarded](Self::discard).
    pub(crate) fn clear(&mut self) {
        (self.key, self.status) = (None, None);
    }

    /// Drops what nobody has taken, without the lock.
    #[inline]
    pub(crate) fn discard(&mut self) {
        if self.refusal.is_some() {
            self.refusal = None;
        }
        if self.result.is_some() || self.kept.is_some() {
            discard((self.result.take(), self.kept.take()));
        }
    }
}
