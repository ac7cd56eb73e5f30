//! One job, from when it is submitted until its answer is read.

use std::{borrow::Cow, task::Waker, time::Duration};

use stockade_core::{Reason, Share, internal::Key as RunKey, priority::Priority};
use tokio::time::Instant;

use crate::span::Span;

/// A job on its way into the queue.
pub(crate) struct New<Req> {
    pub(crate) request: Req,
    pub(crate) priority: Priority,
    pub(crate) details: Option<Details<Req>>,
}

/// What is known of few jobs. It lies apart from the rest of a job, because each line of memory that a visit to the lock
/// touches has to come from the other core.
pub(crate) struct Details<Req> {
    pub(crate) deadline: Option<Instant>,
    /// When it was submitted, or when it was started, if anybody wants to know.
    pub(crate) since: Option<Instant>,
    pub(crate) tag: Tag,
    pub(crate) span: Span,
    pub(crate) extra: Option<Box<Extra<Req>>>,
}

/// What a worker gets of a job.
pub(crate) struct Taken<Req> {
    pub(crate) request: Req,
    pub(crate) priority: Priority,
    pub(crate) deadline: Option<Instant>,
    pub(crate) since: Option<Instant>,
    pub(crate) span: Span,
    pub(crate) carried: Option<Carried>,
}

/// What the pool reads in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) weight: u64,
    /// Its priority or its rank, as the [discipline](super::line::Discipline) wants.
    pub(crate) sort: i64,
    /// Its class, its key, or whose job it is.
    pub(crate) share: Share,
}

/// What few pools need of a job. It is boxed, so that it costs the others no move.
pub(crate) struct Extra<Req> {
    pub(crate) name: Option<Cow<'static, str>>,
    /// A copy of the request.
    pub(crate) kept: Option<Req>,
    pub(crate) carried: Option<Carried>,
}

/// What was captured where a job was submitted: polls the job, once, with that around it.
pub(crate) type Carried = Box<dyn Fn(&mut dyn FnMut()) + Send>;

/// Whom the answer is for.
pub(crate) enum Owner {
    /// One caller; the waker is there once it waits.
    Caller(Option<Waker>),
    /// The job of this number in a run.
    Run(RunKey, u64),
    /// The caller has gone.
    Nobody,
}

pub(crate) struct Record<Req, T, E> {
    pub(super) state: State<Req>,
    pub(super) owner: Owner,
    /// What the service has answered, until it is read. It is moved as a whole, and so not a part of the state.
    pub(super) result: Option<Result<T, E>>,
    /// That of where it was submitted. It stands here, where it takes no room.
    pub(super) priority: Priority,
    pub(crate) details: Option<Details<Req>>,
}

/// How far a job is. What it consists of is written and read where it lies, because to move it costs more than the lock.
///
/// `Waiting` -> `Queued` when there is a place -> `Running` when a worker takes it -> `Ended`. A ready handle goes
/// from `Waiting` to `Held`, and from there to `Queued` when it is called. What is refused a place is `Refused`.
pub(crate) enum State<Req> {
    /// There is no job.
    Free,
    /// None for a handle that waits to be ready.
    Waiting(Option<Req>),
    Held,
    Queued(Req),
    /// On this worker.
    Running(usize),
    /// With a result, or with why the pool refuses one, and with how long it was queued, if that is known.
    Ended(Option<Reason>, Option<Duration>),
    Refused(Option<Req>, Reason),
}

/// What the one who waits for a place finds.
pub(crate) enum Seen<Req> {
    Waiting,
    Accepted,
    /// The service has answered it, and the answer is to be read.
    Answered,
    /// It was accepted, and the pool has ended it.
    Ended(Reason),
    /// With the request, and what else there is to be dropped.
    Refused(Reason, Option<Req>, Option<Details<Req>>),
    /// The key names nothing.
    Gone,
}

/// Where a job was that has been left, and what is to be dropped of it.
pub(crate) enum Left {
    Waiting,
    Queued,
    /// On this worker.
    Running(usize),
    /// It had ended, or goes on without its caller.
    Nothing,
}

// === impl New ===

impl<Req> New<Req> {
    pub(crate) fn tag(&self) -> Tag {
        self.details.as_ref().map_or(Tag::NONE, |details| details.tag)
    }
}

// === impl Tag ===

impl Tag {
    /// Nothing was read.
    pub(crate) const NONE: Self = Self { weight: 0, sort: 0, share: Share::NOBODY };

    /// That of a handle, which does not know its job yet.
    pub(crate) const HANDLE: Self = Self { weight: 1, ..Self::NONE };
}

// === impl Details ===

impl<Req> Default for Details<Req> {
    fn default() -> Self {
        Self { deadline: None, since: None, tag: Tag::NONE, span: Span::NONE, extra: None }
    }
}

// === impl Record ===

impl<Req, T, E> Record<Req, T, E> {
    /// Writes a job here, which is done in a free slot.
    pub(super) fn write(&mut self, new: New<Req>, owner: Owner) -> Req {
        (self.owner, self.priority) = (owner, new.priority);
        match new.details {
            // There is nothing to be dropped, which the compiler does not see.
            None => std::mem::forget(new.details),
            details => self.details = details,
        }
        new.request
    }

    pub(super) fn tag(&self) -> Tag {
        self.details.as_ref().map_or(Tag::NONE, |details| details.tag)
    }

    pub(super) fn extra(&mut self) -> Option<&mut Extra<Req>> {
        self.details.as_mut()?.extra.as_deref_mut()
    }

    /// Empties it of what is not the user's, of which nothing is left.
    pub(super) fn clear(&mut self) {
        self.state = State::Free;
        if self.details.is_some() {
            self.details = None;
        }
    }
}

impl<Req, T, E> Default for Record<Req, T, E> {
    fn default() -> Self {
        Self {
            state: State::Free,
            owner: Owner::Nobody,
            result: None,
            priority: Priority::Default,
            details: None,
        }
    }
}

// === impl Owner ===

impl Owner {
    /// Whom to tell that something has changed, while it goes on waiting.
    pub(super) fn told(&mut self) -> Self {
        match self {
            Self::Caller(waker) => Self::Caller(waker.take()),
            Self::Run(run, id) => Self::Run(*run, *id),
            Self::Nobody => Self::Nobody,
        }
    }
}
