//! The response future: an attempt, a wait, a service made ready, and again.
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
    mem::{self, ManuallyDrop},
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{Class, Classify, LayerError, attempts, deadline, internal::Moment};
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};
use tower_service::Service;

use crate::{
    CloneRequest, Idempotent, backoff::Waits, handle::GaveUp, service::Application, shared::Lease,
};

pin_project! {
    /// The answer of a call through [`Retry`](crate::Retry).
    ///
    /// Once it has been ready it holds nothing any more, but an attempt that succeeded at once: that one ended, and
    /// is dropped with it.
    ///
    /// # Panics
    ///
    /// When polled after it has been ready, and as [`Retry`](crate::Retry) tells.
    pub struct ResponseFuture<Req, S, C, I, K>
    where
        S: Service<Req>,
    {
        // Under way; or it was the first and only one, and has ended.
        #[pin]
        attempt: Option<S::Future>,
        call: Call<Req, S, S::Error, C, I, K>,
    }
}

/// What is between two attempts.
enum Between<S> {
    Sleeping(Pin<Box<Sleep>>),
    Readying(Box<S>),
}

/// What a call keeps over its attempts. Unless the call has ended it is dropped out of line, as with
/// [`Cold`](stockade_core::internal::Cold), and all of it by one question: whether the lease is there. `Cold` itself would
/// ask with a word of its own, or move all of it when it is taken.
struct Call<Req, S, E, C, I, K>(ManuallyDrop<Kept<Req, S, E, C, I, K>>);

struct Kept<Req, S, E, C, I, K> {
    /// Taken when the call ends.
    lease: Option<Lease<Application<S, C, I, K>>>,
    /// For the next attempt, if the request can be repeated.
    request: Option<Req>,
    /// When it is too late to begin another one.
    until: Moment,
    /// None until an attempt has failed: most calls carry no room for it about.
    failed: Option<Box<Failed<S, E>>>,
}

/// What a call keeps once an attempt has failed.
struct Failed<S, E> {
    /// How many attempts there were, with the one that is under way.
    attempts: u32,
    waits: Option<Waits>,
    /// The error to give up with, so far.
    error: Option<(Weight, E)>,
    /// While no attempt is under way.
    between: Option<Between<S>>,
}

/// Whose error it is. On giving up the last one of the greatest weight is the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// A layer inside did not let the call through.
    Refused,
    /// The instance for a further attempt did not become ready.
    Unready,
    /// The service failed.
    Failed,
}

const AFTER: &str = "a call is polled until it is ready, not after";
const FAILED: &str = "without an attempt, one has failed, and there will be another";

/// An attempt that has ended: its class, its result, and whether the request was sent.
type Ended<T, E> = (Class, Result<T, E>, bool);

/// What comes after an attempt.
enum Next<T> {
    Answer(T),
    /// Another attempt, after a wait until then.
    Wait(Instant),
    /// Another attempt at once.
    Begin,
}

// === impl ResponseFuture ===

impl<Req, S, C, I, K> ResponseFuture<Req, S, C, I, K>
where
    S: Service<Req>,
{
    #[inline]
    pub(crate) fn new(
        attempt: S::Future,
        request: Option<Req>,
        until: Moment,
        lease: Lease<Application<S, C, I, K>>,
    ) -> Self {
        let kept = Kept { lease: Some(lease), request, until, failed: None };
        Self { attempt: Some(attempt), call: Call(ManuallyDrop::new(kept)) }
    }
}

impl<Req, S, C, I, K> Future for ResponseFuture<Req, S, C, I, K>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    I: Idempotent<Req>,
    K: CloneRequest<Req>,
{
    type Output = Result<S::Response, S::Error>;

    /// The pass path: a first attempt that succeeds.
    // Left to itself the compiler calls, moves the future through memory, and takes twice as long.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let Some(attempt) = this.attempt.as_pin_mut() else {
            return self.poll_further(cx, None);
        };
        let call = this.call;
        assert!(!call.is_over(), "{AFTER}");
        // Told apart here and in each layer, so that a success moves nothing but itself, and not all that an
        // error has room for.
        let ended = match attempt.poll(cx) {
            Poll::Ready(Ok(response)) => match call.classify(Ok(&response)) {
                Class::Success if call.0.failed.is_none() => {
                    // The finished attempt itself goes with this future, because to take it apart now costs
                    // more than all the rest.
                    call.end();
                    return Poll::Ready(Ok(response));
                }
                class => (class, Ok(response), true),
            },
            Poll::Ready(Err(error)) => (call.classify(Err(&error)), Err(error), true),
            Poll::Pending => return Poll::Pending,
        };
        self.poll_further(cx, Some(ended))
    }
}

impl<Req, S, C, I, K> ResponseFuture<Req, S, C, I, K>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    I: Idempotent<Req>,
    K: CloneRequest<Req>,
{
    /// All other paths, which begin with an attempt that has ended, unless one is under way.
    // What comes back from a function that stays one lies in memory, and so would the answer of the pass path,
    // if this one did not come apart from it.
    #[inline(always)]
    fn poll_further(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        ended: Option<Ended<S::Response, S::Error>>,
    ) -> Poll<Result<S::Response, S::Error>> {
        let mut answer = None;
        ready!(self.poll_to_end(cx, ended, &mut answer));
        Poll::Ready(answer.expect("a call that has ended has an answer"))
    }

    #[cold]
    #[inline(never)]
    fn poll_to_end(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut ended: Option<Ended<S::Response, S::Error>>,
        answer: &mut Option<Result<S::Response, S::Error>>,
    ) -> Poll<()> {
        let mut this = self.project();
        let call = this.call;
        assert!(!call.is_over(), "{AFTER}");
        loop {
            if let Some((class, result, sent)) = ended.take() {
                // What the attempt held is free before anything else is done.
                this.attempt.set(None);
                if let Some(failed) = &mut call.0.failed {
                    failed.between = None;
                }
                match call.judge(class, result, sent) {
                    Next::Answer(result) => {
                        *answer = Some(result);
                        drop_apart(call);
                        return Poll::Ready(());
                    }
                    Next::Wait(until) => call.sleep(until),
                    Next::Begin => call.begin(),
                }
            }
            if let Some(attempt) = this.attempt.as_mut().as_pin_mut() {
                let result = ready!(attempt.poll(cx));
                ended = Some((call.classify(result.as_ref()), result, true));
                continue;
            }
            let between = &mut call.0.failed.as_mut().expect(FAILED).between;
            match between.as_mut().expect(FAILED) {
                Between::Sleeping(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    call.begin();
                }
                Between::Readying(service) => {
                    // A service that is always ready and always fails must not keep the thread.
                    let progress = ready!(coop::poll_proceed(cx));
                    let readiness = ready!(service.poll_ready(cx));
                    progress.made_progress();
                    match readiness {
                        Ok(()) => {
                            let Some(Between::Readying(mut service)) = between.take() else {
                                unreachable!("it was ready")
                            };
                            this.attempt.set(Some(service.call(call.next_request())));
                        }
                        Err(error) => ended = Some((call.classify(Err(&error)), Err(error), false)),
                    }
                }
            }
        }
    }
}

impl<Req, S, C, I, K> fmt::Debug for ResponseFuture<Req, S, C, I, K>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = self.call.0.failed.as_ref().and_then(|failed| failed.between.as_ref());
        let state = match between {
            _ if self.call.is_over() => "done",
            None => "calling",
            Some(Between::Sleeping(_)) => "sleeping",
            Some(Between::Readying(_)) => "readying",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .field("attempts", &self.call.attempts())
            .finish_non_exhaustive()
    }
}

// === impl Failed ===

impl<S, E> Default for Failed<S, E> {
    fn default() -> Self {
        Self { attempts: 1, waits: None, error: None, between: None }
    }
}

// === impl Call ===

impl<Req, S, E, C, I, K> Call<Req, S, E, C, I, K>
where
    E: LayerError,
    I: Idempotent<Req>,
    K: CloneRequest<Req>,
{
    #[inline]
    fn classify<T>(&self, result: Result<&T, &E>) -> Class
    where
        C: Classify<T, E>,
    {
        self.lease().policy.classify.classify(result)
    }

    fn judge<T>(&mut self, class: Class, result: Result<T, E>, sent: bool) -> Next<Result<T, E>> {
        if class == Class::Success {
            self.lease().state().recovered();
            return Next::Answer(result);
        }
        match (self.plan(class, sent), result) {
            (Ok(next), Ok(response)) => {
                // Its connection may be what the next attempt needs.
                drop(response);
                next
            }
            (Ok(next), Err(error)) => {
                let error = self.weightier(error, sent);
                self.0.failed.get_or_insert_default().error = Some(error);
                next
            }
            (Err(reason), result) => {
                self.lease().state().gave_up(reason);
                #[cfg(feature = "tracing")]
                tracing::debug!(
                    target: "stockade",
                    layer = "retry",
                    name = self.lease().policy.name,
                    reason = reason.as_str(),
                    attempts = self.attempts(),
                    class = ?class,
                    "gave up"
                );
                Next::Answer(result.map_err(|error| self.weightier(error, sent).1))
            }
        }
    }

    /// Whether there is another attempt, and when. What costs others something comes last: the token.
    fn plan<T>(&mut self, class: Class, sent: bool) -> Result<Next<T>, GaveUp> {
        let attempts = self.attempts();
        let Kept { lease, request, until, failed } = &mut *self.0;
        let lease = lease.as_ref().expect(AFTER);
        let policy = &lease.policy;
        if matches!(class, Class::Permanent | Class::Ignored) {
            return Err(GaveUp::Permanent);
        }
        if attempts >= policy.max_attempts {
            return Err(GaveUp::Exhausted);
        }
        let harmless = !sent || class.had_no_effect();
        match request {
            Some(request) if harmless || policy.idempotent.may_repeat(request) => {}
            _ => return Err(GaveUp::NotRepeatable),
        }
        let waits = &mut failed.get_or_insert_default().waits;
        let waits = waits.get_or_insert_with(|| Waits::new(lease.state().rng(policy.seed)));
        let wait = policy.backoff.wait(attempts, waits);
        let wait = wait.max(class.after().unwrap_or_default());
        let now = Instant::now();
        let then = deadline::saturating_add(now, wait);
        if until.get().is_some_and(|until| until < then) || deadline::is_too_late(then) {
            return Err(GaveUp::TooLate);
        }
        if !lease.retry(&policy.budget, now) {
            return Err(GaveUp::OverBudget);
        }
        #[cfg(feature = "tracing")]
        tracing::debug!(
            target: "stockade",
            layer = "retry",
            name = policy.name,
            attempt = attempts + 1,
            wait = ?wait,
            class = ?class,
            "retrying"
        );
        Ok(if wait.is_zero() { Next::Begin } else { Next::Wait(then) })
    }

    /// The error to give up with, now that there is another one.
    fn weightier(&mut self, error: E, sent: bool) -> (Weight, E) {
        let weight = match error.rejected() {
            Some(rejected) if rejected.is_refusal() => Weight::Refused,
            _ if !sent => Weight::Unready,
            _ => Weight::Failed,
        };
        match self.0.failed.as_mut().and_then(|failed| failed.error.take()) {
            Some(before) if before.0 > weight => before,
            _ => (weight, error),
        }
    }

    /// The request for an attempt that begins, which leaves a copy for the one after it.
    fn next_request(&mut self) -> Req {
        let request =
            self.0.request.take().expect("another attempt is planned only with a request");
        self.0.request = self.lease().policy.copy(self.attempts(), &request);
        request
    }
}

impl<Req, S, E, C, I, K> Call<Req, S, E, C, I, K> {
    fn lease(&self) -> &Lease<Application<S, C, I, K>> {
        self.0.lease.as_ref().expect(AFTER)
    }

    fn is_over(&self) -> bool {
        self.0.lease.is_none()
    }

    /// How many attempts there were, with the one that is under way.
    fn attempts(&self) -> u32 {
        self.0.failed.as_ref().map_or(1, |failed| failed.attempts)
    }

    /// Lets go of what a call keeps at its first attempt. It is over when the lease is gone, so that goes last.
    #[inline(always)]
    fn end(&mut self) {
        if mem::needs_drop::<Req>() {
            drop(self.0.request.take());
        }
        drop(self.0.lease.take());
    }
}

impl<Req, S, E, C, I, K> Drop for Call<Req, S, E, C, I, K> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.is_over() {
            drop_apart(self);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_apart<Req, S, E, C, I, K>(call: &mut Call<Req, S, E, C, I, K>) {
    let Kept { lease, request, failed, .. } = &mut *call.0;
    // Together, so that one that panics takes none of the others with it.
    drop((failed.take(), request.take(), lease.take()));
}

impl<Req, S: Clone, E, C, I, K> Call<Req, S, E, C, I, K> {
    /// Begins another attempt, with an instance that is still to become ready.
    fn begin(&mut self) {
        let instance = Box::new(self.lease().instance());
        let failed = self.0.failed.get_or_insert_default();
        failed.attempts += 1;
        failed.between = Some(Between::Readying(instance));
        attempts::record();
    }

    fn sleep(&mut self, until: Instant) {
        let sleeping = Between::Sleeping(Box::pin(sleep_until(until)));
        self.0.failed.get_or_insert_default().between = Some(sleeping);
    }
}
