use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{LayerError, deadline};
use tower_service::Service;

use crate::{
    LimitHandle, ResponseFuture,
    future::Slow,
    gate::Turn,
    meter::{Fixed, Measure, Meter},
    permit::{Permit, Ticket},
    state::State,
};

/// Lets at most so many calls be in flight at once; made by [`LimitLayer`](crate::LimitLayer).
///
/// - `poll_ready` is that of the service inside, and never refuses.
/// - `call` starts the call at once if there is room. Otherwise it joins the queue, where the response
///   future waits, and gives back the readiness that this instance held; or it refuses.
/// - A clone shares the limit, holds nothing and is not ready.
/// - Dropping the service changes nothing; dropping a response future frees its place at once.
#[derive(Debug)]
pub struct Limit<S, A = Fixed> {
    inner: S,
    state: Arc<State<A>>,
}

stockade_core::accessors!(Limit<S, A>);

// === impl Limit ===

impl<S, A: Meter> Limit<S, A> {
    pub(crate) fn new(inner: S, state: Arc<State<A>>) -> Self {
        Self { inner, state }
    }

    /// Shows and changes the limit of this service.
    pub fn handle(&self) -> LimitHandle {
        LimitHandle::new(Arc::clone(&self.state) as _)
    }

    /// There was no room at once. Who gets in after all is to have a permit.
    #[cold]
    #[inline(never)]
    fn join(&self) -> Result<A::Stamp, Outside<A>> {
        let state = Arc::clone(&self.state);
        if deadline::has_passed() {
            return Err(Outside::Expired(state));
        }
        let stamp = state.meter.stamp();
        match state.gate.enter_or_queue(state.queue) {
            Turn::Entered => Ok(stamp),
            Turn::Waits(key) => Err(Outside::Queued(Ticket::new(state, key))),
            Turn::Full => Err(Outside::Full(state)),
        }
    }

    #[cold]
    #[inline(never)]
    fn stay<Req>(&mut self, outside: Outside<A>, request: Req) -> Slow<S, Req, A>
    where
        S: Clone,
    {
        match outside {
            Outside::Queued(mut ticket) => {
                ticket.start();
                // Whoever waits here must not keep a place inside meanwhile: the instance that holds one
                // goes, and a fresh one takes its place.
                let fresh = self.inner.clone();
                drop(mem::replace(&mut self.inner, fresh));
                Slow::waiting(self.inner.clone(), request, ticket)
            }
            Outside::Full(state) => Slow::Full(state),
            Outside::Expired(state) => Slow::Expired(state),
        }
    }
}

/// What becomes of a call that does not get in.
enum Outside<A: Meter> {
    Queued(Ticket<A>),
    Full(Arc<State<A>>),
    Expired(Arc<State<A>>),
}

impl<S: Clone, A> Clone for Limit<S, A> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), state: Arc::clone(&self.state) }
    }
}

impl<S, Req, A> Service<Req> for Limit<S, A>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    A: Measure<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    // Left to itself the compiler calls, and moves the future through memory.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        // What comes back from a function that stays one lies in memory. So neither `join` nor `stay` hands on a
        // permit or a future, which would move all others through memory too; and there is one call of what is inside.
        let permit = match Permit::try_new(&self.state) {
            Some(permit) => permit,
            None => match self.join() {
                Ok(stamp) => Permit::new(&self.state, stamp),
                Err(outside) => return ResponseFuture::slow(self.stay(outside, request)),
            },
        };
        ResponseFuture::running(permit, || self.inner.call(request))
    }
}
