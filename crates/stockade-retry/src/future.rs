//! The response future: an attempt, a wait, an instance made ready, and again.
//!
//! ```text
//!              failed, and to be repeated      woke up              ready
//!   Calling ------------------------> Sleeping ------> Readying ----------> Calling
//!      |                              (or at once)         |
//!      | succeeded, or given up                            | failed: counts as an attempt
//!      v                                                   v
//!    Done <------------------------------------------------+--> Sleeping
//! ```

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{Classify, LayerError};
use tower_service::Service;

use crate::{CloneRequest, Idempotent, Policy, Prepare, call::Call};

pin_project! {
    /// The answer of a call through [`Retry`](crate::Retry). `F` is the future of the service `S` inside, `E` its error.
    ///
    /// Once it is ready it holds no request and no instance of the service any more. The inner future of an attempt that
    /// succeeded at once has ended, and is dropped with it.
    ///
    /// # Panics
    ///
    /// It may panic when it is polled after it has been ready.
    pub struct ResponseFuture<F, E, Req, S, P> {
        // Under way; or it was the only one, and has ended.
        #[pin]
        pub(crate) attempt: Option<F>,
        pub(crate) call: Call<Req, S, E, P>,
    }
}

// === impl ResponseFuture ===

impl<F, E, Req, S, C, I, K, P, B> Future for ResponseFuture<F, E, Req, S, Policy<C, I, K, P, B>>
where
    F: Future<Output = Result<S::Response, E>>,
    S: Service<Req, Error = E, Future = F> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    I: Idempotent<Req>,
    K: CloneRequest<Req>,
    P: Prepare<Req, S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Some(attempt) = this.attempt.as_mut().as_pin_mut() {
                // Not taken apart on the pass path, where it would be copied.
                let polled = attempt.poll(cx);
                let Poll::Ready(result) = &polled else { return Poll::Pending };
                let Some(judged) = this.call.judge(result) else {
                    this.call.drop_request();
                    return polled;
                };
                let ends = this.call.ends(judged, result, true);
                // What the attempt held is free before the call goes on.
                this.attempt.set(None);
                if ends {
                    this.call.end();
                    return polled;
                }
                // A response is dropped before the wait, because its connection may be what the next attempt needs.
                if let Poll::Ready(Err(error)) = polled {
                    this.call.keep(error);
                }
            }
            if let Some(error) = ready!(this.call.poll_between(this.attempt.as_mut(), cx)) {
                this.call.end();
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl<F, E, Req, S, P> fmt::Debug for ResponseFuture<F, E, Req, S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (attempts, state) = self.call.shown();
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .field("attempts", &attempts)
            .finish_non_exhaustive()
    }
}
