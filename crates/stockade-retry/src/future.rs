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
    time::Duration,
};

use pin_project_lite::pin_project;
use stockade_core::{Class, Classify, Judged, LayerError, deadline, internal::Cold, waits::Wait};
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};
use tower_service::Service;

use crate::{
    CloneRequest, Idempotent, Policy, Prepare,
    attempt::{Call, Ended, Next},
};

pin_project! {
    /// The answer of a call through [`Retry`](crate::Retry). `F` is the future of the service `S` inside, `E` its error.
    ///
    /// Once it is ready it holds nothing any more, except the inner future of an attempt that succeeded at once. That
    /// one has ended, and is dropped with it.
    ///
    /// # Panics
    ///
    /// It may panic when it is polled after it has been ready.
    pub struct ResponseFuture<F, E, Req, S, P> {
        // Under way; or it was the only one, and has ended.
        #[pin]
        attempt: Option<F>,
        // Nothing for a call that passes the layer by, and once it has ended.
        call: Cold<Call<Req, S, E, P>>,
    }
}

/// What is between two attempts.
pub(crate) enum Between<S> {
    Sleeping {
        sleep: Pin<Box<Sleep>>,
        // Reported when it is dropped, so that a breaker outside does not take it for slowness.
        _wait: Wait,
    },
    Readying(S),
}

const AFTER: &str = "a future is not polled again after it has been ready";

// === impl ResponseFuture ===

impl<F, E, Req, S, P> ResponseFuture<F, E, Req, S, P> {
    #[inline]
    pub(crate) const fn new(attempt: F, call: Call<Req, S, E, P>) -> Self {
        Self { attempt: Some(attempt), call: Cold::new(call) }
    }

    /// A call that is not repeated.
    pub(crate) const fn passing(attempt: F) -> Self {
        Self { attempt: Some(attempt), call: Cold::none() }
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

    // The pass path: a first attempt that succeeds. All else is in `poll_further`.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let Some(attempt) = this.attempt.as_pin_mut() else {
            return self.poll_further(cx, None);
        };
        let result = ready!(attempt.poll(cx));
        let Some(call) = this.call.get() else { return Poll::Ready(result) };
        let judged = call.judge(result.as_ref());
        if judged == Judged::Answered(Class::Success) && call.is_first() {
            drop(this.call.take());
            return Poll::Ready(result);
        }
        self.poll_further(cx, Some(Ended::new(judged, result)))
    }
}

impl<F, E, Req, S, C, I, K, P, B> ResponseFuture<F, E, Req, S, Policy<C, I, K, P, B>>
where
    F: Future<Output = Result<S::Response, E>>,
    S: Service<Req, Error = E, Future = F> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    I: Idempotent<Req>,
    K: CloneRequest<Req>,
    P: Prepare<Req, S::Response, S::Error>,
{
    /// Goes on with an attempt that has `ended`, or between two of them.
    #[cold]
    fn poll_further(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut ended: Option<Ended<S::Response, S::Error>>,
    ) -> Poll<Result<S::Response, S::Error>> {
        let mut this = self.project();
        let call = this.call.get_mut().expect(AFTER);
        let answer = loop {
            if let Some(ended) = ended.take() {
                // What the attempt held is free before anything else is done.
                this.attempt.set(None);
                match call.next(ended) {
                    Next::Answer(answer) => break answer,
                    Next::Attempt { after } => {
                        let between = Between::after(after, || call.begin());
                        call.further().expect(AFTER).between = Some(between);
                    }
                }
            }
            if let Some(attempt) = this.attempt.as_mut().as_pin_mut() {
                let result = ready!(attempt.poll(cx));
                ended = Some(Ended::new(call.judge(result.as_ref()), result));
                continue;
            }
            let between = &mut call.further().expect(AFTER).between;
            match between.as_mut().expect(AFTER) {
                Between::Sleeping { sleep, .. } => {
                    ready!(sleep.as_mut().poll(cx));
                    *between = None;
                    // The thread may have been blocked for longer than the wait.
                    if let Some(error) = call.too_late() {
                        break Err(error);
                    }
                    let instance = call.begin();
                    call.further().expect(AFTER).between = Some(Between::Readying(instance));
                }
                Between::Readying(service) => {
                    // A service that is always ready and always fails must not keep the thread.
                    let progress = ready!(coop::poll_proceed(cx));
                    let readiness = ready!(service.poll_ready(cx));
                    progress.made_progress();
                    let Some(Between::Readying(mut service)) = between.take() else {
                        unreachable!("it was ready")
                    };
                    match readiness {
                        Ok(()) => {
                            if let Some(error) = call.too_late() {
                                break Err(error);
                            }
                            this.attempt.set(Some(service.call(call.take_request())));
                        }
                        Err(error) => {
                            ended = Some(Ended::unready(call.judge(Err(&error)), error));
                        }
                    }
                }
            }
        };
        drop(this.call.take());
        Poll::Ready(answer)
    }
}

impl<F, E, Req, S, P> fmt::Debug for ResponseFuture<F, E, Req, S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.call.get().map(Call::between) {
            None => "done, or passing by",
            Some(None) => "calling",
            Some(Some(Between::Sleeping { .. })) => "sleeping",
            Some(Some(Between::Readying(_))) => "readying",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .field("attempts", &self.call.get().map_or(1, Call::attempts))
            .finish_non_exhaustive()
    }
}

// === impl Between ===

impl<S> Between<S> {
    /// Sleeps, unless there is nothing to wait for.
    fn after(wait: Duration, instance: impl FnOnce() -> S) -> Self {
        if wait.is_zero() {
            return Self::Readying(instance());
        }
        let until = deadline::saturating_add(Instant::now(), wait);
        Self::Sleeping { sleep: Box::pin(sleep_until(until)), _wait: Wait::start() }
    }
}
