//! What a pool costs at least: a bare prototype without any of its features.
//!
//! One lock over the queue and those who sleep, one cell a job under a lock of its own, one job taken at a time, one
//! worker woken at a time. It cannot be closed, cancelled, bounded or watched, and a panic is its end.

use std::{
    collections::VecDeque,
    hint::black_box,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::drive::Caller;

/// A pool of workers that do nothing.
#[derive(Clone, Debug)]
pub struct Floor(Arc<Mutex<Core>>);

#[derive(Debug, Default)]
struct Core {
    queue: VecDeque<(u64, Arc<Mutex<Cell>>)>,
    sleepers: Vec<Waker>,
    /// A sleeper has been woken and has not arrived yet.
    waking: bool,
}

/// Where a job is answered.
#[derive(Debug, Default)]
struct Cell {
    answer: Option<u64>,
    caller: Option<Waker>,
}

struct Worker {
    core: Arc<Mutex<Core>>,
    asleep: bool,
}

struct Job(Arc<Mutex<Cell>>);

/// How many jobs in a row a worker runs before it lets others have the thread.
const TURN: u32 = 64;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Floor ===

impl Floor {
    /// Starts it, inside a runtime. Its workers stay until the runtime ends.
    pub fn new(workers: usize) -> Self {
        let floor = Self(Arc::default());
        for _ in 0..workers {
            tokio::spawn(Worker { core: Arc::clone(&floor.0), asleep: false });
        }
        floor
    }

    fn submit(&self, request: u64) -> Job {
        let cell = Arc::default();
        let mut core = lock(&self.0);
        core.queue.push_back((request, Arc::clone(&cell)));
        let worker = core.wake_one();
        drop(core);
        worker.into_iter().for_each(Waker::wake);
        Job(cell)
    }
}

impl Caller for Floor {
    async fn call(&mut self, n: u64) {
        black_box(black_box(&*self).submit(n).await);
    }
}

// === impl Core ===

impl Core {
    fn wake_one(&mut self) -> Option<Waker> {
        if self.waking || self.queue.is_empty() {
            return None;
        }
        let worker = self.sleepers.pop();
        self.waking = worker.is_some();
        worker
    }
}

// === impl Worker ===

impl Future for Worker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { core, asleep } = &mut *self;
        for _ in 0..TURN {
            let mut core = lock(core);
            if std::mem::take(asleep) {
                core.waking = false;
            }
            let Some((request, cell)) = core.queue.pop_front() else {
                core.sleepers.push(cx.waker().clone());
                *asleep = true;
                return Poll::Pending;
            };
            let worker = core.wake_one();
            drop(core);
            worker.into_iter().for_each(Waker::wake);
            let mut answered = lock(&cell);
            answered.answer = Some(black_box(request));
            let caller = answered.caller.take();
            drop(answered);
            drop(cell);
            caller.into_iter().for_each(Waker::wake);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

// === impl Job ===

impl Future for Job {
    type Output = u64;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        let mut cell = lock(&self.0);
        match cell.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                cell.caller = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
