//! Where a job is from when it is queued until its answer is read.
//!
//! A slab whose slots are the only memory of a job, and are used again: in a steady state a job allocates nothing.
//! The queued ones are linked, so that one can leave from the middle. The answer is left in the slot, under the lock
//! that a worker takes anyway for its next job: a channel for each job would cost an allocation, and three more
//! atomic writes than the caller's visit to the lock.

use std::task::Waker;

use stockade_core::internal::Key as RunKey;
use tokio::time::Instant;

use crate::{rules::Tag, span::Span};

/// The jobs of a pool.
pub(crate) struct Board<Req, T, E> {
    slots: Vec<Slot<Req, T, E>>,
    /// How many jobs are queued or running at most.
    most: usize,
    /// The first and the last in the queue.
    head: u32,
    tail: u32,
    /// The first slot of the free list, which is linked through `next`.
    free: u32,
    queued: usize,
}

/// A job on the board. One whose slot was freed finds nothing, even when the slot is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

/// One job. What it consists of is written and read field by field: to make a whole of it first, and to copy that,
/// takes longer than the lock.
struct Slot<Req, T, E> {
    state: State<Req, T, E>,
    deadline: Option<Instant>,
    since: Option<Instant>,
    tag: Tag,
    span: Span,
    owner: Owner,
    generation: u32,
    /// Means nothing in the slot at the head.
    prev: u32,
    next: u32,
}

/// How far a job is.
///
/// `Queued` -> `Running` when a worker takes it, -> `Ended` when it has an answer, -> `Free` when that is read. One
/// whose answer nobody will read skips `Ended`.
enum State<Req, T, E> {
    Free,
    /// With the request.
    Queued(Req),
    /// With the number of the worker.
    Running(usize),
    Ended(Result<T, E>),
}

/// A job in the queue.
pub(crate) struct Entry<Req> {
    pub(crate) request: Req,
    pub(crate) deadline: Option<Instant>,
    pub(crate) since: Option<Instant>,
    pub(crate) tag: Tag,
    pub(crate) span: Span,
}

/// Whom the answer is for.
#[derive(Debug)]
pub(crate) enum Owner {
    /// One caller, who is woken if he waits already.
    Caller(Option<Waker>),
    /// The job of this number in a run.
    Run(RunKey, u64),
    /// The caller has gone.
    Nobody,
}

/// What a job was when its caller left it.
pub(crate) enum Left<Req, T, E> {
    /// Still in the queue, which it has left.
    Queued(Entry<Req>),
    /// In the hands of this worker.
    Running(usize),
    /// Answered.
    Ended(Result<T, E>),
}

/// In the place of the number of a worker.
pub(crate) const NO_WORKER: usize = usize::MAX;

const NONE: u32 = u32::MAX;

// === impl Board ===

impl<Req, T, E> Board<Req, T, E> {
    pub(crate) const fn new(most: usize) -> Self {
        Self { slots: Vec::new(), most, head: NONE, tail: NONE, free: NONE, queued: 0 }
    }

    /// How many are queued.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Queues a job as the last.
    #[inline(always)]
    pub(crate) fn push(&mut self, entry: Entry<Req>, owner: Owner) -> Key {
        if self.free == NONE {
            self.grow();
        }
        let (index, prev) = (self.free, self.tail);
        let slot = &mut self.slots[index as usize];
        self.free = slot.next;
        let Entry { request, deadline, since, tag, span } = entry;
        slot.state = State::Queued(request);
        (slot.deadline, slot.since) = (deadline, since);
        (slot.tag, slot.span) = (tag, span);
        slot.owner = owner;
        (slot.prev, slot.next) = (prev, NONE);
        let key = Key::new(index, slot.generation);
        match self.slots.get_mut(prev as usize) {
            Some(slot) => slot.next = index,
            None => self.head = index,
        }
        self.tail = index;
        self.queued += 1;
        key
    }

    /// Makes a free slot.
    #[cold]
    fn grow(&mut self) {
        let len = self.slots.len();
        let index = u32::try_from(len).ok().filter(|&index| index != NONE);
        let index = index.expect("a pool holds fewer than u32::MAX jobs");
        if len == self.slots.capacity() {
            // In few and large steps up to the most, because jobs are moved for each. Beyond are answers that nobody
            // has read yet.
            let missing = if len < self.most { self.most - len } else { len };
            self.slots.reserve_exact(missing.min(7 * len).max(64));
        }
        self.slots.push(Slot {
            state: State::Free,
            deadline: None,
            since: None,
            tag: Tag::default(),
            span: Span::NONE,
            owner: Owner::Nobody,
            generation: 0,
            prev: NONE,
            next: NONE,
        });
        self.free = index;
    }

    /// When the job at the head of the queue was queued, as far as known.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.slots.get(self.head as usize)?.since
    }

    /// The request of a queued job.
    pub(crate) fn get(&self, key: Key) -> Option<&Req> {
        match &self.slot(key)?.state {
            State::Queued(request) => Some(request),
            _ => None,
        }
    }

    /// Gives the job at the head to a worker, or to whoever answers for [`NO_WORKER`]. It is handed to `give`, and so
    /// goes in one move from the slot to where it is used.
    #[inline(always)]
    pub(crate) fn pop<R>(
        &mut self,
        worker: usize,
        give: impl FnOnce(Key, Entry<Req>) -> R,
    ) -> Option<R> {
        let index = self.head;
        let slot = self.slots.get_mut(index as usize)?;
        let entry = slot.start(worker)?;
        let given = give(Key::new(index, slot.generation), entry);
        self.head = slot.next;
        if self.head == NONE {
            self.tail = NONE;
        }
        self.queued -= 1;
        Some(given)
    }

    /// Gives this queued job to a worker.
    pub(crate) fn take<R>(
        &mut self,
        key: Key,
        worker: usize,
        give: impl FnOnce(Key, Entry<Req>) -> R,
    ) -> Option<R> {
        self.get(key)?;
        self.unlink(key.index(), worker).map(|entry| give(key, entry))
    }

    /// A worker has ended the job: whom it was for. An answer for a caller is left for him to read.
    #[inline(always)]
    pub(crate) fn end(&mut self, key: Key, result: &mut Option<Result<T, E>>) -> Owner {
        let Some(slot) = self.slot_mut(key) else { return Owner::Nobody };
        if let Owner::Caller(waker) = &mut slot.owner {
            if let Some(result) = result.take() {
                slot.state = State::Ended(result);
            }
            return Owner::Caller(waker.take());
        }
        self.end_other(key)
    }

    fn end_other(&mut self, key: Key) -> Owner {
        let Some(slot) = self.slot_mut(key) else { return Owner::Nobody };
        let owner = std::mem::replace(&mut slot.owner, Owner::Nobody);
        slot.state = State::Free;
        self.release(key.index());
        owner
    }

    /// The answer to a job, whose slot is free then; until there is one, `waker` is kept for it.
    #[inline(always)]
    pub(crate) fn read(&mut self, key: Key, waker: &Waker) -> Option<Result<T, E>> {
        let slot = self.slot_mut(key)?;
        if !matches!(slot.state, State::Ended(_)) {
            slot.keep(waker);
            return None;
        }
        let State::Ended(result) = std::mem::replace(&mut slot.state, State::Free) else {
            return None;
        };
        self.release(key.index());
        Some(result)
    }

    /// The caller will not read the answer: a queued job is taken out unless it is to `stay`.
    pub(crate) fn leave(&mut self, key: Key, stay: bool) -> (Option<Left<Req, T, E>>, Owner) {
        let Some(slot) = self.slot_mut(key) else { return (None, Owner::Nobody) };
        let owner = std::mem::replace(&mut slot.owner, Owner::Nobody);
        let left = match &slot.state {
            State::Queued(_) if stay => None,
            State::Queued(_) => self.remove(key.index()).map(Left::Queued),
            State::Running(worker) => Some(Left::Running(*worker)),
            State::Ended(_) => match std::mem::replace(&mut slot.state, State::Free) {
                State::Ended(result) => {
                    self.release(key.index());
                    Some(Left::Ended(result))
                }
                _ => None,
            },
            State::Free => None,
        };
        (left, owner)
    }

    /// Takes all jobs of a run out of the queue; adds the workers that run some.
    pub(crate) fn leave_run(&mut self, run: RunKey, workers: &mut Vec<usize>) -> Vec<Entry<Req>> {
        let mut entries = Vec::new();
        for index in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[index as usize];
            if !matches!(slot.owner, Owner::Run(of, _) if of == run) {
                continue;
            }
            match &slot.state {
                State::Queued(_) => {
                    entries.extend(self.remove(index));
                }
                State::Running(worker) => {
                    workers.push(*worker);
                    slot.owner = Owner::Nobody;
                }
                _ => {}
            }
        }
        entries
    }

    /// Takes this job out of the queue.
    fn remove(&mut self, index: u32) -> Option<Entry<Req>> {
        let entry = self.unlink(index, NO_WORKER);
        self.slots[index as usize].state = State::Free;
        self.release(index);
        entry
    }

    #[inline]
    fn slot(&self, key: Key) -> Option<&Slot<Req, T, E>> {
        self.slots.get(key.index() as usize).filter(|slot| slot.generation == key.generation())
    }

    #[inline]
    fn slot_mut(&mut self, key: Key) -> Option<&mut Slot<Req, T, E>> {
        self.slots.get_mut(key.index() as usize).filter(|slot| slot.generation == key.generation())
    }

    /// Takes a queued job out of the queue.
    #[inline]
    fn unlink(&mut self, index: u32, worker: usize) -> Option<Entry<Req>> {
        let slot = &mut self.slots[index as usize];
        let entry = slot.start(worker)?;
        let prev = if index == self.head { NONE } else { slot.prev };
        let next = slot.next;
        match self.slots.get_mut(prev as usize) {
            Some(slot) => slot.next = next,
            None => self.head = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(slot) => slot.prev = prev,
            None => self.tail = prev,
        }
        self.queued -= 1;
        Some(entry)
    }

    #[inline]
    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.next = self.free;
        self.free = index;
    }
}

// === impl Key ===

impl Key {
    /// One number, because two halves are slow to be read as a whole right after they were written.
    #[inline]
    const fn new(index: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | index as u64)
    }

    #[inline]
    const fn index(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

// === impl Slot ===

impl<Req, T, E> Slot<Req, T, E> {
    /// The job that is queued here, which runs from now on.
    #[inline(always)]
    fn start(&mut self, worker: usize) -> Option<Entry<Req>> {
        if !matches!(self.state, State::Queued(_)) {
            return None;
        }
        let running = State::Running(worker);
        let State::Queued(request) = std::mem::replace(&mut self.state, running) else {
            return None;
        };
        let span = std::mem::replace(&mut self.span, Span::NONE);
        Some(Entry { request, deadline: self.deadline, since: self.since, tag: self.tag, span })
    }

    #[cold]
    fn keep(&mut self, waker: &Waker) {
        match &mut self.owner {
            Owner::Caller(Some(old)) => old.clone_from(waker),
            owner => *owner = Owner::Caller(Some(waker.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push { run: bool },
        Pop,
        Take(usize),
        End(usize),
        Read(usize),
        Leave(usize, bool),
        LeaveRun,
    }

    /// A job as it ought to be.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Job {
        key: Key,
        request: u32,
        run: bool,
        left: bool,
        state: Stage,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Stage {
        Queued,
        Running,
        Ended,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let at = 0..10usize;
        let step = prop_oneof![
            3 => any::<bool>().prop_map(|run| Step::Push { run }),
            2 => Just(Step::Pop),
            1 => at.clone().prop_map(Step::Take),
            2 => at.clone().prop_map(Step::End),
            2 => at.clone().prop_map(Step::Read),
            1 => (at, any::<bool>()).prop_map(|(at, stay)| Step::Leave(at, stay)),
            1 => Just(Step::LeaveRun),
        ];
        prop::collection::vec(step, 0..200)
    }

    fn entry(request: u32) -> Entry<u32> {
        Entry { request, deadline: None, since: None, tag: Tag::default(), span: Span::NONE }
    }

    const WORKER: usize = 3;

    fn key_of_a_run() -> RunKey {
        stockade_core::internal::Queue::new().push_back(())
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_of_jobs(steps in steps()) {
            let run = key_of_a_run();
            let mut board: Board<u32, u32, ()> = Board::new(8);
            let mut jobs: Vec<Job> = Vec::new();
            let mut gone: Vec<Key> = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                let request = n as u32;
                let queued = |jobs: &[Job]| jobs.iter().position(|job| job.state == Stage::Queued);
                match step {
                    Step::Push { run: of_run } => {
                        let owner =
                            if of_run { Owner::Run(run, n as u64) } else { Owner::Caller(None) };
                        let key = board.push(entry(request), owner);
                        prop_assert!(!gone.contains(&key));
                        let state = Stage::Queued;
                        jobs.push(Job { key, request, run: of_run, left: false, state });
                    }
                    Step::Pop => {
                        let popped = board.pop(WORKER, |key, entry| (key, entry.request));
                        let first = queued(&jobs);
                        prop_assert_eq!(popped, first.map(|at| (jobs[at].key, jobs[at].request)));
                        if let Some(at) = first {
                            jobs[at].state = Stage::Running;
                        }
                    }
                    Step::Take(at) if at < jobs.len() => {
                        let taken = board.take(jobs[at].key, WORKER, |_, entry| entry.request);
                        let is_queued = jobs[at].state == Stage::Queued;
                        prop_assert_eq!(taken, is_queued.then_some(jobs[at].request));
                        if is_queued {
                            jobs[at].state = Stage::Running;
                        }
                    }
                    Step::End(at) if at < jobs.len() && jobs[at].state == Stage::Running => {
                        let Job { key, request, run: of_run, left, .. } = jobs[at];
                        let mut answer = Some(Ok(request));
                        let owner = board.end(key, &mut answer);
                        match owner {
                            Owner::Caller(_) => prop_assert!(!of_run && !left && answer.is_none()),
                            Owner::Run(..) => prop_assert!(of_run && !left && answer.is_some()),
                            Owner::Nobody => prop_assert!(left && answer.is_some()),
                        }
                        if of_run || left {
                            gone.push(jobs.remove(at).key);
                        } else {
                            jobs[at].state = Stage::Ended;
                        }
                    }
                    Step::Read(at) if at < jobs.len() && !jobs[at].run && !jobs[at].left => {
                        let Job { key, request, state, .. } = jobs[at];
                        let answer = board.read(key, Waker::noop());
                        prop_assert_eq!(answer, (state == Stage::Ended).then_some(Ok(request)));
                        if state == Stage::Ended {
                            gone.push(jobs.remove(at).key);
                        }
                    }
                    Step::Leave(at, stay) if at < jobs.len() && !jobs[at].run && !jobs[at].left => {
                        let Job { key, request, state, .. } = jobs[at];
                        match board.leave(key, stay).0 {
                            Some(Left::Queued(entry)) => {
                                prop_assert!(!stay && state == Stage::Queued);
                                prop_assert_eq!(entry.request, request);
                                gone.push(jobs.remove(at).key);
                            }
                            Some(Left::Running(worker)) => {
                                prop_assert_eq!((worker, state), (WORKER, Stage::Running));
                                jobs[at].left = true;
                            }
                            Some(Left::Ended(answer)) => {
                                prop_assert_eq!((answer, state), (Ok(request), Stage::Ended));
                                gone.push(jobs.remove(at).key);
                            }
                            None => {
                                prop_assert!(stay && state == Stage::Queued);
                                jobs[at].left = true;
                            }
                        }
                    }
                    Step::LeaveRun => {
                        let mut workers = Vec::new();
                        let mut out: Vec<u32> = board
                            .leave_run(run, &mut workers)
                            .into_iter()
                            .map(|entry| entry.request)
                            .collect();
                        out.sort_unstable();
                        let of_run = |job: &&Job| job.run && !job.left;
                        let queued = |job: &&Job| of_run(job) && job.state == Stage::Queued;
                        let expected: Vec<u32> =
                            jobs.iter().filter(queued).map(|job| job.request).collect();
                        prop_assert_eq!(out, expected);
                        let running = |job: &&Job| of_run(job) && job.state == Stage::Running;
                        prop_assert_eq!(workers.len(), jobs.iter().filter(running).count());
                        gone.extend(jobs.iter().filter(queued).map(|job| job.key));
                        jobs.retain(|job| !queued(&job));
                        jobs.iter_mut().filter(|job| job.run).for_each(|job| job.left = true);
                    }
                    _ => {}
                }
                let queued: Vec<&Job> =
                    jobs.iter().filter(|job| job.state == Stage::Queued).collect();
                prop_assert_eq!(board.queued(), queued.len());
                let head = board.slots.get(board.head as usize).map(|slot| &slot.state);
                let first = head.map(|state| match state {
                    State::Queued(request) => *request,
                    _ => unreachable!("what is at the head is queued"),
                });
                prop_assert_eq!(first, queued.first().map(|job| job.request));
                prop_assert!(gone.iter().all(|key| board.get(*key).is_none()));
            }
        }
    }
}
