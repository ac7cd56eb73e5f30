//! The response future.

use std::{
    fmt,
    hash::Hash,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{Bypass, internal::lock};
use tower_service::Service;

use crate::{Coalesce, calls::Caller};

pin_project! {
    /// The answer of a [`Coalesce`](crate::Coalesce).
    ///
    /// # Panics
    ///
    /// If the call that it began panicked, and if it is polled after it was ready.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the call to the other callers of its key.
    pub struct ResponseFuture<S, Req, K, F, B>
    where
        S: Service<Req>,
        K: Hash,
        K: Eq,
    {
        #[pin]
        state: State<S, Req, K, F, B, S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, K, F, B, A>
    where
        S: Service<Req>,
        K: Hash,
        K: Eq,
    {
        // The call shares its answer with nobody.
        Passing { #[pin] future: A },
        // The caller is taken when the call has ended. The one that began the call has nothing to make it anew with.
        Sharing { caller: Option<Caller<K, S::Future>>, spare: Option<Spare<S, Req, K, F, B>> },
        // The call panicked. The request is taken when it is made anew.
        Readying { service: Coalesce<S, Req, K, F, B>, request: Option<Req> },
    }
}

/// What is needed to make a call anew.
type Spare<S, Req, K, F, B> = (Coalesce<S, Req, K, F, B>, Req);

const AFTER: &str = "`ResponseFuture` polled after it was ready";

// === impl ResponseFuture ===

impl<S: Service<Req>, Req, K: Hash + Eq, F, B> ResponseFuture<S, Req, K, F, B> {
    pub(crate) const fn passing(future: S::Future) -> Self {
        Self { state: State::Passing { future } }
    }

    pub(crate) const fn sharing(
        caller: Caller<K, S::Future>,
        spare: Option<Spare<S, Req, K, F, B>>,
    ) -> Self {
        Self { state: State::Sharing { caller: Some(caller), spare } }
    }
}

impl<S, Req, K, F, B> Future for ResponseFuture<S, Req, K, F, B>
where
    S: Service<Req> + Clone,
    S::Response: Clone,
    S::Error: Clone,
    K: Hash + Eq + Clone,
    F: Fn(&Req) -> K + Clone,
    B: Bypass<Req> + Clone,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Passing { future } => return future.poll(cx),
                StateProj::Sharing { caller, spare } => {
                    ready!(caller.as_mut().expect(AFTER).poll(cx));
                    match (caller.take().expect(AFTER).end(), spare.take()) {
                        (Ok(result), _) => return Poll::Ready(result),
                        (Err(_), Some((service, request))) => {
                            State::Readying { service, request: Some(request) }
                        }
                        (Err(panic), None) => resume_unwind(lock(&panic).take().expect(AFTER)),
                    }
                }
                StateProj::Readying { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    service.call(request.take().expect(AFTER)).state
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Req>, Req, K: Hash + Eq, F, B> fmt::Debug for ResponseFuture<S, Req, K, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Passing { .. } => "passing",
            State::Sharing { caller: Some(_), .. } => "sharing",
            State::Sharing { caller: None, .. } => "done",
            State::Readying { .. } => "readying",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
