//! What callers do with their jobs once they are submitted: look at them, read their answers, and leave them.

use std::task::{Poll, Waker};

use stockade_core::{internal::Key as RunKey, waits};

use super::{
    Key, Left, Owner, Queue, Seen,
    record::{Record, State},
};

impl<Req, T, E> Queue<Req, T, E> {
    /// Whether a job, or a handle, has a place. While its caller waits for that, or for the `answer`, the waker is kept. One
    /// that is not kept, or is replaced, is in `waker` afterwards.
    pub(crate) fn look(&mut self, key: Key, answer: bool, waker: &mut Option<Waker>) -> Seen<Req> {
        let Some(record) = self.records.get_mut(key) else { return Seen::Gone };
        let seen = match &record.state {
            // The place of a handle is held without a record from now on.
            State::Held => {
                record.clear();
                self.records.release(key);
                return Seen::Accepted;
            }
            State::Refused(..) => {
                let Record { state: State::Refused(request, reason), details, .. } =
                    self.records.remove(key).unwrap_or_default()
                else {
                    return Seen::Gone;
                };
                return Seen::Refused(reason, request, details);
            }
            &State::Ended(None, _) if answer => return Seen::Answered,
            &State::Ended(Some(reason), _) if answer => {
                record.clear();
                self.records.release(key);
                return Seen::Ended(reason);
            }
            State::Ended(..) => return Seen::Accepted,
            State::Waiting(_) => Seen::Waiting,
            _ => Seen::Accepted,
        };
        if let Owner::Caller(kept) = &mut record.owner
            && (answer || matches!(seen, Seen::Waiting))
        {
            std::mem::swap(kept, waker);
        }
        seen
    }

    /// What the service has answered to a job, or pending while `waker` is kept for the answer. None if there is something
    /// else to be [looked](Self::look) at. Reports how long the job was queued.
    pub(crate) fn poll(&mut self, key: Key, waker: &Waker) -> Option<Poll<Result<T, E>>> {
        let record = self.records.get_mut(key)?;
        if record.result.is_none() {
            // Whatever happens to a job, its waker is taken then.
            let waits = matches!(&record.owner, Owner::Caller(Some(kept)) if kept.will_wake(waker));
            return waits.then_some(Poll::Pending);
        }
        if let State::Ended(_, Some(queued_for)) = record.state {
            waits::record(queued_for);
        }
        record.clear();
        self.records.release_with(key, |record| record.result.take().map(Poll::Ready))
    }

    /// Nobody waits for a job any more. Unless it is to `stay`, it leaves the queue, or the line for it. Returns where
    /// it was and what is to be dropped.
    pub(crate) fn leave(&mut self, key: Key, stay: bool) -> (Left, Record<Req, T, E>) {
        let mut gone = Record::default();
        let Some(record) = self.records.get_mut(key) else { return (Left::Nothing, gone) };
        let tag = record.tag();
        let is_there = matches!(record.state, State::Queued(_) | State::Waiting(_));
        let left = match record.state {
            State::Running(worker) => Left::Running(worker),
            State::Queued(_) if !stay => Left::Queued,
            State::Waiting(_) if !stay => Left::Waiting,
            State::Held => Left::Waiting,
            _ => Left::Nothing,
        };
        if matches!(left, Left::Running(_)) || (is_there && stay) {
            std::mem::swap(&mut gone.owner, &mut record.owner);
            return (left, gone);
        }
        match record.state {
            State::Queued(_) => self.dequeue(key, tag),
            State::Waiting(_) => self.waiting.remove(&mut self.records, key, tag),
            State::Held => self.held -= 1,
            _ => {}
        }
        (left, self.records.remove(key).unwrap_or(gone))
    }

    /// Whether this job goes on although its caller has gone.
    pub(crate) fn is_detached(&self, key: Key) -> bool {
        self.records.get(key).is_some_and(|record| matches!(record.owner, Owner::Nobody))
    }

    /// The jobs of a run that have not ended.
    pub(crate) fn of_run(&self, run: RunKey) -> Vec<Key> {
        let of_run = |owner: &Owner| matches!(owner, Owner::Run(of, _) if *of == run);
        self.records.iter().filter(|(_, job)| of_run(&job.owner)).map(|(key, _)| key).collect()
    }

    /// Whether the job waits for a place.
    pub(crate) fn is_waiting(&self, key: Key) -> bool {
        let waits = |record: &Record<_, _, _>| matches!(record.state, State::Waiting(_));
        self.records.get(key).is_some_and(waits)
    }

    /// The copy of the request of a job that runs.
    pub(crate) fn take_kept(&mut self, key: Key) -> Option<Req> {
        self.records.get_mut(key)?.extra()?.kept.take()
    }
}
