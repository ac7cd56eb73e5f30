//! The callers' side of what is shared: places in the queue, and the jobs that go in and are taken out again.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use stockade_core::{Key, LayerError, Reason, deadline};

use crate::{
    Status,
    batch::Run,
    job::Reply,
    nested,
    shared::{Core, Entry, Shared, Wake, wake},
    span::Span,
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

/// A caller who waits for a place.
pub(crate) struct Caller {
    pub(crate) waker: Waker,
    weight: u64,
}

impl<Req, T, E> Shared<Req, T, E> {
    /// A job as it is queued; made where it is used, and not moved there.
    #[inline(always)]
    pub(crate) fn entry(&self, request: Req, reply: Reply<T, E>) -> Entry<Req, T, E> {
        let tag = self.rules.tag(&request);
        let (deadline, since) = (deadline::current(), self.clock());
        Entry { request, reply, deadline, since, tag, span: Span::current() }
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
    pub(crate) fn push(
        self: &Arc<Self>,
        entry: Entry<Req, T, E>,
        place: &mut Place,
    ) -> Result<Key, (Entry<Req, T, E>, Reason)> {
        let inside = self.is_inside();
        let capacity = if inside { 0 } else { self.settings.capacity };
        let mut core = self.lock();
        if core.closed {
            drop(core);
            self.leave_place(place);
            return Err((entry, Reason::Closed));
        }
        let behind = inside && core.jobs.is_behind(&entry);
        match place {
            Place::Held(weight) if !inside || (core.room_for_held() && !behind) => {
                core.unreserve(*weight);
                *place = Place::None;
            }
            Place::None if !behind && core.has_place(capacity, entry.tag.weight) => {}
            place => {
                drop(core);
                if inside {
                    self.leave_place(place);
                }
                return Err((entry, Reason::QueueFull));
            }
        }
        let key = core.jobs.push(entry);
        core.counts.accepted += 1;
        core.counts.max_queued = core.counts.max_queued.max(core.jobs.len());
        let worker = core.wake_one();
        let missing = core.missing();
        let hired = (missing > 0).then(|| self.hire(&mut core, missing));
        drop(core);
        wake(worker);
        if let Some(hired) = hired {
            self.start(hired);
        }
        self.rescale();
        Ok(key)
    }

    /// Takes a job out of the queue again; false if it has left by itself.
    pub(crate) fn withdraw(&self, key: Key) -> bool {
        let mut core = self.lock();
        let Some(entry) = core.jobs.remove(key) else { return false };
        core.counts.cancelled += 1;
        let callers = core.grant_all(self.settings.capacity);
        drop(core);
        callers.into_iter().for_each(wake);
        drop(entry);
        true
    }

    /// Takes all jobs of a run out of the queue again.
    pub(crate) fn withdraw_run(&self, run: &Arc<Run<T, E>>) {
        let mut core = self.lock();
        let gone = core.jobs.extract(|entry| entry.reply.is_of(run));
        core.counts.cancelled += gone.len() as u64;
        let callers = core.grant_all(self.settings.capacity);
        drop(core);
        callers.into_iter().for_each(wake);
    }
}

impl<Req, T, E: LayerError> Shared<Req, T, E> {
    /// Takes every job out of the queue, answers their callers with [`Reason::Closed`], and returns the
    /// requests.
    pub(crate) fn take_back(&self) -> Vec<Req> {
        let mut core = self.lock();
        let entries = core.jobs.extract(|_| true);
        core.counts.handed_back += entries.len() as u64;
        drop(core);
        let hand_back = |entry: Entry<Req, T, E>| {
            let _inside = entry.span.enter();
            entry.reply.refuse(Status::Cancelled, self.rejected(Reason::Closed).into_error());
            entry.request
        };
        entries.into_iter().map(hand_back).collect()
    }
}

impl<Req, T, E> Core<Req, T, E> {
    #[inline]
    fn room(&self, capacity: usize) -> bool {
        self.jobs.len() + self.reserved < capacity.saturating_add(self.takers())
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
        self.callers.is_empty() && self.room(capacity) && self.fits(weight)
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

    fn unreserve(&mut self, weight: u64) {
        self.reserved -= 1;
        self.reserved_weight -= weight;
    }

    /// Hands a free place to the first caller who waits.
    pub(crate) fn grant(&mut self, capacity: usize) -> Wake {
        let weight = self.callers.front()?.weight;
        if self.closed || !self.room(capacity) || !self.fits(weight) {
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
        (self.budget != u64::MAX).then(|| self.grant_all(capacity))
    }
}
