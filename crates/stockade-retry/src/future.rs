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
use stockade_core::{Class, Classify, Judged, LayerError};
use tower_service::Service;

use crate::{
    CloneRequest, Idempotent, Policy, Prepare,
    call::{AFTER, Call},
};

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
        attempt: Option<F>,
        // Nothing for a call that passes the layer by, and after a call that had further attempts.
        call: Option<Call<Req, S, E, P>>,
    }
}

// === impl ResponseFuture ===

impl<F, E, Req, S, P> ResponseFuture<F, E, Req, S, P> {
    /// Without a `call` it is not repeated.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) const fn new(attempt: F, call: Option<Call<Req, S, E, P>>) -> Self {
        Self { attempt: Some(attempt), call }
    }
}

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
        let answer = loop {
            if let Some(attempt) = this.attempt.as_mut().as_pin_mut() {
                // Not taken apart on the pass path, where it would be copied.
                let polled = attempt.poll(cx);
                let Poll::Ready(result) = &polled else { return Poll::Pending };
                let Some(call) = this.call.as_mut() else { return polled };
                let judged = call.judge(result.as_ref());
                if call.is_first() && judged == Judged::Answered(Class::Success) {
                    call.drop_request();
                    return polled;
                }
                let result = ready!(polled);
                // What the attempt held is free before anything else is done.
                this.attempt.set(None);
                if let Some(answer) = call.after(judged, result, true) {
                    break answer;
                }
            }
            let call = this.call.as_mut().expect(AFTER);
            if let Some(answer) = ready!(call.poll_between(this.attempt.as_mut(), cx)) {
                break answer;
            }
        };
        drop(this.call.take());
        Poll::Ready(answer)
    }
}

impl<F, E, Req, S, P> fmt::Debug for ResponseFuture<F, E, Req, S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (attempts, state) = match &self.call {
            None => (1, "done, or passing by"),
            Some(call) => call.shown(),
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .field("attempts", &attempts)
            .finish_non_exhaustive()
    }
}
