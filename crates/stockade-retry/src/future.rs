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
        #[pin]
        pub(crate) state: State<F, S>,
        pub(crate) call: Call<Req, S, E, P>,
    }
}

pin_project! {
    #[project = StateProj]
    pub(crate) enum State<F, S> {
        // An attempt is under way; or it was the only one, and has ended.
        Calling { #[pin] attempt: F },
        // The call waits before the next attempt, or has ended.
        Sleeping,
        // An instance gets ready for the next attempt.
        Readying { service: S },
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
        let _paid = this.call.paid();
        let mut answer = loop {
            let next = match this.state.as_mut().project() {
                StateProj::Calling { attempt } => {
                    // Not taken apart on the pass path, where it would be copied.
                    let polled = attempt.poll(cx);
                    let Poll::Ready(result) = &polled else { return Poll::Pending };
                    let Some(judged) = this.call.judge(result) else {
                        // All else is dropped with the future: what is done between the answer and its return has
                        // it copied.
                        this.call.request = None;
                        return polled;
                    };
                    if !this.call.repeats(judged, result, true) {
                        break polled;
                    }
                    // A response is dropped before the wait, because its connection may be what the next attempt needs.
                    if let Poll::Ready(result) = polled {
                        this.call.keep(result);
                    }
                    State::Sleeping
                }
                StateProj::Sleeping => {
                    let (course, origin, rules) = this.call.further();
                    match ready!(course.poll_begin(&rules, cx)) {
                        Ok(()) => State::Readying { service: origin.instance() },
                        Err(error) => break Poll::Ready(Err(error)),
                    }
                }
                StateProj::Readying { service } => match ready!(service.poll_ready(cx)) {
                    Ok(()) => {
                        let (course, _, rules) = this.call.further();
                        if let Err(error) = course.in_time(&rules) {
                            break Poll::Ready(Err(error));
                        }
                        State::Calling { attempt: this.call.start(service) }
                    }
                    Err(unready) => {
                        let result = Err(unready);
                        match this.call.judge(&result) {
                            Some(judged) if this.call.repeats(judged, &result, false) => {
                                this.call.keep(result);
                            }
                            _ => break Poll::Ready(result),
                        }
                        State::Sleeping
                    }
                },
            };
            enter(this.state.as_mut(), next);
        };
        enter(this.state, State::Sleeping);
        this.call.end(&mut answer);
        answer
    }
}

/// Apart, because an unoptimized build has a copy of `Pin::set` wherever that is used.
fn enter<F, S>(mut state: Pin<&mut State<F, S>>, next: State<F, S>) {
    state.set(next);
}

impl<F, E, Req, S, P> fmt::Debug for ResponseFuture<F, E, Req, S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Calling { .. } => "calling, or done",
            State::Sleeping => "sleeping",
            State::Readying { .. } => "readying",
        };
        let attempts = self.call.course.as_ref().map_or(1, |course| course.attempts());
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .field("attempts", &attempts)
            .finish_non_exhaustive()
    }
}
