//! What the callers and the workers of a pool share: the lock, and each way to it.
//!
//! What is [behind the lock](crate::locked) runs nothing of the user's. This file calls the user's functions before it
//! takes the lock, and wakes and drops after it has let it go. It is longer than others because all ways to the lock stand
//! here, so that this can be seen at a glance.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use stockade_core::{
    Reason, Rejected, deadline,
    internal::{
        Key as RunKey, lock,
        sync::{Mutex, MutexGuard, atomic::AtomicBool},
    },
    waits,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    RunningJob, Scale, Stats,
    admission::Verdict,
    carry::Carry,
    config::Checked,
    contain::{Panic, Wakes, discard, guard},
    in_flight::InFlight,
    locked::{Core, Unstarted},
    nested,
    queue::{Answer, Extra, Key, Left, New, Owner, Seen},
    roster::{Badge, Size, Stop},
    rules::Of,
    run::Mailbox,
    span::Span,
};

/// What callers and workers share.
pub(crate) struct Shared<Req, T, E> {
    core: Mutex<Core<Req, T, E>>,
    pub(crate) config: Checked,
    pub(crate) rules: Of<Req>,
    pub(crate) carry: Option<Arc<dyn Carry>>,
    /// None: one worker a job.
    scale: Option<Arc<dyn Scale>>,
    spawn: Box<dyn Spawn<Req, T, E>>,
    /// How many workers there are, for those who watch it.
    pub(crate) size: watch::Sender<usize>,
    /// The workers' tasks, until the last one has ended.
    pub(crate) tasks: Tasks,
    /// Cancelled when the pool is closed.
    pub(crate) closed: CancellationToken,
}

/// The tasks of the workers.
#[derive(Clone)]
pub(crate) struct Tasks {
    /// It has a receiver for each task.
    tokens: watch::Sender<()>,
    closed: CancellationToken,
}

/// Held by a worker as long as it lives.
pub(crate) type Token = watch::Receiver<()>;

/// Starts workers.
pub(crate) trait Spawn<Req, T, E>: Send + Sync {
    /// Starts a worker, and returns the way to stop it. A worker that cannot be started is tried again later, if the
    /// pool still needs it.
    fn spawn(&self, shared: &Arc<Shared<Req, T, E>>, hired: Hired) -> std::io::Result<Stop>;

    /// Waits for what is left of workers that have ended.
    fn join(&self) {}
}

/// A worker that is on the roster and has not been started yet.
pub(crate) struct Hired {
    pub(crate) badge: Badge,
    /// The worker counts as a task from here on, so that a drain waits for it.
    pub(crate) token: Token,
    pub(crate) cancelled: Arc<AtomicBool>,
}

/// A job that was submitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Submitted {
    pub(crate) key: Key,
    /// It waits for a place.
    pub(crate) waits: bool,
    /// Workers are idle, and would take more.
    pub(crate) hungry: bool,
}

/// Whether a job waits for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    No,
    /// If the pool lets it wait.
    Allowed,
    /// It does, as the only one of its run.
    Always,
}

/// A handle's way to a place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Place {
    #[default]
    None,
    Waiting(Key),
    Held,
}

/// What was read of a job.
pub(crate) enum Read<Req, T, E> {
    Answer(Answer<T, E>),
    Refused(Rejected, Option<Req>),
    /// It has a place; only where that was asked.
    Accepted,
}

// === impl Tasks ===

impl Tasks {
    /// Waits until the pool is closed and the last task has ended.
    pub(crate) async fn wait(&self) {
        self.closed.cancelled().await;
        self.tokens.closed().await;
    }
}

// === impl Shared ===

impl<Req, T, E> Shared<Req, T, E> {
    pub(crate) fn new(
        config: Checked,
        rules: Of<Req>,
        carry: Option<Arc<dyn Carry>>,
        scale: Option<Arc<dyn Scale>>,
        spawn: Box<dyn Spawn<Req, T, E>>,
    ) -> Self {
        let config = config.resolved();
        let core = Core::new(config, &rules, scale.is_none());
        let closed = CancellationToken::new();
        Self {
            core: Mutex::new(core),
            config,
            rules,
            carry,
            scale,
            spawn,
            size: watch::Sender::new(0),
            tasks: Tasks { tokens: watch::Sender::new(()), closed: closed.clone() },
            closed,
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core<Req, T, E>> {
        lock(&self.core)
    }

    /// A refusal of this pool. One that time may heal says when to come back, if the pool knows.
    pub(crate) fn rejected(&self, reason: Reason) -> Rejected {
        let rejected = Rejected::new(&"pool", reason).with_name(self.config.name);
        match self.config.admission.max_wait {
            Some(limit) if matches!(reason, Reason::Shed | Reason::WaitExceeded) => {
                rejected.with_retry_after(limit)
            }
            _ => rejected,
        }
    }

    /// The instant, if the pool reads the clock.
    #[inline]
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.config.clock.then(Instant::now)
    }

    /// Whether the caller is inside a job of this pool.
    #[inline]
    fn is_inside(&self) -> bool {
        nested::is_inside(self)
    }

    // --- jobs come ---

    /// A job, with what is read of its request and of where it is submitted.
    #[inline]
    pub(crate) fn new_job(&self, request: Req) -> New<Req> {
        let clock = self.config.clock || waits::is_counted();
        let Of { name, keep, .. } = &self.rules;
        let extra = if name.is_none() && keep.is_none() && self.carry.is_none() {
            None
        } else {
            Some(Box::new(Extra {
                name: name.as_ref().map(|name| name(&request)),
                kept: keep.as_ref().map(|keep| keep(&request)),
                carried: self.carry.as_ref().map(|carry| carry.capture()),
            }))
        };
        New {
            tag: self.rules.tag(&request),
            deadline: deadline::current(),
            since: clock.then(Instant::now),
            span: Span::current(),
            extra,
            request,
        }
    }

    /// Queues a job in the held place or in a free one, or lets it wait for one.
    ///
    /// # Errors
    ///
    /// Gives the request back with the reason.
    #[inline]
    pub(crate) fn submit(
        self: &Arc<Self>,
        new: New<Req>,
        owner: Owner,
        held: bool,
        waits: Waits,
    ) -> Result<Submitted, (Req, Reason)> {
        let inside = self.is_inside();
        let mut core = self.lock();
        let verdict = core.verdict(&new.tag, held, inside);
        if verdict != Verdict::Admit {
            let waits = if inside { Waits::No } else { waits };
            return self.submit_otherwise(core, (new, owner), held, waits, verdict);
        }
        if held {
            core.queue.unhold();
        }
        let key = core.queue.push(new, owner);
        core.count_accepted();
        let hungry = core.queue.len() < core.roster.idle();
        self.see_to(core, Wakes::default());
        Ok(Submitted { key, waits: false, hungry })
    }

    /// There is no place.
    #[cold]
    fn submit_otherwise<'a>(
        self: &'a Arc<Self>,
        mut core: MutexGuard<'a, Core<Req, T, E>>,
        (new, owner): (New<Req>, Owner),
        held: bool,
        waits: Waits,
        mut verdict: Verdict,
    ) -> Result<Submitted, (Req, Reason)> {
        if verdict == Verdict::Wait && self.scale.is_some() {
            // The user's rule may add a worker, and so a place.
            drop(core);
            self.add_workers(1);
            core = self.lock();
            verdict = core.verdict(&new.tag, held, false);
        }
        verdict = match (verdict, waits) {
            (Verdict::Wait, Waits::No) => Verdict::Refuse(Reason::QueueFull),
            (Verdict::DropOldest, Waits::Always)
            | (Verdict::Refuse(Reason::QueueFull | Reason::Shed), Waits::Always) => Verdict::Wait,
            (verdict, _) => verdict,
        };
        let (mut wakes, mut drops) = (Wakes::default(), Vec::new());
        if held {
            core.queue.unhold();
        }
        let dropped = match verdict {
            Verdict::DropOldest => core.shed_oldest(self.rejected(Reason::Shed), &mut wakes),
            _ => None,
        };
        let submitted = match verdict {
            Verdict::Admit | Verdict::DropOldest => {
                core.count_accepted();
                Ok((core.queue.push(new, owner), false))
            }
            Verdict::Wait => Ok((core.queue.wait(new, owner), true)),
            Verdict::Refuse(reason) => Err((new, reason)),
        };
        if let Err((_, reason)) = &submitted {
            core.counts.refused.count(*reason);
        }
        core.admit(&mut wakes, &mut drops);
        self.see_to(core, wakes);
        discard((dropped.map(Unstarted::tell), drops));
        match submitted {
            Ok((key, waits)) => Ok(Submitted { key, waits, hungry: false }),
            Err((new, reason)) => Err((new.request, reason)),
        }
    }

    /// Ready when `place` is held, or there will be none, which a call will be told then.
    pub(crate) fn poll_place(
        self: &Arc<Self>,
        place: &mut Place,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut fresh = None;
        loop {
            match *place {
                Place::Held => return Poll::Ready(()),
                Place::Waiting(key) => {
                    let seen = self.lock().queue.look(key, true, cx.waker(), &mut fresh);
                    match seen {
                        Seen::NoWaker => fresh = Some(cx.waker().clone()),
                        Seen::Waiting => return Poll::Pending,
                        Seen::Accepted => *place = Place::Held,
                        _ => {
                            *place = Place::None;
                            return Poll::Ready(());
                        }
                    }
                }
                Place::None => {
                    let inside = self.is_inside();
                    let mut core = self.lock();
                    match core.verdict_for_handle(inside) {
                        Verdict::Admit => {
                            core.queue.hold();
                            *place = Place::Held;
                        }
                        Verdict::Refuse(_) => return Poll::Ready(()),
                        Verdict::DropOldest => {
                            let mut wakes = Wakes::default();
                            let shed = self.rejected(Reason::Shed);
                            let dropped = core.shed_oldest(shed, &mut wakes);
                            core.queue.hold();
                            *place = Place::Held;
                            drop(core);
                            wakes.wake();
                            discard(dropped.map(Unstarted::tell));
                        }
                        Verdict::Wait => match fresh.take() {
                            Some(waker) => {
                                let since = self.clock();
                                *place = Place::Waiting(core.queue.wait_to_hold(waker, since));
                                drop(core);
                                self.rescale();
                                // The new workers may have made room already.
                            }
                            None => {
                                drop(core);
                                fresh = Some(cx.waker().clone());
                            }
                        },
                    }
                }
            }
        }
    }

    /// Gives back a place, or the wait for one.
    pub(crate) fn leave_place(self: &Arc<Self>, place: &mut Place) {
        match std::mem::take(place) {
            Place::None => {}
            Place::Waiting(key) => self.leave(key, false),
            Place::Held => {
                let (mut wakes, mut drops) = (Wakes::default(), Vec::new());
                let mut core = self.lock();
                core.queue.unhold();
                core.admit(&mut wakes, &mut drops);
                self.see_to(core, wakes);
                discard(drops);
            }
        }
    }

    /// Counts a call that is refused before it asks for a place.
    pub(crate) fn count_refused(&self, reason: Reason) {
        self.lock().counts.refused.count(reason);
    }

    /// Keeps the request of a job that is refused, until its caller asks for it.
    pub(crate) fn keep_refused(&self, request: Req, reason: Reason) -> Key {
        self.lock().queue.keep_refused(request, reason)
    }

    // --- callers wait ---

    /// Ready when a job has ended; if it is asked for its place, when it has one. The caller is woken then.
    #[inline]
    pub(crate) fn poll_job(
        &self,
        key: Key,
        place: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Read<Req, T, E>> {
        let mut fresh: Option<Waker> = None;
        loop {
            let seen = self.lock().queue.look(key, place, cx.waker(), &mut fresh);
            match seen {
                Seen::Answer(answer, queued_for) => {
                    if let Some(queued_for) = queued_for {
                        waits::record(queued_for);
                    }
                    return Poll::Ready(Read::Answer(answer));
                }
                Seen::Accepted if place => return Poll::Ready(Read::Accepted),
                Seen::Waiting | Seen::Accepted => {
                    fresh.into_iter().for_each(discard);
                    return Poll::Pending;
                }
                Seen::Refused(reason, request) => {
                    return Poll::Ready(Read::Refused(self.rejected(reason), request));
                }
                Seen::NoWaker => fresh = Some(cx.waker().clone()),
                Seen::Gone => panic!("`Job` polled after it was ready"),
            }
        }
    }

    /// The caller of a job has gone. It is cancelled, unless it is to `stay`. Who counts waits learns if it was not started.
    pub(crate) fn leave(self: &Arc<Self>, key: Key, stay: bool) {
        let (mut wakes, mut drops) = (Wakes::default(), Vec::new());
        let mut core = self.lock();
        let (left, gone) = core.queue.leave(key, stay);
        match left {
            Left::Queued => core.counts.cancelled += 1,
            Left::Running(worker) if !stay => wakes.push(core.roster.cancel(worker)),
            Left::Running(_) | Left::Waiting | Left::Nothing => {}
        }
        core.admit(&mut wakes, &mut drops);
        core.wake_if_over(&mut wakes);
        self.see_to(core, wakes);
        if matches!(left, Left::Queued | Left::Waiting) && waits::is_counted() {
            waits::record(gone.waited().max(Duration::from_nanos(1)));
        }
        discard((gone, drops));
    }

    /// Ends a job that has waited for too long, if it has not been started. Its caller looks at it again then.
    pub(crate) fn give_up(self: &Arc<Self>, key: Key) {
        let (mut wakes, mut drops) = (Wakes::default(), Vec::new());
        let rejected = self.rejected(Reason::WaitExceeded);
        let mut core = self.lock();
        let mut ended = None;
        if core.queue.is_waiting(key) {
            core.counts.refused.count(Reason::WaitExceeded);
            drops.extend(core.queue.refuse(key, Reason::WaitExceeded).map(|(_, details)| details));
        } else if let Some(job) = core.queue.take_out(key) {
            ended = Some(core.end_unstarted(key, job, rejected, &mut wakes));
        }
        core.admit(&mut wakes, &mut drops);
        self.see_to(core, wakes);
        discard((ended.map(Unstarted::tell), drops));
    }

    // --- jobs go ---

    /// Counts a job that has ended, and puts its answer where it is read. Returns what is to be dropped.
    #[inline]
    pub(crate) fn record(
        &self,
        core: &mut Core<Req, T, E>,
        job: &mut InFlight<Req, T, E>,
        worker: usize,
        wakes: &mut Wakes,
    ) -> Option<Box<Extra<Req>>> {
        core.counts.running -= 1;
        core.counts.count(job.status());
        if let Some(measured) = &mut core.measured {
            measured.record(job.times());
        }
        let (key, queued_for) = (job.key()?, job.queued_for());
        let (owner, mut extra) = core.queue.end(key, &mut job.answer, queued_for);
        match owner {
            Owner::Caller(waker) => wakes.push(waker),
            Owner::Nobody => {}
            Owner::Run(run, id) => {
                let kept = extra.as_mut().and_then(|extra| extra.kept.take());
                if let Some((run, ended)) =
                    core.runs.get_mut(run).zip(job.outcome(id, worker, kept))
                {
                    wakes.push(run.put(ended));
                }
            }
        }
        extra
    }

    /// Takes every job out of the queue, and returns the requests. Their callers are told that the pool is closed.
    pub(crate) fn take_back(&self) -> Vec<Req> {
        let rejected = self.rejected(Reason::PoolClosed);
        let mut wakes = Wakes::default();
        let mut core = self.lock();
        let mut back = Vec::new();
        while let Some((key, job)) = core.queue.hand_back() {
            back.push(core.end_unstarted(key, job, rejected, &mut wakes));
        }
        core.wake_if_over(&mut wakes);
        drop(core);
        wakes.wake();
        back.into_iter().map(Unstarted::tell).collect()
    }

    /// Takes the kept request of a job that is stopped, for the drain; returns a copy.
    pub(crate) fn save_stopped(&self, key: Key) -> Option<Req> {
        let keep = self.rules.keep.as_ref()?;
        let kept = self.lock().queue.take_kept(key)?;
        let copy = keep(&kept);
        self.lock().stopped.push(kept);
        Some(copy)
    }

    /// The requests of jobs that were stopped, or still run although they were told to stop.
    pub(crate) fn take_stopped(&self) -> Vec<Req> {
        let mut core = self.lock();
        let running: Vec<Key> = core.queue.running().map(|(key, _)| key).collect();
        let kept: Vec<Req> =
            running.into_iter().filter_map(|key| core.queue.take_kept(key)).collect();
        let mut stopped = std::mem::take(&mut core.stopped);
        stopped.extend(kept);
        stopped
    }

    // --- runs ---

    pub(crate) fn begin_run(&self) -> RunKey {
        self.lock().runs.push_back(Mailbox::default())
    }

    /// Nobody will read what becomes of a run: what has not ended leaves the queue, or is cancelled.
    pub(crate) fn leave_run(self: &Arc<Self>, run: RunKey, unended: bool) {
        let (mut wakes, mut drops) = (Wakes::default(), Vec::new());
        let mut core = self.lock();
        let mailbox = core.runs.remove(run);
        let mut gone = Vec::new();
        let jobs = if unended { core.queue.of_run(run) } else { Vec::new() };
        for key in jobs {
            let (left, what) = core.queue.leave(key, false);
            gone.push(what);
            match left {
                Left::Queued => core.counts.cancelled += 1,
                Left::Running(worker) => wakes.push(core.roster.cancel(worker)),
                Left::Waiting | Left::Nothing => {}
            }
        }
        core.admit(&mut wakes, &mut drops);
        core.wake_if_over(&mut wakes);
        self.see_to(core, wakes);
        discard((gone, drops, mailbox));
    }

    // --- workers come and go ---

    /// Sees to it that workers take the jobs that are queued, and wakes.
    #[inline]
    pub(crate) fn see_to(
        self: &Arc<Self>,
        mut core: MutexGuard<'_, Core<Req, T, E>>,
        mut wakes: Wakes,
    ) {
        core.wake_workers(&mut wakes);
        let missing = core.missing();
        let hired = if missing > 0 { self.hire(&mut core, missing) } else { Vec::new() };
        drop(core);
        wakes.wake();
        if missing > 0 {
            self.start(hired);
        }
        self.rescale();
    }

    /// Puts workers on the roster, who are started without the lock.
    #[cold]
    fn hire(&self, core: &mut Core<Req, T, E>, n: usize) -> Vec<Hired> {
        let hired = (0..n).map(|_| {
            let (badge, cancelled) = core.roster.hire();
            Hired { badge, token: self.tasks.tokens.subscribe(), cancelled }
        });
        let hired = hired.collect();
        core.counts.peak_workers = core.counts.peak_workers.max(core.roster.alive());
        hired
    }

    /// Starts workers. One that cannot be started leaves the roster, and the others are started all the same.
    fn start(self: &Arc<Self>, hired: Vec<Hired>) -> Option<std::io::Error> {
        let mut error = None;
        for hired in hired {
            let badge = hired.badge;
            match self.spawn.spawn(self, hired) {
                Ok(stop) => {
                    let late = self.lock().roster.keep_stop(badge, stop);
                    late.into_iter().for_each(Stop::stop);
                }
                Err(failed) => error = Some(failed),
            }
        }
        self.publish_size();
        error
    }

    /// Starts the workers that could not be started before, if they are still missing.
    pub(crate) fn start_missing(self: &Arc<Self>) {
        let mut core = self.lock();
        let least = if core.closed { 0 } else { core.roster.size.min };
        let missing = core.missing().max(least.saturating_sub(core.roster.alive()));
        let hired = self.hire(&mut core, missing);
        drop(core);
        self.start(hired);
    }

    /// Starts the workers that a pool has at least.
    ///
    /// # Errors
    ///
    /// If one of them cannot be started.
    pub(crate) fn open(self: &Arc<Self>) -> std::io::Result<()> {
        let mut core = self.lock();
        let hired = self.hire(&mut core, self.config.size.min);
        drop(core);
        self.start(hired).map_or(Ok(()), Err)
    }

    /// Tells those who watch it how many workers there are.
    pub(crate) fn publish_size(&self) {
        loop {
            let workers = self.lock().roster.alive();
            self.size.send_if_modified(|size| std::mem::replace(size, workers) != workers);
            // If another has been faster, what was said last is said again, so that it is true.
            if self.lock().roster.alive() == workers {
                return;
            }
        }
    }

    /// Asks the user's rule for more workers.
    #[inline]
    fn rescale(self: &Arc<Self>) {
        if self.scale.is_some() {
            self.add_workers(0);
        }
    }

    /// The same, with so many more jobs that would be queued if there was a place.
    #[cold]
    fn add_workers(self: &Arc<Self>, more: usize) {
        let wanted = self.wanted(more);
        let mut core = self.lock();
        if core.paused || (core.closed && core.queue.is_empty()) {
            return;
        }
        let missing = wanted.min(core.roster.size.max).saturating_sub(core.roster.alive());
        if missing == 0 {
            return;
        }
        let hired = self.hire(&mut core, missing);
        let (mut wakes, mut drops) = (Wakes::default(), Vec::new());
        core.admit(&mut wakes, &mut drops);
        core.wake_workers(&mut wakes);
        drop(core);
        wakes.wake();
        discard(drops);
        self.start(hired);
    }

    /// How many workers there ought to be, by the user's rule or the built-in one.
    pub(crate) fn wanted(&self, more: usize) -> usize {
        let now = self.clock();
        let core = self.lock();
        let (mut load, ready) = (core.load(now), core.queue.ready());
        drop(core);
        load.queued += more;
        let wanted = match &self.scale {
            Some(scale) => guard(|| scale.workers(&load)).unwrap_or_else(|panic: Panic| {
                discard(panic);
                load.live
            }),
            None => load.busy + ready,
        };
        let least = load.min.max(usize::from(load.queued > 0));
        wanted.clamp(least, load.max.max(least))
    }

    /// Sets the range of workers. What is missing is started at once; one that is too many leaves after its job.
    pub(crate) fn resize(self: &Arc<Self>, size: Size) {
        let (mut wakes, mut drops) = (Wakes::default(), Vec::new());
        let mut core = self.lock();
        core.roster.size = size;
        let missing = if core.closed { 0 } else { size.min.saturating_sub(core.roster.alive()) };
        let mut hired = self.hire(&mut core, missing);
        core.admit(&mut wakes, &mut drops);
        let missing = core.missing();
        hired.extend(self.hire(&mut core, missing));
        // All look whether they are too many, or could be spared now.
        core.wake_all(&mut wakes);
        drop(core);
        wakes.wake();
        discard(drops);
        self.start(hired);
        self.rescale();
    }

    // --- the pool as a whole ---

    /// Refuses new jobs from now on; those that are queued will run.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut wakes = Wakes::default();
        let mut core = self.lock();
        core.closed = true;
        core.paused = false;
        let mut drops = Vec::new();
        for key in core.queue.all_waiting() {
            core.counts.refused.count(Reason::PoolClosed);
            if let Some((owner, details)) = core.queue.refuse(key, Reason::PoolClosed) {
                core.tell(owner, &mut wakes);
                drops.push(details);
            }
        }
        core.wake_all(&mut wakes);
        self.see_to(core, wakes);
        discard(drops);
        self.closed.cancel();
    }

    /// Closes a pool whose runtime is gone: nothing will run what is queued.
    pub(crate) fn abandon(self: &Arc<Self>) {
        self.lock().closed = true;
        discard(self.take_back());
        self.close();
        self.abort();
    }

    /// Starts no job until [`resume`](Self::resume).
    pub(crate) fn pause(&self) {
        let mut core = self.lock();
        core.paused = !core.closed;
    }

    pub(crate) fn resume(self: &Arc<Self>) {
        let (mut wakes, mut drops) = (Wakes::default(), Vec::new());
        let mut core = self.lock();
        core.paused = false;
        core.admit(&mut wakes, &mut drops);
        self.see_to(core, wakes);
        discard(drops);
    }

    /// Stops the workers at their next await.
    pub(crate) fn abort(&self) {
        let stops = self.lock().roster.stop();
        stops.into_iter().for_each(Stop::stop);
    }

    /// Waits for what is left of workers that have ended.
    pub(crate) fn join(&self) {
        self.spawn.join();
    }

    pub(crate) fn stats(&self) -> Stats {
        let now = self.clock();
        let mut core = self.lock();
        let mut stats = core.counts.clone();
        let window = core.measured.as_mut().zip(now).map(|(measured, now)| measured.window(now));
        (stats.queued, stats.waiting) = (core.queue.len(), core.queue.waiting());
        (stats.workers, stats.idle) = (core.roster.alive(), core.roster.idle());
        (stats.min_workers, stats.max_workers) = (core.roster.size.min, core.roster.size.max);
        stats.capacity = core.config.admission.capacity;
        let oldest = core.queue.oldest().zip(now);
        drop(core);
        stats.oldest = oldest.map(|(since, now)| now.saturating_duration_since(since));
        if let Some([queue_wait, run_time]) = window.map(|window| window.percentiles()) {
            (stats.queue_wait, stats.run_time) = (Some(queue_wait), Some(run_time));
        }
        stats
    }

    /// The jobs that run, the first to be started first.
    pub(crate) fn running(&self) -> Vec<RunningJob> {
        let now = self.clock();
        let core = self.lock();
        let mut jobs: Vec<RunningJob> = core
            .queue
            .running()
            .map(|(_, job)| RunningJob {
                name: job.name.cloned(),
                worker: job.worker,
                running_for: now.zip(job.since).map(|(now, at)| now.saturating_duration_since(at)),
            })
            .collect();
        drop(core);
        jobs.sort_by_key(|job| std::cmp::Reverse(job.running_for));
        jobs
    }
}
