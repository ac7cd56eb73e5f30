//! One call that several callers wait for.
//!
//! There is no task behind it: the callers poll it. A waker of its own is handed to the call, and wakes all of
//! them, so none depends on another one being polled: the first to come takes the call, polls it, and puts it
//! back. A caller that finds it taken has left its waker before it looked, so it hears of what comes next.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Wake, Waker},
};

use stockade_core::{
    deadline,
    internal::{
        Key, Queue, lock,
        sync::{
            Mutex,
            atomic::{AtomicBool, Ordering::SeqCst},
        },
        wake,
    },
};

/// One call that several callers wait for.
pub(crate) struct Work<F: Future> {
    bell: Arc<Bell>,
    stage: Mutex<Stage<F>>,
    result: OnceLock<F::Output>,
}

enum Stage<F> {
    /// It is not begun yet, or a caller has taken it to poll it.
    Taken,
    Idle(Pin<Box<F>>),
    /// Its result is there.
    Done,
    /// It panicked. The caller whose request it was gets the panic.
    Lost(Option<Box<dyn Any + Send>>),
}

/// The waker of the call.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    callers: Mutex<Queue<Waker>>,
}

/// What a caller hears when it polls.
pub(crate) enum Heard {
    /// The result is there.
    Done,
    /// There will be none.
    Lost,
}

// === impl Work ===

impl<F: Future> Work<F> {
    pub(crate) fn new() -> Self {
        let stage = Mutex::new(Stage::Taken);
        Self { bell: Arc::default(), stage, result: OnceLock::new() }
    }

    /// The call is on its way.
    pub(crate) fn begin(&self, future: F) {
        self.put(Stage::Idle(Box::pin(future)));
        self.bell.ring();
    }

    /// There will be no result.
    pub(crate) fn lose(&self) {
        self.put(Stage::Lost(None));
        self.bell.ring();
    }

    /// The panic that ended it, for the first to ask.
    pub(crate) fn panic(&self) -> Option<Box<dyn Any + Send>> {
        match &mut *lock(&self.stage) {
            Stage::Lost(panic) => panic.take(),
            _ => None,
        }
    }

    /// The result, once it is there. For the last caller it is not cloned.
    pub(crate) fn result(self: Arc<Self>) -> Option<F::Output>
    where
        F::Output: Clone,
    {
        match Arc::try_unwrap(self) {
            Ok(work) => work.result.into_inner(),
            Err(work) => work.result.get().cloned(),
        }
    }

    /// Forgets a caller that no longer waits.
    pub(crate) fn forget(&self, key: Key) {
        let waker = lock(&self.bell.callers).remove(key);
        drop(waker);
    }

    /// Polls the call, unless another caller does. `ended` runs before the others hear that it has ended.
    pub(crate) fn poll(
        &self,
        key: &mut Option<Key>,
        cx: &mut Context<'_>,
        ended: impl FnOnce(),
    ) -> Poll<Heard> {
        self.bell.register(key, cx.waker());
        let mut future = {
            let mut stage = lock(&self.stage);
            match &mut *stage {
                Stage::Taken => return Poll::Pending,
                Stage::Done => return Poll::Ready(Heard::Done),
                Stage::Lost(_) => return Poll::Ready(Heard::Lost),
                Stage::Idle(_) => {}
            }
            let Stage::Idle(future) = std::mem::replace(&mut *stage, Stage::Taken) else {
                unreachable!("it was idle")
            };
            future
        };
        self.bell.rung.store(false, SeqCst);
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut inner = Context::from_waker(&waker);
        // The callers' deadlines differ, so the call sees none.
        let poll = || deadline::hidden(|| future.as_mut().poll(&mut inner));
        let polled = catch_unwind(AssertUnwindSafe(poll));
        if let Ok(Poll::Pending) = polled {
            self.put(Stage::Idle(future));
            // It was woken while it was polled, when no other caller could take it.
            if self.bell.rung.load(SeqCst) {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        // What the call held is given back before any caller hears of its end. If that panics, this caller gets
        // the panic, and the others get the result all the same.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        let (stage, heard) = match polled {
            Ok(Poll::Ready(result)) => {
                let _ = self.result.set(result);
                (Stage::Done, Heard::Done)
            }
            Ok(Poll::Pending) => unreachable!("it returned above"),
            Err(panic) => (Stage::Lost(Some(panic)), Heard::Lost),
        };
        self.put(stage);
        ended();
        self.bell.ring();
        if let Err(panic) = dropped {
            resume_unwind(panic);
        }
        Poll::Ready(heard)
    }

    fn put(&self, stage: Stage<F>) {
        let old = std::mem::replace(&mut *lock(&self.stage), stage);
        drop(old);
    }
}

// === impl Bell ===

impl Bell {
    fn ring(&self) {
        self.rung.store(true, SeqCst);
        // One lock a waker, and no memory for all of them: a caller that comes meanwhile is woken too.
        let callers = lock(&self.callers).len();
        for _ in 0..callers {
            let waker = lock(&self.callers).pop_front();
            waker.into_iter().for_each(wake);
        }
    }

    /// Leaves the waker of a caller. No waker is cloned or dropped under the lock.
    fn register(&self, key: &mut Option<Key>, waker: &Waker) {
        let new = waker.clone();
        let mut callers = lock(&self.callers);
        let old = match key.and_then(|key| callers.get_mut(key)) {
            Some(old) => Some(std::mem::replace(old, new)),
            None => {
                *key = Some(callers.push_back(new));
                None
            }
        };
        drop(callers);
        drop(old);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
