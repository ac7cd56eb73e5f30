//! The job that a worker has in hand.

use std::{task::Poll, time::Duration};

use stockade_core::{LayerError, attempts::Counter, deadline::Deadline};
use tokio::time::Instant;

use crate::{
    Outcome, Status,
    board::{Entry, Key},
    span::Span,
    worker::discard,
};

/// The job that a worker has in hand, from when it is taken until its caller is answered. It is filled and
/// emptied field by field, and never moved: moving jobs about costs a pool more than its locks.
pub(crate) struct Slot<Req, T, E> {
    /// None once the job is started, or skipped.
    request: Option<Req>,
    skipped: bool,
    /// It is not to be started, because the pool is overloaded.
    shed: bool,
    /// None while the slot is empty.
    key: Option<Key>,
    /// None until the job has ended.
    status: Option<Status>,
    /// Its answer, until that is handed over.
    result: Option<Result<T, E>>,
    deadline: Option<Instant>,
    counter: Counter,
    since: Option<Instant>,
    started: Option<Instant>,
    ended: Option<Instant>,
    span: Span,
}

/// What a pool that measures knows of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) queued: Duration,
    pub(crate) ran: Option<Duration>,
}

// === impl Slot ===

impl<Req, T, E> Slot<Req, T, E> {
    pub(crate) fn new() -> Self {
        Self {
            request: None,
            skipped: false,
            shed: false,
            key: None,
            status: None,
            result: None,
            deadline: None,
            counter: Counter::default(),
            since: None,
            started: None,
            ended: None,
            span: Span::NONE,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.key.is_none()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.status.is_some()
    }

    /// Takes a job in. What was in the slot before is on the books.
    #[inline(always)]
    pub(crate) fn fill(&mut self, key: Key, entry: Entry<Req>) {
        let Entry { request, deadline, since, span, tag: _ } = entry;
        self.request = Some(request);
        (self.key, self.status) = (Some(key), None);
        self.deadline = deadline;
        self.counter = Counter::default();
        self.since = since;
        self.span = span;
        (self.skipped, self.shed) = (false, false);
    }

    /// The job has been taken at `now`, in a pool that reads clocks.
    #[inline]
    pub(crate) fn start_clock(&mut self, now: Option<Instant>) {
        if now.is_some() {
            (self.started, self.ended) = (now, None);
        }
    }

    /// The job has ended at `now`, in a pool that reads clocks.
    #[inline]
    fn stop_clock(&mut self, now: Option<Instant>) {
        if now.is_some() {
            self.ended = now;
        }
    }

    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    pub(crate) fn set_shed(&mut self, shed: bool) {
        self.shed = shed;
    }

    pub(crate) fn is_shed(&self) -> bool {
        self.shed
    }

    /// The request, which is taken when the job is started.
    pub(crate) fn start(&mut self) -> Option<Req> {
        self.request.take()
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.request.is_some()
    }

    /// The request of a job that will not be started.
    pub(crate) fn skip(&mut self) -> Option<Req> {
        self.skipped = true;
        self.request.take()
    }

    /// The span of the job, until it has ended.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn key(&self) -> Option<Key> {
        self.key
    }

    /// The answer, which is taken when it is handed over.
    pub(crate) fn result(&mut self) -> &mut Option<Result<T, E>> {
        &mut self.result
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// Runs a stretch of the call under its deadline, and counts its attempts. `run` returns whether the call was
    /// answered, and with what.
    #[inline(always)]
    pub(crate) fn enter(&mut self, run: impl FnOnce() -> Poll<Result<T, E>>) -> bool {
        let Self { deadline, counter, result, .. } = self;
        // The answer goes where it stays, without a stop on the way.
        let run = || match run() {
            Poll::Ready(answer) => {
                *result = Some(answer);
                true
            }
            Poll::Pending => false,
        };
        match deadline {
            None => counter.enter(run),
            Some(at) => Deadline::At(*at).enter(|| counter.enter(run)),
        }
    }

    /// The job ends with the answer that is there.
    #[inline(always)]
    pub(crate) fn end_answered(&mut self, now: Option<Instant>)
    where
        E: LayerError,
    {
        self.status = self.result.as_ref().map(Status::of);
        self.stop_clock(now);
        self.span = Span::NONE;
    }

    /// The job ends without an answer of the service.
    pub(crate) fn end(&mut self, status: Status, result: Result<T, E>, now: Option<Instant>) {
        self.status = Some(status);
        self.result = Some(result);
        self.stop_clock(now);
        self.span = Span::NONE;
    }

    /// Drops the answer if it was not handed over, because nobody reads it. Done without the lock.
    #[inline]
    pub(crate) fn discard(&mut self) {
        if let Some(unread) = self.result.take() {
            discard(unread);
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.status.unwrap_or(Status::Cancelled)
    }

    pub(crate) fn times(&self) -> Option<Times> {
        let (since, started) = self.since.zip(self.started)?;
        let ended = self.ended.filter(|_| !self.skipped);
        Some(Times { queued: started - since, ran: ended.map(|ended| ended - started) })
    }

    /// What became of the job of this number in a run.
    pub(crate) fn outcome(&mut self, id: u64, worker: usize) -> Option<Outcome<T, E>> {
        let times = self.times();
        Some(Outcome {
            id,
            status: self.status(),
            result: self.result.take()?,
            queued_for: times.map(|times| times.queued),
            ran_for: times.and_then(|times| times.ran),
            worker: (!self.skipped).then_some(worker),
            attempts: if self.skipped { 0 } else { self.counter.attempts() },
        })
    }

    /// Empties the slot of a job that is on the books.
    #[inline]
    pub(crate) fn clear(&mut self) {
        (self.key, self.status) = (None, None);
    }
}
