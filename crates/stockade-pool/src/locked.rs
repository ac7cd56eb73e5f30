//! What is behind the lock of a pool: the queue, who works, and what is counted.
//!
//! Each of the rooms that meet here knows one thing and nothing of the others: the [queue](crate::queue) where a job is,
//! [admission](crate::admission) whether there is a place for it, the [roster](crate::roster) who works.
//!
//! Nothing of the user's runs here: no waker is cloned, dropped or woken, no request and no answer is dropped, and no
//! function of the user's is called. Who has to be woken is noted in `wakes`, and what has to be dropped is returned, for
//! when the lock has been let go.

use std::task::Waker;

use stockade_core::{Reason, Rejected, internal::Queue as Runs};
use tokio::time::Instant;

use crate::{
    Load, Stats,
    config::Checked,
    in_flight::InFlight,
    outcome::Mailbox,
    queue::{Key, Left, NO_WORKER, Owner, Queue, Taken},
    roster::{Roster, Size},
    stats::{Measured, between},
};

/// What is behind the lock.
pub(crate) struct Core<Req, T, E> {
    pub(crate) queue: Queue<Req, T, E>,
    pub(crate) roster: Roster,
    pub(crate) runs: Runs<Mailbox<Req, T, E>>,
    pub(crate) counts: Stats,
    /// How many jobs have been answered.
    pub(crate) answered: u64,
    pub(crate) measured: Option<Box<Measured>>,
    pub(crate) config: Checked,
    /// Whether the built-in rule says how many workers there are: one a job.
    pub(crate) per_job: bool,
    pub(crate) closed: bool,
    pub(crate) paused: bool,
    /// How many drains wait, and will hand back what is left.
    pub(crate) draining: usize,
    /// Requests of jobs that were stopped, for a drain.
    pub(crate) stopped: Vec<Req>,
    /// Who is woken when the lock has been let go.
    pub(crate) wakes: Vec<Waker>,
}

// === impl Core ===

impl<Req, T, E> Core<Req, T, E> {
    pub(crate) fn new(config: Checked, per_job: bool) -> Self {
        let usual = config.capacity.saturating_add(config.size.max);
        Self {
            queue: Queue::new(config.order_by, config.per_key(), usual),
            roster: Roster::new(config.size),
            runs: Runs::new(),
            counts: Stats::default(),
            answered: 0,
            measured: config.measure.then(|| Box::new(Measured::new())),
            config,
            per_job,
            closed: false,
            paused: false,
            draining: 0,
            stopped: Vec::new(),
            wakes: Vec::new(),
        }
    }

    /// How many workers are missing: by the built-in rule one for each job that none is free to take, and as many as the
    /// pool keeps at least.
    pub(crate) fn missing(&self) -> usize {
        let (alive, Size { min, max }) = (self.roster.alive(), self.roster.size);
        if alive >= max {
            return 0;
        }
        let kept = if self.closed { 0 } else { min.saturating_sub(alive) };
        let by_rule = match self.per_job && !self.paused {
            true => self.queue.ready().saturating_sub(self.roster.available()),
            false => 0,
        };
        kept.max(by_rule).min(max - alive)
    }

    pub(crate) fn count_accepted(&mut self) {
        self.counts.accepted += 1;
        if self.counts.peak_queued < self.queue.len() {
            self.counts.peak_queued = self.queue.len();
        }
    }

    /// Gives a place to one who waits for it.
    pub(crate) fn enter(&mut self, key: Key) {
        if let Some((is_job, owner)) = self.queue.admit(key) {
            if is_job {
                self.count_accepted();
            }
            self.tell(owner);
        }
    }

    /// Refuses a place to one who waits for it. A handle that waits is counted when it is called, and refused then.
    pub(crate) fn refuse(&mut self, key: Key, reason: Reason) {
        if let Some((priority, owner)) = self.queue.refuse(key, reason) {
            if let Some(priority) = priority {
                self.counts.refused.count(reason, priority);
            }
            self.tell(owner);
        }
    }

    fn tell(&mut self, owner: Owner) {
        match owner {
            Owner::Caller(waker) => self.wakes.extend(waker),
            Owner::Run(run, _) => {
                self.wakes.extend(self.runs.get_mut(run).and_then(|run| run.reader.take()));
            }
            Owner::Nobody => {}
        }
    }

    /// Gives the next job to a worker.
    #[inline(always)]
    pub(crate) fn take(
        &mut self,
        worker: usize,
        now: Option<Instant>,
    ) -> Option<(Key, Taken<Req>)> {
        let is_fifo = self.queue.is_fifo();
        let overdue = !is_fifo && self.config.is_late(self.queue.oldest());
        let taken = self.queue.pop(worker, now, overdue)?;
        self.counts.running += 1;
        if self.counts.peak_running < self.counts.running {
            self.counts.peak_running = self.counts.running;
        }
        if !is_fifo || self.config.budget.is_some() {
            // What it weighed, or its place among those of its key, is free now.
            self.admit();
        }
        Some(taken)
    }

    /// Counts a job that has ended, and puts its answer where it is read. What is left of it stays in `job`.
    #[inline(always)]
    pub(crate) fn record(&mut self, job: &mut InFlight<Req, T, E>, worker: usize) {
        self.answered += 1;
        self.counts.running -= 1;
        self.counts.count(job.status());
        if let Some((measured, ended)) = self.measured.as_mut().zip(job.ended) {
            measured.record(ended, [job.queued_for(), job.ran_for()]);
        }
        let Some(key) = job.key else { return };
        let queued_for = job.queued_for();
        let (owner, kept) = self.queue.end(key, &mut job.result, &mut job.refusal, queued_for);
        if kept.is_some() {
            job.kept = kept;
        }
        match owner {
            Owner::Caller(Some(waker)) => self.wakes.push(waker),
            Owner::Caller(None) | Owner::Nobody => {}
            Owner::Run(run, id) => {
                if let Some((run, ended)) = self.runs.get_mut(run).zip(job.outcome(id, worker)) {
                    run.ended.push_back(ended);
                    self.wakes.extend(run.reader.take());
                }
            }
        }
        job.clear();
    }

    /// Ends a job that was taken out of the queue and not given to a worker. It is to be told of, and dropped, without the
    /// lock.
    pub(crate) fn end_unstarted(
        &mut self,
        key: Key,
        job: Taken<Req>,
        rejected: Rejected,
    ) -> InFlight<Req, T, E> {
        let mut ended = InFlight::new();
        ended.fill(key, job, None);
        if rejected.reason() == Reason::Shed {
            self.counts.refused.count_lost(ended.priority);
        }
        ended.reject(rejected);
        self.counts.running += 1;
        self.record(&mut ended, NO_WORKER);
        ended
    }

    /// The caller of a job has gone.
    pub(crate) fn cancel(&mut self, left: &Left) {
        match left {
            Left::Queued => self.counts.cancelled += 1,
            Left::Running(worker) => self.wakes.extend(self.roster.cancel(*worker)),
            Left::Waiting | Left::Nothing => {}
        }
        self.wake_if_over();
    }

    /// Wakes a sleeper for each job that could be taken.
    pub(crate) fn wake_workers(&mut self) {
        let jobs = if self.paused { 0 } else { self.queue.ready() };
        while let Some(waker) = self.roster.wake_for(jobs) {
            self.wakes.push(waker);
        }
    }

    /// Whether the pool is closed and nothing is queued.
    pub(crate) fn is_over(&self) -> bool {
        self.closed && self.queue.is_empty()
    }

    /// Wakes workers that wait for their service in vain.
    pub(crate) fn wake_if_over(&mut self) {
        if self.is_over() {
            self.wake_all();
        }
    }

    /// Wakes all workers, whatever they wait for.
    pub(crate) fn wake_all(&mut self) {
        self.wakes.extend(self.roster.wakers());
    }

    pub(crate) fn load(&self, now: Option<Instant>) -> Load {
        let (alive, Size { min, max }) = (self.roster.alive(), self.roster.size);
        Load {
            queued: self.queue.len() + self.queue.waiting(),
            oldest: between(self.queue.oldest(), now).unwrap_or_default(),
            busy: alive.saturating_sub(self.roster.available()),
            live: alive,
            min,
            max,
        }
    }
}
