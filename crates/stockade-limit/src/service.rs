use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::{LayerError, Lease, Reason, Shared, deadline};
use tower_service::Service;

use crate::{
    LimitHandle, ResponseFuture,
    future::{Permit, Ticket},
    gate::Turn,
    layer::State,
};

/// Lets at most so many calls be in flight at once; made by [`LimitLayer`](crate::LimitLayer).
///
/// - `poll_ready` is that of the service inside, and never refuses.
/// - `call` starts the call at once if there is room. Otherwise it joins the queue, where the response
///   future waits, and gives back the readiness that this instance held; or it refuses.
/// - A clone shares the limit, holds nothing and is not ready.
/// - Dropping the service changes nothing; dropping a response future frees its place at once.
#[derive(Clone, Debug)]
pub struct Limit<S> {
    inner: S,
    state: Shared<State>,
}

stockade_core::accessors!(Limit<S>);

// === impl Limit ===

impl<S> Limit<S> {
    pub(crate) fn new(inner: S, state: Arc<State>) -> Self {
        Self { inner, state: Shared::new(state) }
    }

    /// Shows and changes the limit of this service.
    pub fn handle(&self) -> LimitHandle {
        LimitHandle::new(Arc::clone(self.state.state()))
    }

    #[cold]
    #[inline(never)]
    fn queue<Req>(&mut self, state: Lease<State>, request: Req) -> ResponseFuture<S, Req>
    where
        S: Service<Req> + Clone,
    {
        if deadline::has_passed() {
            return ResponseFuture::refused(state.rejected(Reason::Expired));
        }
        match state.gate.enter_or_queue() {
            Turn::Entered => {
                let permit = Permit::new(state);
                ResponseFuture::running(self.inner.call(request), permit)
            }
            Turn::Waits(key) => {
                let ticket = Ticket::new(state, key);
                // Whoever waits here must not keep a place inside meanwhile: the instance that holds one
                // goes, and a fresh one takes its place.
                let fresh = self.inner.clone();
                drop(mem::replace(&mut self.inner, fresh));
                ResponseFuture::waiting(self.inner.clone(), request, ticket)
            }
            Turn::Full => ResponseFuture::refused(state.rejected(Reason::QueueFull)),
        }
    }
}

impl<S, Req> Service<Req> for Limit<S>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let state = self.state.lease();
        if state.gate.try_enter() {
            let permit = Permit::new(state);
            ResponseFuture::running(self.inner.call(request), permit)
        } else {
            self.queue(state, request)
        }
    }
}
