use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use stockade_core::{LayerError, Reason};

use crate::{
    board::{Key, Owner},
    places::{Place, Queued},
    pool::Handles,
};

/// Waits for a place in the queue, submits the request, and waits for the answer; made by
/// [`Pool::invoke`](crate::Pool::invoke).
///
/// # Cancel safety
///
/// Dropping it gives the place, or the wait for it, to the next, and cancels the job as dropping a
/// [`Job`](crate::Job) does.
#[must_use = "futures do nothing unless polled"]
pub struct Invoke<'a, Req, T, E> {
    pool: &'a Handles<Req, T, E>,
    state: State<Req>,
    place: Place,
}

/// `Wanted` -> `Accepted` when the job is queued, -> `Done` when it is answered or refused.
enum State<Req> {
    Wanted(Req),
    Accepted(Key),
    Done,
}

// === impl Invoke ===

impl<'a, Req, T, E> Invoke<'a, Req, T, E> {
    pub(crate) fn new(pool: &'a Handles<Req, T, E>, request: Req) -> Self {
        Self { pool, state: State::Wanted(request), place: Place::None }
    }
}

impl<Req, T, E: LayerError> Invoke<'_, Req, T, E> {
    /// Queues the job and leaves the waker with it, so that there is nothing to be done until it is answered.
    #[inline]
    fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<E> {
        let shared = &self.pool.shared;
        loop {
            let State::Wanted(request) = std::mem::replace(&mut self.state, State::Done) else {
                panic!("`Invoke` polled after it was ready");
            };
            let owner = Owner::Caller(Some(cx.waker().clone()));
            let (entry, reason) = match shared.push(shared.entry(request), owner, &mut self.place) {
                Ok(Queued { key, .. }) => {
                    self.state = State::Accepted(key);
                    return Poll::Pending;
                }
                Err(refused) => refused,
            };
            // To wait inside a job might be to wait for oneself.
            if reason == Reason::PoolClosed || shared.is_inside() {
                shared.leave_place(&mut self.place);
                return Poll::Ready(shared.rejected(reason).into_error());
            }
            let weight = entry.tag.weight;
            self.state = State::Wanted(entry.request);
            ready!(shared.poll_place(&mut self.place, weight, cx));
        }
    }
}

impl<Req, T, E: LayerError> Future for Invoke<'_, Req, T, E> {
    type Output = Result<T, E>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let State::Accepted(key) = self.state else {
            return self.poll_wanted(cx).map(Err);
        };
        let answer = ready!(self.pool.shared.poll_answer(key, cx));
        self.state = State::Done;
        Poll::Ready(answer)
    }
}

// Nothing in it is pinned.
impl<Req, T, E> Unpin for Invoke<'_, Req, T, E> {}

impl<Req, T, E> Drop for Invoke<'_, Req, T, E> {
    #[inline]
    fn drop(&mut self) {
        if !matches!(self.state, State::Done) {
            self.pool.shared.leave_place(&mut self.place);
            if let State::Accepted(key) = self.state {
                self.pool.shared.leave_job(key);
            }
        }
    }
}

impl<Req, T, E> fmt::Debug for Invoke<'_, Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invoke").field("place", &self.place).finish_non_exhaustive()
    }
}
