//! The queue of jobs, and which of them is next.

use stockade_core::internal::Key as RunKey;
use tokio::time::Instant;

use crate::{
    affinity::{Bound, Lanes},
    board::{Board, Entry, Key, Left, NO_WORKER, Owner},
    rules::{Of, Order, Ticket},
    worker::{discard, guard},
};

/// The jobs, of which the queued ones are arranged. First in, first out is the order of the board itself, and costs
/// nothing more.
pub(crate) struct Jobs<Req, T, E> {
    pub(crate) board: Board<Req, T, E>,
    arranged: Arranged<Req>,
    /// What they weigh together.
    weight: u64,
    /// How many of them were submitted from inside a job.
    nested: usize,
    serial: u64,
}

enum Arranged<Req> {
    Fifo,
    Lanes(Box<Lanes>),
    Order(Box<dyn Order<Req>>),
}

// === impl Jobs ===

impl<Req, T, E> Jobs<Req, T, E> {
    pub(crate) fn new(rules: &Of<Req>, most: usize) -> Self {
        let arranged = match (&rules.lane, &rules.order) {
            (Some(_), _) => Arranged::Lanes(Box::default()),
            (None, Some(order)) => Arranged::Order(order()),
            (None, None) => Arranged::Fifo,
        };
        Self { board: Board::new(most), arranged, weight: 0, nested: 0, serial: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.board.queued()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.board.queued() == 0
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// Whether a job is queued that another one may wait for.
    #[inline]
    pub(crate) fn has_nested(&self) -> bool {
        self.nested > 0
    }

    /// When the job that was queued first was queued, as far as known.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.board.oldest()
    }

    /// How many jobs could be taken at once, by as many workers.
    #[inline]
    pub(crate) fn ready(&self) -> usize {
        match &self.arranged {
            Arranged::Lanes(lanes) => lanes.ready(),
            _ => self.board.queued(),
        }
    }

    /// Whether a job has to wait until another one that is in the pool has ended.
    pub(crate) fn is_behind(&self, entry: &Entry<Req>) -> bool {
        match &self.arranged {
            Arranged::Lanes(lanes) => lanes.is_taken(entry.tag.lane),
            _ => false,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, entry: Entry<Req>, owner: Owner) -> Key {
        let tag = entry.tag;
        self.weight += tag.weight;
        self.nested += usize::from(tag.nested);
        let key = self.board.push(entry, owner);
        if !matches!(self.arranged, Arranged::Fifo) {
            self.arrange(key, tag.lane);
        }
        key
    }

    #[inline(never)]
    fn arrange(&mut self, key: Key, lane: u64) {
        match &mut self.arranged {
            Arranged::Fifo => {}
            Arranged::Lanes(lanes) => lanes.push(lane, key),
            Arranged::Order(order) => {
                self.serial += 1;
                let ticket = Ticket { serial: self.serial, key };
                if let Some(request) = self.board.get(key)
                    && let Err(panic) = guard(|| order.push(request, ticket))
                {
                    discard(panic);
                }
            }
        }
    }

    /// Hands the next job to a worker by `give`.
    #[inline(always)]
    pub(crate) fn pop<R>(
        &mut self,
        bound: &mut Bound,
        worker: usize,
        give: impl FnOnce(Key, Entry<Req>) -> R,
    ) -> Option<R> {
        let Self { board, weight, nested, .. } = self;
        if matches!(self.arranged, Arranged::Fifo) {
            return board.pop(worker, |key, entry| {
                *weight -= entry.tag.weight;
                *nested -= usize::from(entry.tag.nested);
                give(key, entry)
            });
        }
        let (key, entry) = self.pop_arranged(bound, worker)?;
        self.weight -= entry.tag.weight;
        self.nested -= usize::from(entry.tag.nested);
        Some(give(key, entry))
    }

    #[inline(never)]
    fn pop_arranged(&mut self, bound: &mut Bound, worker: usize) -> Option<(Key, Entry<Req>)> {
        let give = |key, entry| (key, entry);
        let board = &mut self.board;
        match &mut self.arranged {
            Arranged::Fifo => board.pop(worker, give),
            Arranged::Lanes(lanes) => lanes.pop(bound, |key| board.take(key, worker, give)),
            Arranged::Order(order) => loop {
                match guard(|| order.pop()) {
                    Ok(Some(ticket)) => match board.take(ticket.key, worker, give) {
                        None => {}
                        next => break next,
                    },
                    Ok(None) => break board.pop(worker, give),
                    Err(panic) => {
                        discard(panic);
                        break board.pop(worker, give);
                    }
                }
            },
        }
    }

    /// The worker that is bound has ended its job.
    #[inline]
    pub(crate) fn finish(&mut self, bound: &mut Bound) {
        if let (Some(_), Arranged::Lanes(lanes)) = (bound.lane, &mut self.arranged) {
            lanes.finish(bound);
        }
    }

    /// The caller will not read the answer to a job; one that is queued leaves the queue unless it is to `stay`.
    pub(crate) fn leave(&mut self, key: Key, stay: bool) -> (Option<Left<Req, T, E>>, Owner) {
        let (left, owner) = self.board.leave(key, stay);
        if let Some(Left::Queued(entry)) = &left {
            self.forget(entry);
        }
        (left, owner)
    }

    /// Nobody will read what becomes of a run: its jobs leave the queue. Adds the workers that run some.
    pub(crate) fn leave_run(&mut self, run: RunKey, workers: &mut Vec<usize>) -> Vec<Entry<Req>> {
        let entries = self.board.leave_run(run, workers);
        entries.iter().for_each(|entry| self.forget(entry));
        entries
    }

    /// Takes the job that was queued first, whatever the order, to be answered without a worker.
    pub(crate) fn hand_back(&mut self) -> Option<(Key, Entry<Req>)> {
        let next = self.board.pop(NO_WORKER, |key, entry| (key, entry))?;
        self.forget(&next.1);
        Some(next)
    }

    fn forget(&mut self, entry: &Entry<Req>) {
        self.weight -= entry.tag.weight;
        self.nested -= usize::from(entry.tag.nested);
        if let Arranged::Lanes(lanes) = &mut self.arranged {
            let board = &self.board;
            lanes.removed(entry.tag.lane, |key| board.get(*key).is_some());
        }
    }
}
