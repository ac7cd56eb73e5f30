//! The callers' side of what is shared: places in the queue, and the jobs that go in and are taken out again.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use stockade_core::{
    LayerError, Reason, deadline,
    internal::{Key, sync::MutexGuard},
};

use crate::{
    Outcome, Status,
    board::{Entry, Key as JobKey, Left, Owner},
    nested,
    shared::{Core, Shared, Wake, wake},
    span::Span,
    worker::discard,
};

/// A caller's way to a place in the queue.
#[derive(Debug, Default)]
pub(crate) enum Place {
    /// He has not asked.
    #[default]
    None,
    /// He waits for one for a job of this weight.
    Waiting(Key, u64),
    /// He has one.
    Held(u64),
}

/// A job that was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    pub(crate) key: JobKey,
    /// How many jobs had been answered then.
    pub(crate) answered: u64,
}

/// A caller who waits for a place.
pub(crate) struct Caller {
    pub(crate) waker: Waker,
    weight: u64,
}

/// The budget of a pool that does not weigh its jobs.
pub(crate) const NO_BUDGET: u64 = u64::MAX;

impl<Req, T, E> Shared<Req, T, E> {
    /// A job as it is queued; made where it is used, and not moved there.
    #[inline(always)]
    pub(crate) fn entry(&self, request: Req) -> Entry<Req> {
        let tag = self.rules.tag(&request);
        let (deadline, since) = (deadline::current(), self.clock());
        Entry { request, deadline, since, tag, span: Span::current() }
    }

    /// Whether the caller is inside a job of this pool.
    pub(crate) fn is_inside(&self) -> bool {
        nested::is_inside(self)
    }

    /// Ready when `place` is held, or there will be none: the pool is closed, or it is asked from inside a job.
    pub(crate) fn poll_place(
        self: &Arc<Self>,
        place: &mut Place,
        weight: u64,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if matches!(place, Place::Held(_)) {
            return Poll::Ready(());
        }
        let inside = self.is_inside();
        let capacity = if inside { 0 } else { self.settings.capacity };
        let mut core = self.lock();
        let free = core.has_place(capacity, weight);
        if core.closed || (inside && !free) {
            drop(core);
            self.leave_place(place);
            return Poll::Ready(());
        }
        match place {
            Place::Waiting(key, weight) => match core.callers.get_mut(*key) {
                // The place has been handed over.
                None => *place = Place::Held(*weight),
                Some(caller) => caller.waker.clone_from(cx.waker()),
            },
            _ if free => {
                core.reserve(weight);
                *place = Place::Held(weight);
            }
            _ => {
                let caller = Caller { waker: cx.waker().clone(), weight };
                *place = Place::Waiting(core.callers.push_back(caller), weight);
            }
        }
        if matches!(place, Place::Held(_)) {
            return Poll::Ready(());
        }
        drop(core);
        self.rescale();
        Poll::Pending
    }

    /// Gives back a place, or the wait for one.
    pub(crate) fn leave_place(&self, place: &mut Place) {
        let place = std::mem::take(place);
        if matches!(place, Place::None) {
            return;
        }
        let mut core = self.lock();
        match place {
            Place::Held(weight) => core.unreserve(weight),
            Place::Waiting(key, weight) if core.callers.remove(key).is_none() => {
                core.unreserve(weight);
            }
            // Who stood behind may need less.
            _ => {}
        }
        let callers = core.grant_all(self.settings.capacity);
        drop(core);
        callers.into_iter().for_each(wake);
    }

    /// Queues a job in the held place, or in a free one if nobody waits for it.
    ///
    /// # Errors
    ///
    /// Gives the job back with the reason: the pool is closed, or there is no room.
    #[inline(always)]
    pub(crate) fn push(
        self: &Arc<Self>,
        entry: Entry<Req>,
        owner: Owner,
        place: &mut Place,
    ) -> Result<Queued, (Entry<Req>, Reason)> {
        let mut core = self.lock();
        let accepted = !core.closed
            && !self.is_inside()
            && match place {
                Place::Held(weight) => {
                    core.unreserve(*weight);
                    *place = Place::None;
                    true
                }
                Place::None => core.has_place(self.settings.capacity, entry.tag.weight),
                Place::Waiting(..) => false,
            };
        if accepted {
            Ok(self.queue(core, entry, owner))
        } else {
            self.push_otherwise(core, entry, owner, place)
        }
    }

    /// The pool is closed, or there is no room, or the caller is inside a job of the pool.
    #[cold]
    fn push_otherwise(
        self: &Arc<Self>,
        mut core: MutexGuard<'_, Core<Req, T, E>>,
        mut entry: Entry<Req>,
        owner: Owner,
        place: &mut Place,
    ) -> Result<Queued, (Entry<Req>, Reason)> {
        let (closed, inside) = (core.closed, self.is_inside());
        let behind = inside && core.jobs.is_behind(&entry);
        match place {
            _ if closed || !inside => {}
            Place::Held(weight) if core.room_for_held() && !behind => {
                core.unreserve(*weight);
                *place = Place::None;
                entry.tag.nested = true;
                return Ok(self.queue(core, entry, owner));
            }
            Place::None if !behind && core.has_place(0, entry.tag.weight) => {
                entry.tag.nested = true;
                return Ok(self.queue(core, entry, owner));
            }
            _ => {}
        }
        drop(core);
        if closed || inside {
            self.leave_place(place);
        }
        Err((entry, if closed { Reason::PoolClosed } else { Reason::QueueFull }))
    }

    #[inline(always)]
    fn queue(
        self: &Arc<Self>,
        mut core: MutexGuard<'_, Core<Req, T, E>>,
        entry: Entry<Req>,
        owner: Owner,
    ) -> Queued {
        let key = core.enqueue(entry, owner);
        let answered = self.answered();
        self.see_to(core);
        Queued { key, answered }
    }

    /// Sees to it that somebody takes the jobs that were queued.
    #[inline]
    pub(crate) fn see_to(self: &Arc<Self>, mut core: MutexGuard<'_, Core<Req, T, E>>) {
        let worker = core.wake_one();
        let missing = core.missing();
        if missing > 0 {
            self.hire_and_start(core, missing, worker);
        } else {
            drop(core);
            wake(worker);
        }
        self.rescale();
    }

    #[cold]
    fn hire_and_start(
        self: &Arc<Self>,
        mut core: MutexGuard<'_, Core<Req, T, E>>,
        missing: usize,
        worker: Wake,
    ) {
        let hired = self.hire(&mut core, missing);
        drop(core);
        // First, because to start a worker clones what is the user's, which may panic.
        wake(worker);
        self.start(hired);
    }

    /// The answer to a job; its caller is woken when there is one.
    #[inline]
    pub(crate) fn poll_answer(&self, key: JobKey, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        match self.lock().jobs.board.read(key, cx.waker()) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }

    /// The caller of a job has gone: one that is queued leaves the queue, and one that runs is cancelled, unless it
    /// is to go on without him.
    #[cold]
    pub(crate) fn leave_job(&self, key: JobKey) {
        let detach = self.settings.detach;
        let mut core = self.lock();
        let (left, owner) = core.jobs.leave(key, detach);
        let (mut callers, mut worker) = (Vec::new(), None);
        match &left {
            Some(Left::Queued(_)) => {
                core.counts.cancelled += 1;
                callers = core.grant_all(self.settings.capacity);
            }
            Some(Left::Running(at)) if !detach => worker = core.cancel(*at),
            _ => {}
        }
        drop(core);
        wake(worker);
        callers.into_iter().for_each(wake);
        drop((left, owner));
    }
}

impl<Req, T, E: LayerError> Shared<Req, T, E> {
    /// Takes every job out of the queue, answers their callers with [`Reason::PoolClosed`], and returns the
    /// requests.
    pub(crate) fn take_back(&self) -> Vec<Req> {
        let mut core = self.lock();
        let entries: Vec<_> = std::iter::from_fn(|| core.jobs.hand_back()).collect();
        core.counts.handed_back += entries.len() as u64;
        drop(core);
        let hand_back = |(key, entry): (JobKey, Entry<Req>)| {
            let _inside = entry.span.enter();
            self.refuse(key, Status::Cancelled, self.rejected(Reason::PoolClosed).into_error());
            entry.request
        };
        entries.into_iter().map(hand_back).collect()
    }

    /// Answers a job that no worker has taken, and that is on the books.
    fn refuse(&self, key: JobKey, status: Status, error: E) {
        let mut answer = Some(Err(error));
        let mut core = self.lock();
        self.count_answer();
        let waker = match core.jobs.board.end(key, &mut answer) {
            Owner::Caller(waker) => waker,
            Owner::Nobody => None,
            Owner::Run(run, id) => {
                let outcome = answer.take().map(|result| Outcome::unstarted(id, status, result));
                core.runs.get_mut(run).zip(outcome).and_then(|(run, outcome)| run.end(outcome))
            }
        };
        drop(core);
        wake(waker);
        answer.into_iter().for_each(discard);
    }
}

impl<Req, T, E> Core<Req, T, E> {
    /// Queues a job that there is room for.
    #[inline(always)]
    pub(crate) fn enqueue(&mut self, entry: Entry<Req>, owner: Owner) -> JobKey {
        let key = self.jobs.push(entry, owner);
        self.counts.accepted += 1;
        if self.jobs.len() > self.counts.max_queued {
            self.counts.max_queued = self.jobs.len();
        }
        key
    }

    /// For how many more jobs there is room.
    #[inline]
    pub(crate) fn room(&self, capacity: usize) -> usize {
        let places = capacity.saturating_add(self.takers());
        places.saturating_sub(self.jobs.len() + self.reserved)
    }

    /// Whether a worker is free for the job that fills a held place.
    fn room_for_held(&self) -> bool {
        self.jobs.len() + self.reserved <= self.takers()
    }

    /// How many jobs would be taken out of the queue at once.
    #[inline]
    fn takers(&self) -> usize {
        if self.paused { 0 } else { self.counts.idle.saturating_add(self.growth()) }
    }

    /// Whether there is a free place for a job of this weight, and nobody waits for it.
    #[inline]
    fn has_place(&self, capacity: usize, weight: u64) -> bool {
        self.callers.is_empty()
            // The workers make room for more only where the queue is full.
            && (self.jobs.len() + self.reserved < capacity || self.room(capacity) > 0)
            && (self.budget == NO_BUDGET || self.fits(weight))
    }

    /// Whether a job of this weight fits into the budget; one that never does is let in alone.
    #[inline]
    fn fits(&self, weight: u64) -> bool {
        let all = self.jobs.weight().saturating_add(self.reserved_weight);
        all.saturating_add(weight) <= self.budget || (self.jobs.is_empty() && self.reserved == 0)
    }

    fn reserve(&mut self, weight: u64) {
        self.reserved += 1;
        self.reserved_weight += weight;
    }

    pub(crate) fn unreserve(&mut self, weight: u64) {
        self.reserved -= 1;
        self.reserved_weight -= weight;
    }

    /// Hands a free place to the first caller who waits.
    #[inline]
    pub(crate) fn grant(&mut self, capacity: usize) -> Wake {
        if self.callers.is_empty() { None } else { self.grant_first(capacity) }
    }

    fn grant_first(&mut self, capacity: usize) -> Wake {
        let weight = self.callers.front()?.weight;
        if self.closed || self.room(capacity) == 0 || !self.fits(weight) {
            return None;
        }
        self.reserve(weight);
        self.callers.pop_front().map(|caller| caller.waker)
    }

    /// Hands all free places out.
    pub(crate) fn grant_all(&mut self, capacity: usize) -> Vec<Wake> {
        let mut woken = Vec::new();
        while let Some(waker) = self.grant(capacity) {
            woken.push(Some(waker));
        }
        woken
    }

    /// Where jobs are weighed, one that leaves may make room for many.
    #[inline]
    pub(crate) fn grant_light(&mut self, capacity: usize) -> Option<Vec<Wake>> {
        (self.budget != NO_BUDGET).then(|| self.grant_all(capacity))
    }
}
