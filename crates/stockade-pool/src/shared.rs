//! What the callers and the workers of a pool share: the lock, and how a job gets behind it.
//!
//! What is [behind the lock](crate::locked) runs nothing of the user's. This file and its neighbours call the user's
//! functions before they take the lock, and wake and drop after it has been let go.
//!
//! The functions on the way of each job that the compiler would not inline by itself are `#[inline(always)]`, here, in the
//! queue and in the worker: what moves through memory in between costs up to a seventh of a call. `cargo xtask bench instr`
//! shows it in the row `pool`.

use std::{fmt, io, sync::Arc};

use stockade_core::{
    Reason, Rejected, deadline,
    internal::{
        lock,
        sync::{
            Mutex, MutexGuard,
            atomic::{AtomicBool, AtomicU64, Ordering::*},
        },
        wake,
    },
    priority, waits,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Verdict,
    config::{Checked, OrderBy},
    contain::discard,
    in_flight::InFlight,
    locked::Core,
    nested,
    queue::{Details, Extra, Key, New, Owner, Tag},
    rules::Rules,
    span::Span,
};

/// What callers and workers share.
pub(crate) struct Shared<Req, T, E> {
    core: Mutex<Core<Req, T, E>>,
    /// How many jobs have been answered; written under the lock, before their callers are woken. While it stays the same,
    /// the waker of a caller who waits for an answer is where it was put.
    answered: AtomicU64,
    pub(crate) config: Checked,
    pub(crate) rules: Rules<Req>,
    /// Whether a worker is to make its service anew after a result.
    pub(crate) is_fatal: Box<IsFatal<T, E>>,
    pub(crate) spawn: Box<dyn Spawn<Req, T, E>>,
    /// How many workers there are, for those who watch it.
    pub(crate) size: watch::Sender<usize>,
    /// It has a receiver for each worker, until the worker is gone.
    pub(crate) tokens: watch::Sender<()>,
    /// Cancelled when the pool is closed.
    pub(crate) closed: CancellationToken,
    /// The workers are to stop. Each is woken after it was written, and reads it whenever it is polled.
    pub(crate) stopped: AtomicBool,
}

/// What the clones of a pool share; the pool is closed when it is dropped.
pub(crate) struct Handles<Req, T, E> {
    pub(crate) shared: Arc<Shared<Req, T, E>>,
}

/// A worker that is on the roster and has not been started.
#[derive(Debug)]
pub(crate) struct Hired {
    pub(crate) number: usize,
    /// The caller of its job has gone.
    pub(crate) cancelled: Arc<AtomicBool>,
    /// A drain waits until it is dropped.
    pub(crate) token: watch::Receiver<()>,
}

/// Starts workers.
pub(crate) trait Spawn<Req, T, E>: Send + Sync {
    /// Starts a worker, or takes it off the roster again. One that cannot be started is tried again later, if the pool still
    /// needs it.
    fn spawn(&self, shared: &Arc<Shared<Req, T, E>>, hired: Hired) -> io::Result<()>;

    /// Waits for what is left of workers that have ended.
    fn join(&self) {}
}

/// A job that was submitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Submitted {
    pub(crate) key: Key,
    /// It waits for a place.
    pub(crate) waits: bool,
    /// Workers are idle, and would take more.
    pub(crate) hungry: bool,
    /// How many jobs had been answered then.
    pub(crate) answered: u64,
}

type IsFatal<T, E> = dyn Fn(&Result<T, E>) -> bool + Send + Sync;

type Locked<'a, Req, T, E> = MutexGuard<'a, Core<Req, T, E>>;

/// A list of so many wakers is kept.
const FEW: usize = 64;

// === impl Shared ===

impl<Req, T, E> Shared<Req, T, E> {
    pub(crate) fn new(
        config: Checked,
        rules: Rules<Req>,
        is_fatal: Box<IsFatal<T, E>>,
        spawn: Box<dyn Spawn<Req, T, E>>,
    ) -> Self {
        let config = config.resolved(rules.name.is_some() || rules.scale.is_some());
        Self {
            core: Mutex::new(Core::new(config, rules.scale.is_none())),
            answered: AtomicU64::new(0),
            config,
            rules,
            is_fatal,
            spawn,
            size: watch::Sender::new(0),
            tokens: watch::Sender::new(()),
            closed: CancellationToken::new(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(crate) fn lock(&self) -> Locked<'_, Req, T, E> {
        lock(&self.core)
    }

    /// How many jobs have been answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Acquire)
    }

    /// Lets go of the lock, and then wakes.
    #[inline(always)]
    pub(crate) fn let_go(&self, mut core: Locked<'_, Req, T, E>) {
        let only = match core.wakes.len() {
            0 => return,
            1 => core.wakes.pop(),
            _ => None,
        };
        self.answered.store(core.answered, Release);
        match only {
            Some(waker) => {
                drop(core);
                wake(waker);
            }
            None => self.wake_many(core),
        }
    }

    #[cold]
    fn wake_many(&self, mut core: Locked<'_, Req, T, E>) {
        let mut wakes = std::mem::take(&mut core.wakes);
        drop(core);
        wakes.drain(..).for_each(wake);
        if wakes.capacity() <= FEW {
            // The memory is used again.
            let mut core = self.lock();
            if core.wakes.capacity() == 0 {
                core.wakes = wakes;
            }
        }
    }

    /// A refusal of this pool. One that time may heal says when to come back, if the pool knows.
    pub(crate) fn rejected(&self, reason: Reason) -> Rejected {
        let rejected = Rejected::new(&"pool", reason).with_name(self.config.name);
        match self.config.max_wait {
            Some(limit) if matches!(reason, Reason::Shed | Reason::WaitExceeded) => {
                rejected.with_retry_after(limit)
            }
            _ => rejected,
        }
    }

    /// The same, told of where it happens.
    pub(crate) fn refuse(&self, reason: Reason) -> Rejected {
        let rejected = self.rejected(reason);
        rejected.tell();
        rejected
    }

    /// The instant, if the pool reads the clock.
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.config.clock.then(Instant::now)
    }

    /// Whether jobs wait by class, or by whose they are.
    pub(crate) fn is_fair(&self) -> bool {
        matches!(self.config.order_by, OrderBy::Class | OrderBy::Share)
    }

    /// Whether the caller is inside a job of this pool.
    pub(crate) fn is_inside(&self) -> bool {
        nested::is_inside(self)
    }

    // --- jobs come ---

    /// A job, with what is read of its request and of where it is submitted.
    fn new_job(&self, request: Req) -> New<Req> {
        let clock = self.config.clock || waits::is_counted();
        let Rules { name, keep, carry, .. } = &self.rules;
        let (priority, deadline, span) =
            (priority::current(), deadline::current(), Span::current());
        let class = (self.config.order_by == OrderBy::Class).then_some(priority);
        let tag = self.rules.tag(&request, class);
        let has_extra = name.is_some() || keep.is_some() || carry.is_some();
        let is_plain = tag == Tag::NONE && deadline.is_none() && span.is_none();
        if is_plain && !clock && !has_extra {
            return New { request, priority, details: None };
        }
        let extra = || {
            Box::new(Extra {
                name: name.as_ref().map(|name| name(&request)),
                kept: keep.as_ref().map(|keep| keep(&request)),
                carried: carry.as_ref().map(|capture| capture()),
            })
        };
        let details = Details {
            tag,
            deadline,
            since: clock.then(Instant::now),
            span,
            extra: has_extra.then(extra),
        };
        New { request, priority, details: Some(details) }
    }

    /// Queues a job in the held place or in a free one, or lets it wait for one if it is to, as a job of a run always is.
    ///
    /// # Errors
    ///
    /// Gives the request back with the reason.
    pub(crate) fn submit(
        self: &Arc<Self>,
        request: Req,
        owner: Owner,
        held: bool,
        waits: bool,
    ) -> Result<Submitted, (Req, Reason)> {
        let (new, inside) = (self.new_job(request), self.is_inside());
        let mut core = self.lock();
        if core.verdict(new.tag(), held, inside) != Verdict::Admit {
            drop(core);
            return self.submit_otherwise(new, owner, held, waits);
        }
        if held {
            core.queue.held -= 1;
        }
        let key = core.queue.push(new, owner);
        core.count_accepted();
        let hungry = core.queue.len() < core.roster.idle();
        let answered = core.answered;
        self.see_to(core);
        Ok(Submitted { key, waits: false, hungry, answered })
    }

    /// There was no place.
    #[cold]
    fn submit_otherwise(
        self: &Arc<Self>,
        new: New<Req>,
        owner: Owner,
        held: bool,
        waits: bool,
    ) -> Result<Submitted, (Req, Reason)> {
        let is_run = matches!(owner, Owner::Run(..));
        let mut gone = Vec::new();
        let (mut core, verdict) = self.find_place(new.tag(), held, (waits, is_run), &mut gone);
        let waits = verdict == Verdict::Wait;
        let key = match verdict {
            Verdict::Wait => Ok(core.queue.wait(new, owner)),
            Verdict::Refuse(reason) => {
                core.counts.refused.count(reason, new.priority);
                Err((new, reason))
            }
            Verdict::Admit | Verdict::DropOldest => {
                core.count_accepted();
                Ok(core.queue.push(new, owner))
            }
        };
        self.see_to(core);
        self.shed(gone);
        match key {
            Ok(key) => Ok(Submitted { key, waits, hungry: false, answered: u64::MAX }),
            Err((new, reason)) => Err((new.request, reason)),
        }
    }

    /// Looks for a place where there was none: the user's rule may add a worker, or jobs give way. Says what becomes of the
    /// one who wants it; the jobs that have `gone` are to be [shed](Self::shed). A place that is held is given back for it.
    pub(crate) fn find_place(
        self: &Arc<Self>,
        tag: Tag,
        held: bool,
        (waits, always): (bool, bool),
        gone: &mut Vec<InFlight<Req, T, E>>,
    ) -> (Locked<'_, Req, T, E>, Verdict) {
        let inside = self.is_inside();
        let mut core = self.lock();
        let mut verdict = core.verdict(tag, held, inside);
        if verdict == Verdict::Wait && self.rules.scale.is_some() {
            drop(core);
            self.add_workers(1);
            core = self.lock();
            verdict = core.verdict(tag, held, inside);
        }
        if !inside && always && verdict != Verdict::Admit && !core.closed {
            verdict = Verdict::Wait;
        } else if !waits && verdict == Verdict::Wait {
            verdict = Verdict::Refuse(Reason::QueueFull);
        }
        if held {
            core.queue.held -= 1;
        }
        let is_full = matches!(verdict, Verdict::Refuse(Reason::QueueFull) | Verdict::DropOldest);
        if is_full && !inside {
            let shed = self.rejected(Reason::Shed);
            verdict = core.make_room(tag, (verdict, waits), shed, gone);
        }
        (core, verdict)
    }

    /// Drops jobs that have given way, and tells of it.
    pub(crate) fn shed(&self, gone: Vec<InFlight<Req, T, E>>) {
        let shed = self.rejected(Reason::Shed);
        gone.into_iter().for_each(|job| discard(job.into_request(shed)));
    }

    // --- workers come and go ---

    /// Sees to it that those who wait get the free places, and that workers take the jobs that are queued. Lets go of the
    /// lock.
    #[inline(always)]
    pub(crate) fn see_to(self: &Arc<Self>, mut core: Locked<'_, Req, T, E>) {
        core.admit();
        core.wake_workers();
        let missing = core.missing();
        if missing == 0 {
            self.let_go(core);
        } else {
            // What cannot be started now is tried again later.
            let _ = self.add(core, missing);
        }
        if self.rules.scale.is_some() {
            // Asks the user's rule for more workers.
            self.add_workers(0);
        }
    }

    // --- the pool as a whole ---

    /// Refuses new jobs from now on; those that are queued will run.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut core = self.lock();
        core.closed = true;
        core.paused = false;
        while let Some(key) = core.queue.oldest_waiting() {
            if core.queue.is_detached(key) {
                // Nobody would hear of a refusal, and the request would be lost.
                core.enter(key);
            } else {
                core.refuse(key, Reason::PoolClosed);
            }
        }
        core.wake_all();
        self.see_to(core);
        self.closed.cancel();
    }

    pub(crate) fn debug(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("config", &self.config)
            .field("closed", &self.closed.is_cancelled())
            .finish_non_exhaustive()
    }
}

// === impl Handles ===

impl<Req, T, E> Drop for Handles<Req, T, E> {
    fn drop(&mut self) {
        self.shared.close();
    }
}
