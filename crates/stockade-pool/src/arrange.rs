//! The queue of jobs, and which of them is next.

use stockade_core::{Key, Queue};

use crate::{
    affinity::{Bound, Lanes},
    rules::{Of, Order, Ticket},
    shared::Entry,
    worker::{discard, guard},
};

/// The queued jobs. First in, first out is the order of the queue itself, and costs nothing more.
pub(crate) struct Jobs<Req, T, E> {
    queue: Queue<Entry<Req, T, E>>,
    arranged: Arranged<Req>,
    /// What they weigh together.
    weight: u64,
    serial: u64,
}

enum Arranged<Req> {
    Fifo,
    Lanes(Box<Lanes>),
    Order(Box<dyn Order<Req>>),
}

// === impl Jobs ===

impl<Req, T, E> Jobs<Req, T, E> {
    pub(crate) fn new(rules: &Of<Req>) -> Self {
        let arranged = match (&rules.lane, &rules.order) {
            (Some(_), _) => Arranged::Lanes(Box::default()),
            (None, Some(order)) => Arranged::Order(order()),
            (None, None) => Arranged::Fifo,
        };
        Self { queue: Queue::new(), arranged, weight: 0, serial: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// The job that was queued first.
    pub(crate) fn oldest(&self) -> Option<&Entry<Req, T, E>> {
        self.queue.front()
    }

    /// How many jobs could be taken at once, by as many workers.
    #[inline]
    pub(crate) fn ready(&self) -> usize {
        match &self.arranged {
            Arranged::Lanes(lanes) => lanes.ready(),
            _ => self.queue.len(),
        }
    }

    /// Whether a job has to wait until another one that is in the pool has ended.
    pub(crate) fn is_behind(&self, entry: &Entry<Req, T, E>) -> bool {
        match &self.arranged {
            Arranged::Lanes(lanes) => lanes.is_taken(entry.tag.lane),
            _ => false,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, entry: Entry<Req, T, E>) -> Key {
        let tag = entry.tag;
        self.weight += tag.weight;
        let key = self.queue.push_back(entry);
        match &mut self.arranged {
            Arranged::Fifo => {}
            Arranged::Lanes(lanes) => lanes.push(tag.lane, key),
            Arranged::Order(order) => {
                self.serial += 1;
                let ticket = Ticket { serial: self.serial, key };
                if let Some(entry) = self.queue.get_mut(key)
                    && let Err(panic) = guard(|| order.push(&entry.request, ticket))
                {
                    discard(panic);
                }
            }
        }
        key
    }

    #[inline]
    pub(crate) fn pop(&mut self, bound: &mut Bound) -> Option<Entry<Req, T, E>> {
        let queue = &mut self.queue;
        let entry = match &mut self.arranged {
            Arranged::Fifo => queue.pop_front(),
            Arranged::Lanes(lanes) => lanes.pop(bound, |key| queue.remove(key)),
            Arranged::Order(order) => loop {
                match guard(|| order.pop()) {
                    Ok(Some(ticket)) => match queue.remove(ticket.key) {
                        None => {}
                        entry => break entry,
                    },
                    Ok(None) => break queue.pop_front(),
                    Err(panic) => {
                        discard(panic);
                        break queue.pop_front();
                    }
                }
            },
        }?;
        self.weight -= entry.tag.weight;
        Some(entry)
    }

    /// The worker that is bound has ended its job.
    #[inline]
    pub(crate) fn finish(&mut self, bound: &mut Bound) {
        if let (Some(_), Arranged::Lanes(lanes)) = (bound.lane, &mut self.arranged) {
            lanes.finish(bound);
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Entry<Req, T, E>> {
        let entry = self.queue.remove(key)?;
        self.forget(&entry);
        Some(entry)
    }

    pub(crate) fn extract(
        &mut self,
        matches: impl FnMut(&Entry<Req, T, E>) -> bool,
    ) -> Vec<Entry<Req, T, E>> {
        let entries = self.queue.extract(matches);
        entries.iter().for_each(|entry| self.forget(entry));
        entries
    }

    fn forget(&mut self, entry: &Entry<Req, T, E>) {
        self.weight -= entry.tag.weight;
        if let Arranged::Lanes(lanes) = &mut self.arranged {
            let queue = &mut self.queue;
            lanes.removed(entry.tag.lane, |key| queue.get_mut(*key).is_some());
        }
    }
}
