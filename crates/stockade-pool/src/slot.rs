//! The job that a worker has in hand.

use std::time::Duration;

use stockade_core::{attempts::Counter, deadline::Deadline};
use tokio::time::Instant;

use crate::{Outcome, Status, job::Reply, shared::Entry, span::Span, worker::discard};

/// The job that a worker has in hand, from when it is taken until its caller is answered. It is filled and
/// emptied field by field, and never moved: moving jobs about costs a pool more than its locks.
pub(crate) struct Slot<Req, T, E> {
    /// None once the job is started, or skipped.
    request: Option<Req>,
    skipped: bool,
    /// It is not to be started, because the pool is overloaded.
    shed: bool,
    /// None while the slot is empty.
    reply: Option<Reply<T, E>>,
    /// None until the job has ended.
    end: Option<(Status, Result<T, E>)>,
    deadline: Option<Deadline>,
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
            reply: None,
            end: None,
            deadline: None,
            counter: Counter::default(),
            since: None,
            started: None,
            ended: None,
            span: Span::NONE,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reply.is_none()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(crate) fn fill(&mut self, entry: Entry<Req, T, E>, now: Option<Instant>) {
        let Entry { request, reply, deadline, since, span, tag: _ } = entry;
        self.request = Some(request);
        self.skipped = false;
        self.reply = Some(reply);
        self.deadline = deadline.map(Deadline::At);
        self.counter = Counter::default();
        self.since = since;
        self.started = now;
        self.ended = None;
        self.span = span;
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

    /// The span of the job.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn reply(&mut self) -> Option<&mut Reply<T, E>> {
        self.reply.as_mut()
    }

    pub(crate) fn is_expired(&self) -> bool {
        match &self.deadline {
            Some(Deadline::At(at)) => *at <= Instant::now(),
            _ => false,
        }
    }

    /// Runs a stretch of the call under its deadline, and counts its attempts.
    #[inline]
    pub(crate) fn enter<R>(&mut self, run: impl FnOnce() -> R) -> R {
        let Self { deadline, counter, .. } = self;
        match deadline {
            Some(deadline) => deadline.enter(|| counter.enter(run)),
            None => counter.enter(run),
        }
    }

    pub(crate) fn end(&mut self, status: Status, result: Result<T, E>, now: Option<Instant>) {
        self.end = Some((status, result));
        self.ended = now;
    }

    pub(crate) fn status(&self) -> Status {
        self.end.as_ref().map_or(Status::Cancelled, |(status, _)| *status)
    }

    pub(crate) fn times(&self) -> Option<Times> {
        let (since, started) = self.since.zip(self.started)?;
        let ended = self.ended.filter(|_| !self.skipped);
        Some(Times { queued: started - since, ran: ended.map(|ended| ended - started) })
    }

    /// Answers the caller of the job that has ended, and empties the slot.
    pub(crate) fn answer(&mut self, worker: usize) {
        let (Some(reply), Some((status, result))) = (self.reply.take(), self.end.take()) else {
            return;
        };
        // It has ended when its caller learns of it.
        self.span = Span::NONE;
        match reply {
            Reply::One(answer) => {
                if let Err(unread) = answer.send(result) {
                    discard(unread);
                }
            }
            Reply::Run(ticket) => {
                let times = self.times();
                ticket.send(|id| Outcome {
                    id,
                    status,
                    result,
                    queued_for: times.map(|times| times.queued),
                    ran_for: times.and_then(|times| times.ran),
                    worker: (!self.skipped).then_some(worker),
                    attempts: if self.skipped { 0 } else { self.counter.attempts() },
                });
            }
        }
    }
}

impl<T, E> Reply<T, E> {
    /// Answers a job that no worker has taken.
    pub(crate) fn refuse(self, status: Status, error: E) {
        match self {
            Self::One(answer) => discard(answer.send(Err(error))),
            Self::Run(ticket) => ticket.send(|id| Outcome {
                id,
                status,
                result: Err(error),
                queued_for: None,
                ran_for: None,
                worker: None,
                attempts: 0,
            }),
        }
    }
}
