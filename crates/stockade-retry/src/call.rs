//! What a call keeps beside the attempt that is under way.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use stockade_core::{Class, Classify, Judged, LayerError, Reason, Rejected, deadline, waits::Wait};
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};
use tower_service::Service;

use crate::{CloneRequest, Idempotent, Policy, Prepare, account::Origin, course::Course};

/// What a call keeps until it ends.
pub(crate) struct Call<Req, S, E, P> {
    origin: Arc<Origin<S, P>>,
    /// For the next attempt, if the request can be repeated.
    request: Option<Req>,
    /// No attempt starts then or later.
    until: Option<Instant>,
    /// Boxed, because most calls have no further attempt.
    further: Option<Box<Further<S, E>>>,
}

/// What a call keeps once it needs another attempt.
struct Further<S, E> {
    course: Course,
    /// The error to give up with, so far.
    error: Option<(Weight, E)>,
    /// While it waits for the next attempt.
    nap: Option<Nap>,
    /// While it gets ready for the next attempt.
    instance: Option<S>,
}

/// Whose error it is. The answer after giving up is the last one of the greatest weight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// A layer inside refused the call.
    Refused,
    /// The instance for a further attempt did not become ready.
    Unready,
    /// The service failed.
    Failed,
}

struct Nap {
    sleep: Pin<Box<Sleep>>,
    /// Reported when it is dropped, so that a breaker outside does not take it for slowness.
    _wait: Wait,
}

pub(crate) const AFTER: &str = "a future is not polled again after it has been ready";
const DECIDED: &str = "another attempt is decided on, so all that it needs is there";

// === impl Call ===

impl<Req, S, E, P> Call<Req, S, E, P> {
    #[inline]
    pub(crate) const fn new(
        origin: Arc<Origin<S, P>>,
        request: Option<Req>,
        until: Option<Instant>,
    ) -> Self {
        Self { origin, request, until, further: None }
    }

    /// Whether this is the first attempt.
    #[inline]
    pub(crate) const fn is_first(&self) -> bool {
        self.further.is_none()
    }

    /// The first attempt was the only one. All else is dropped with the future: what is done between the answer and its
    /// return has it copied.
    #[inline]
    pub(crate) fn drop_request(&mut self) {
        self.request = None;
    }

    /// How many attempts there were, with the one that is under way, and what the call does.
    pub(crate) fn shown(&self) -> (u32, &'static str) {
        match &self.further {
            None => (1, "calling, or done"),
            Some(further) if further.nap.is_some() => (further.course.attempts, "sleeping"),
            Some(further) if further.instance.is_some() => (further.course.attempts, "readying"),
            Some(further) => (further.course.attempts, "calling"),
        }
    }
}

impl<Req, S, E, C, I, K, P, B> Call<Req, S, E, Policy<C, I, K, P, B>>
where
    S: Service<Req, Error = E> + Clone,
    E: LayerError,
    C: Classify<S::Response, E>,
    I: Idempotent<Req>,
    K: CloneRequest<Req>,
    P: Prepare<Req, S::Response, E>,
{
    #[inline]
    pub(crate) fn judge(&self, result: Result<&S::Response, &E>) -> Judged {
        Judged::of(&self.origin.policy().classify, result)
    }

    /// What follows an attempt that has ended: another one, or the answer. `sent` says whether the service was called.
    pub(crate) fn after(
        &mut self,
        judged: Judged,
        result: Result<S::Response, E>,
        sent: bool,
    ) -> Option<Result<S::Response, E>> {
        let Self { origin, request, until, further } = self;
        if judged == Judged::Answered(Class::Success) {
            origin.account.shared.count(|stats| stats.recovered += 1);
            return Some(result);
        }
        let policy = origin.policy();
        let may_repeat = |may_have_had_an_effect: bool| match &*request {
            Some(request) => !may_have_had_an_effect || policy.idempotent.may_repeat(request),
            None => false,
        };
        let mut first = Course::new();
        let course = match further {
            Some(further) => &mut further.course,
            None => &mut first,
        };
        let Some(wait) = course.after(&origin.account, *until, judged, sent, &may_repeat) else {
            return Some(match result {
                Err(error) => Err(self.heavier(error, judged, sent).1),
                response => response,
            });
        };
        if let Some(request) = request {
            policy.prepare.prepare(request, course.next(), Some(&result));
        }
        // A response is dropped before the wait, because its connection may be what the next attempt needs.
        let error = match result {
            Err(error) => Some(self.heavier(error, judged, sent)),
            Ok(_) => None,
        };
        let further = self.further.get_or_insert_with(|| Box::new(Further::new(first)));
        if error.is_some() {
            further.error = error;
        }
        if wait.is_zero() {
            self.begin();
        } else {
            further.nap = Some(Nap::new(wait));
        }
        None
    }

    /// Goes on between two attempts. Ready when the next `attempt` is under way, or one has failed to get ready; with
    /// the answer if that is the end of the call.
    pub(crate) fn poll_between(
        &mut self,
        mut attempt: Pin<&mut Option<S::Future>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<S::Response, E>>> {
        let further = self.further.as_mut().expect(AFTER);
        if let Some(nap) = &mut further.nap {
            ready!(nap.sleep.as_mut().poll(cx));
            further.nap = None;
            // The thread may have been blocked for longer than the wait.
            if let Some(late) = self.too_late() {
                return Poll::Ready(Some(Err(late)));
            }
            self.begin();
        }
        let instance = &mut self.further.as_mut().expect(AFTER).instance;
        // A service that is always ready and always fails must not keep the thread.
        let progress = ready!(coop::poll_proceed(cx));
        let readiness = ready!(instance.as_mut().expect(AFTER).poll_ready(cx));
        progress.made_progress();
        let mut service = instance.take().expect(AFTER);
        if let Err(error) = readiness {
            return Poll::Ready(self.after(self.judge(Err(&error)), Err(error), false));
        }
        if let Some(late) = self.too_late() {
            return Poll::Ready(Some(Err(late)));
        }
        attempt.set(Some(service.call(self.take_request())));
        Poll::Ready(None)
    }

    /// An instance of the service for the next attempt, which begins.
    fn begin(&mut self) {
        let further = self.further.as_mut().expect(DECIDED);
        further.course.begin();
        further.instance = Some(self.origin.instance());
    }

    /// The answer of a call for which it is too late by now, if it is.
    fn too_late(&mut self) -> Option<E> {
        let further = self.further.as_mut().expect(DECIDED);
        let shared = &self.origin.account.shared;
        if !further.course.is_too_late(shared, self.until) {
            return None;
        }
        Some(match further.error.take() {
            Some((_, error)) => error,
            None => Rejected::new(&"retry", Reason::Expired).with_name(shared.name).into_error(),
        })
    }

    /// The request for an attempt that starts, which leaves a copy for the one after it.
    fn take_request(&mut self) -> Req {
        let request = self.request.take().expect(DECIDED);
        let attempts = self.further.as_ref().expect(DECIDED).course.attempts;
        self.request = self.origin.copy(attempts, &request);
        request
    }

    /// The error to give up with, now that there is another one.
    fn heavier(&mut self, error: E, judged: Judged, sent: bool) -> (Weight, E) {
        let weight = match judged {
            Judged::Refused(_) => Weight::Refused,
            Judged::Answered(_) if !sent => Weight::Unready,
            Judged::Answered(_) => Weight::Failed,
        };
        if let Some(further) = &mut self.further
            && let Some(before) = further.error.take()
            && before.0 > weight
        {
            return before;
        }
        (weight, error)
    }
}

// === impl Origin ===

impl<S, C, I, K, P, B> Origin<S, Policy<C, I, K, P, B>> {
    /// The copy of `request` that the attempt with this number leaves for the one after it, if there may be one.
    #[inline]
    pub(crate) fn copy<Req>(&self, attempt: u32, request: &Req) -> Option<Req>
    where
        K: CloneRequest<Req>,
    {
        let config = &self.account.shared.config;
        if attempt < config.max_attempts || config.retry_refusals.is_some() {
            self.policy().clone_request.clone_request(request)
        } else {
            None
        }
    }
}

// === impl Further ===

impl<S, E> Further<S, E> {
    const fn new(course: Course) -> Self {
        Self { course, error: None, nap: None, instance: None }
    }
}

// === impl Nap ===

impl Nap {
    fn new(wait: Duration) -> Self {
        let until = deadline::saturating_add(Instant::now(), wait);
        Self { sleep: Box::pin(sleep_until(until)), _wait: Wait::start() }
    }
}
