//! The jobs of a run, and the mailbox where they end.
//!
//! A worker puts what it has done into the mailbox in the visit to the lock in which it takes its next job, and the reader
//! takes all that is in it at once.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use stockade_core::{Reason, Rejected, internal::Key as RunKey};

use crate::{
    contain::discard,
    in_flight::InFlight,
    lease::Lease,
    outcome::{Ended, Mailbox},
    queue::{Key, NO_WORKER, Owner, Seen},
    shared::Handles,
};

/// The reader's end of a run. When it is dropped, what has not ended leaves the queue, or is cancelled.
pub(crate) struct Batch<Req, T, E> {
    pool: Lease<Handles<Req, T, E>>,
    run: RunKey,
    /// The job that waits for a place.
    pub(crate) in_line: Option<Key>,
    pub(crate) submitted: u64,
    pub(crate) read: u64,
    /// How many jobs may be under way, or have ended unread.
    most: u64,
    /// What was taken out of the mailbox.
    pub(crate) ended: VecDeque<Ended<Req, T, E>>,
}

/// The most jobs of a run at once for each worker: enough that a worker always finds one, and not so many that they fill
/// the processor's cache.
const SHARE: usize = 128;

// === impl Batch ===

impl<Req, T, E> Batch<Req, T, E> {
    pub(crate) fn new(pool: Lease<Handles<Req, T, E>>) -> Self {
        let mut core = pool.shared.lock();
        let run = core.runs.push_back(Mailbox { ended: VecDeque::new(), reader: None });
        let workers = core.roster.size.max;
        drop(core);
        let room = pool.shared.config.capacity.saturating_add(workers).saturating_mul(2);
        let most = room.min(workers.saturating_mul(SHARE)) as u64;
        Self { pool, run, in_line: None, submitted: 0, read: 0, most, ended: VecDeque::new() }
    }

    /// Whether one more job may be under way.
    pub(crate) fn has_room(&self) -> bool {
        self.in_line.is_none() && self.submitted - self.read < self.most
    }

    /// Submits a request. Returns whether workers are idle and would take more.
    ///
    /// # Errors
    ///
    /// The request, if it is refused.
    pub(crate) fn submit(&mut self, request: Req) -> Result<bool, (Req, Reason)> {
        let shared = &self.pool.shared;
        let owner = Owner::Run(self.run, self.submitted);
        let submitted = shared.submit(request, owner, false, true)?;
        self.submitted += 1;
        if submitted.waits {
            self.in_line = Some(submitted.key);
        }
        Ok(submitted.hungry)
    }

    /// Reports a request that was refused as a job that has ended.
    pub(crate) fn end_refused(&mut self, request: Req, reason: Reason) {
        let mut job = InFlight::new();
        if self.pool.shared.rules.keep.is_some() {
            job.kept = Some(request);
        }
        job.reject(self.refuse(reason));
        self.ended.extend(job.outcome(self.submitted, NO_WORKER));
        self.submitted += 1;
    }

    /// Tells of a refusal.
    pub(crate) fn refuse(&self, reason: Reason) -> Rejected {
        self.pool.shared.refuse(reason)
    }

    /// Ready when there is something to read, or room for more, or a request was refused and comes back. Otherwise the reader
    /// is woken then.
    pub(crate) fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Req, Reason)>> {
        let waker = cx.waker().clone();
        let mut core = self.pool.shared.lock();
        if let Some(key) = self.in_line {
            match core.queue.look(key, false, &mut None) {
                Seen::Waiting => {}
                Seen::Refused(reason, request, details) => {
                    drop(core);
                    discard(details);
                    self.in_line = None;
                    self.submitted -= 1;
                    return Poll::Ready(request.map(|request| (request, reason)));
                }
                _ => {
                    self.in_line = None;
                    return Poll::Ready(None);
                }
            }
        }
        let mailbox = core.runs.get_mut(self.run).expect("a run has a mailbox until it is dropped");
        if !mailbox.ended.is_empty() && self.ended.is_empty() {
            std::mem::swap(&mut mailbox.ended, &mut self.ended);
            return Poll::Ready(None);
        }
        let old = mailbox.reader.replace(waker);
        drop(core);
        discard(old);
        Poll::Pending
    }
}

impl<Req, T, E> Drop for Batch<Req, T, E> {
    fn drop(&mut self) {
        let shared = &self.pool.shared;
        let mut core = shared.lock();
        let mailbox = core.runs.remove(self.run);
        let mut gone = Vec::new();
        let all_ended = self.read + self.ended.len() as u64 == self.submitted;
        let jobs = if all_ended { Vec::new() } else { core.queue.of_run(self.run) };
        for key in jobs {
            let (left, what) = core.queue.leave(key, false);
            core.cancel(&left);
            gone.push(what);
        }
        shared.see_to(core);
        discard((gone, mailbox));
    }
}
