//! One call that several callers wait for.
//!
//! There is no task behind it: the callers poll it. A waker of its own is handed to the call, and wakes all of
//! them, so none depends on another one being polled: the first to come takes the call, polls it, and puts it
//! back. A caller that finds it taken has left its waker before it looked, so it hears of what comes next. A caller that
//! leaves wakes another one, which may have come while it held the call.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Wake, Waker},
};

use stockade_core::{
    deadline,
    internal::{Key, Queue, lock, sync::Mutex, wake},
};

/// One call that several callers wait for.
pub(crate) struct Work<F: Future> {
    /// None before it is begun, while a caller polls it, and when it has ended.
    future: Mutex<Option<Pin<Box<F>>>>,
    ended: OnceLock<Ended<F>>,
    bell: Arc<Bell>,
}

/// How a call has ended: with its result, or with a panic.
pub(crate) type Ended<F> = Result<<F as Future>::Output, Panic>;

/// It is for the caller whose request it was; there is none if that one has it already.
pub(crate) type Panic = Arc<Mutex<Option<Box<dyn Any + Send>>>>;

/// The waker of the call.
#[derive(Default)]
struct Bell(Mutex<Queue<Waker>>);

// === impl Work ===

impl<F: Future> Work<F> {
    pub(crate) fn new() -> Self {
        Self { future: Mutex::default(), ended: OnceLock::new(), bell: Arc::default() }
    }

    /// The call is on its way.
    pub(crate) fn begin(&self, future: F) {
        *lock(&self.future) = Some(Box::pin(future));
        self.bell.ring();
    }

    pub(crate) fn end(&self, ended: Ended<F>) {
        // It ends once.
        let _ = self.ended.set(ended);
        self.bell.ring();
    }

    /// How it has ended. For the last caller the result is not cloned.
    pub(crate) fn ended(self: Arc<Self>) -> Option<Ended<F>>
    where
        F::Output: Clone,
    {
        match Arc::try_unwrap(self) {
            Ok(work) => work.ended.into_inner(),
            Err(work) => work.ended.get().cloned(),
        }
    }

    /// A caller no longer waits.
    pub(crate) fn forget(&self, key: Option<Key>) {
        let waker = key.and_then(|key| lock(&self.bell.0).remove(key));
        drop(waker);
        if self.ended.get().is_none() {
            self.bell.ring_once();
        }
    }

    /// Polls the call, unless another caller does. Ready when it has ended, of which the others hear after `ended`.
    pub(crate) fn poll(
        &self,
        key: &mut Option<Key>,
        cx: &mut Context<'_>,
        ended: impl FnOnce(),
    ) -> Poll<()> {
        self.bell.register(key, cx.waker());
        let taken = lock(&self.future).take();
        let Some(mut future) = taken else {
            return if self.ended.get().is_some() { Poll::Ready(()) } else { Poll::Pending };
        };
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut inner = Context::from_waker(&waker);
        // The callers' deadlines differ, so the call sees none.
        let poll = || deadline::hidden(|| future.as_mut().poll(&mut inner));
        let end = match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => {
                *lock(&self.future) = Some(future);
                return Poll::Pending;
            }
            Ok(Poll::Ready(result)) => Ok(result),
            Err(panic) => Err(Arc::new(Mutex::new(Some(panic)))),
        };
        // What the call held is given back before any caller hears of its end. If that panics, this caller gets
        // the panic, and the others get the result all the same.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        ended();
        self.end(end);
        if let Err(panic) = dropped {
            resume_unwind(panic);
        }
        Poll::Ready(())
    }
}

// === impl Bell ===

impl Bell {
    fn ring(&self) {
        // One lock a waker, and no memory for all of them: a caller that comes while others are woken is woken too.
        let callers = lock(&self.0).len();
        (0..callers).for_each(|_| self.ring_once());
    }

    fn ring_once(&self) {
        let waker = lock(&self.0).pop_front();
        waker.into_iter().for_each(wake);
    }

    /// Leaves the waker of a caller. No waker is cloned or dropped under the lock.
    fn register(&self, key: &mut Option<Key>, waker: &Waker) {
        let new = waker.clone();
        let mut callers = lock(&self.0);
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
