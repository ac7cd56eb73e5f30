//! The response future.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{LayerError, Rejected, deadline};
use tower_service::Service;

use crate::in_use::{InUse, Used};

pin_project! {
    /// The answer of a [`Keyed`](crate::Keyed).
    ///
    /// It first waits for the stack of the call's key to be ready, and then for its answer.
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready, or after a panic of the stack.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the call. Its key is no longer in use by it.
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req, S::Future>,
        // After the state, so that what the call holds is given back before its key is no longer in use.
        in_use: Option<InUse<dyn Used>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, F> {
        // The request is taken when the call starts.
        Starting { stack: S, request: Option<Req>, has_waited: bool },
        Calling { #[pin] future: F },
        // Taken when it is told.
        Refused { rejected: Option<Rejected> },
        Done,
    }
}

const AFTER: &str = "`ResponseFuture` polled after it was ready";

// === impl ResponseFuture ===

impl<S: Service<Req>, Req> ResponseFuture<S, Req> {
    pub(crate) fn starting(stack: S, request: Req, in_use: InUse<dyn Used>) -> Self {
        let state = State::Starting { stack, request: Some(request), has_waited: false };
        Self { state, in_use: Some(in_use) }
    }

    pub(crate) fn refused(rejected: Rejected) -> Self {
        Self { state: State::Refused { rejected: Some(rejected) }, in_use: None }
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Error: LayerError,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = loop {
            match this.state.as_mut().project() {
                StateProj::Starting { stack, request, has_waited } => match stack.poll_ready(cx) {
                    Poll::Pending => {
                        *has_waited = true;
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => break Err(error),
                    Poll::Ready(Ok(())) if *has_waited && deadline::has_passed() => {
                        let in_use = this.in_use.as_ref().expect(AFTER);
                        break Err(in_use.expired().into_error());
                    }
                    Poll::Ready(Ok(())) => {
                        let future = stack.call(request.take().expect(AFTER));
                        this.state.set(State::Calling { future });
                    }
                },
                StateProj::Calling { future } => break ready!(future.poll(cx)),
                StateProj::Refused { rejected } => {
                    break Err(rejected.take().expect(AFTER).into_error());
                }
                StateProj::Done => panic!("{AFTER}"),
            }
        };
        // A finished future holds nothing.
        this.state.set(State::Done);
        if let Some(in_use) = this.in_use.take()
            && let Err(error) = &result
            && error.rejected().is_some_and(Rejected::is_refusal)
        {
            in_use.refused();
        }
        Poll::Ready(result)
    }
}

impl<S: Service<Req>, Req> fmt::Debug for ResponseFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Starting { .. } => "starting",
            State::Calling { .. } => "calling",
            State::Refused { .. } => "refused",
            State::Done => "done",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
