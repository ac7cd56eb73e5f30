//! A hand-written semaphore: permits, and a queue for them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use super::Breach;

pub(crate) struct Line {
    state: Mutex<State>,
    breach: Breach,
}

struct State {
    free: usize,
    held: usize,
    closed: bool,
    next: u64,
    waiting: VecDeque<(u64, Waker)>,
    granted: Vec<u64>,
}

pub(crate) struct Permit(Arc<Line>);

/// A place in the queue. Dropping it leaves the queue.
pub(crate) struct Place {
    line: Arc<Line>,
    key: u64,
    done: bool,
}

#[derive(Debug)]
pub(crate) struct Closed;

// === impl Line ===

impl Line {
    pub(crate) fn new(permits: usize, breach: Breach) -> Arc<Self> {
        let state = State {
            free: permits,
            held: 0,
            closed: false,
            next: 0,
            waiting: VecDeque::new(),
            granted: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), breach })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics under it")
    }

    pub(crate) fn try_permit(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.state();
        if state.closed || state.free == 0 {
            return None;
        }
        state.free -= 1;
        Some(Permit(Arc::clone(self)))
    }

    pub(crate) fn place(self: &Arc<Self>) -> Place {
        let mut state = self.state();
        state.next += 1;
        Place { line: Arc::clone(self), key: state.next, done: false }
    }

    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        if self.breach != Breach::LeavesWaitersOnClose {
            state.waiting.drain(..).for_each(|(_, waker)| waker.wake());
        }
    }

    /// Takes all free permits away.
    pub(crate) fn hold(&self) {
        let mut state = self.state();
        state.held += std::mem::take(&mut state.free);
    }

    /// Brings them back. Wakes the first waiter, which wakes the next one when it ends, and so on.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        let held = std::mem::take(&mut state.held);
        state.free += held.saturating_sub(1);
        drop(state);
        if held > 0 {
            self.give_back();
        }
    }

    fn give_back(&self) {
        let mut state = self.state();
        let next = match self.breach {
            // After closing, no permit is granted, so that only the wake ends the wait.
            _ if state.closed => None,
            Breach::LastComesFirst => state.waiting.pop_back(),
            _ => state.waiting.pop_front(),
        };
        match next {
            None => state.free += 1,
            Some((key, waker)) => {
                state.granted.push(key);
                waker.wake();
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

// === impl Place ===

impl Place {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, Closed>> {
        let mut state = self.line.state();
        let granted = state.granted.iter().position(|key| *key == self.key);
        if let Some(granted) = granted {
            state.granted.swap_remove(granted);
        } else if state.closed {
            self.done = true;
            return Poll::Ready(Err(Closed));
        } else if state.free > 0 {
            state.free -= 1;
            state.waiting.retain(|(key, _)| *key != self.key);
        } else {
            match state.waiting.iter_mut().find(|(key, _)| *key == self.key) {
                Some(_) if self.line.breach == Breach::FirstWakerOnly => {}
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None => state.waiting.push_back((self.key, cx.waker().clone())),
            }
            if self.line.breach == Breach::WakesItself {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        self.done = true;
        Poll::Ready(Ok(Permit(Arc::clone(&self.line))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.line.state();
        state.waiting.retain(|(key, _)| *key != self.key);
        let granted = state.granted.iter().position(|key| *key == self.key);
        let Some(granted) = granted else { return };
        state.granted.swap_remove(granted);
        if self.line.breach == Breach::SwallowsWake {
            state.free += 1;
        } else {
            drop(state);
            self.line.give_back();
        }
    }
}
