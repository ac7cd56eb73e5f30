//! What a call keeps beside the attempt that is under way.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{Class, Classify, Judged, LayerError, Rejected};
use tokio::{task::coop, time::Instant};
use tower_service::Service;

use crate::{
    CloneRequest, Config, Idempotent, Policy, Prepare,
    account::Origin,
    course::{Course, Rules},
};

/// What a call keeps until it ends.
pub(crate) struct Call<Req, S, E, P> {
    begun: Begun<S, P>,
    /// For the next attempt, if the request can be repeated.
    request: Option<Req>,
    /// No attempt starts then or later.
    until: Option<Instant>,
    /// Boxed, because most calls succeed at once.
    further: Option<Box<Further<S, E>>>,
}

/// Where a call comes from, and the configuration that it began with.
pub(crate) struct Begun<S, P> {
    origin: Arc<Origin<S, P>>,
    changed: Option<Arc<Config>>,
}

/// What a call keeps once an attempt has failed.
struct Further<S, E> {
    course: Course,
    /// The error to give up with, so far.
    error: Option<E>,
    /// While it gets ready for the next attempt.
    instance: Option<S>,
}

pub(crate) const AFTER: &str = "a future is not polled again after it has been ready";

// === impl Call ===

impl<Req, S, E, P> Call<Req, S, E, P> {
    #[inline]
    pub(crate) const fn new(
        begun: Begun<S, P>,
        request: Option<Req>,
        until: Option<Instant>,
    ) -> Self {
        Self { begun, request, until, further: None }
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
        let Some(further) = &self.further else { return (1, "calling, or done") };
        let readies = further.instance.is_some();
        (further.course.attempts(), if readies { "readying" } else { further.course.shown() })
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
        Judged::of(&self.begun.policy().classify, result)
    }

    /// What follows an attempt that has ended: another one, or the answer. `sent` says whether the service was called.
    pub(crate) fn after(
        &mut self,
        judged: Judged,
        result: Result<S::Response, E>,
        sent: bool,
    ) -> Option<Result<S::Response, E>> {
        let Self { begun, request, until, further } = self;
        if judged == Judged::Answered(Class::Success) {
            begun.origin.account.shared.count(|stats| stats.recovered += 1);
            return Some(result);
        }
        let Further { course, error, .. } = &mut **further.get_or_insert_with(Further::boxed);
        let policy = begun.policy();
        let may_repeat = |may_have_had_an_effect: bool| match &*request {
            Some(request) => !may_have_had_an_effect || policy.idempotent.may_repeat(request),
            None => false,
        };
        let repeats = course.after(begun.rules(), *until, judged, sent, &may_repeat);
        if repeats && let Some(request) = request {
            policy.prepare.prepare(request, course.next(), Some(&result));
        }
        match result {
            Err(new) => {
                if course.is_heaviest(judged, sent) {
                    *error = Some(new);
                }
                if repeats { None } else { error.take().map(Err) }
            }
            // A response is dropped before the wait, because its connection may be what the next attempt needs.
            Ok(_) if repeats => None,
            response => Some(response),
        }
    }

    /// Goes on between two attempts. Ready when the next `attempt` is under way, or one has failed to get ready; with
    /// the answer if that is the end of the call.
    pub(crate) fn poll_between(
        &mut self,
        mut attempt: Pin<&mut Option<S::Future>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<S::Response, E>>> {
        let Self { begun, request, until, further } = self;
        let Further { course, error, instance } = &mut **further.as_mut().expect(AFTER);
        let shared = &begun.origin.account.shared;
        ready!(course.poll_nap(cx));
        if instance.is_none() {
            // The thread may have been blocked for longer than the wait.
            if let Some(expired) = course.too_late(shared, *until) {
                return Poll::Ready(Some(Err(answer_late(expired, error.take()))));
            }
            course.begin();
            *instance = Some(begun.origin.instance());
        }
        // A service that is always ready and always fails must not keep the thread.
        let progress = ready!(coop::poll_proceed(cx));
        let readiness = ready!(instance.as_mut().expect(AFTER).poll_ready(cx));
        progress.made_progress();
        let mut service = instance.take().expect(AFTER);
        if let Err(error) = readiness {
            return Poll::Ready(self.after(self.judge(Err(&error)), Err(error), false));
        }
        if let Some(expired) = course.too_late(shared, *until) {
            return Poll::Ready(Some(Err(answer_late(expired, error.take()))));
        }
        let next = request.take().expect(AFTER);
        *request = begun.copy(course.attempts(), &next);
        attempt.set(Some(service.call(next)));
        Poll::Ready(None)
    }
}

/// What a call is answered for which it is too late: its error, if there was one.
fn answer_late<E: LayerError>(expired: Rejected, error: Option<E>) -> E {
    match error {
        Some(error) => error,
        None => expired.into_error(),
    }
}

// === impl Begun ===

impl<S, P> Begun<S, P> {
    #[inline]
    pub(crate) fn new(origin: Arc<Origin<S, P>>) -> Self {
        let changed = origin.account.shared.changed();
        Self { origin, changed }
    }

    #[inline]
    pub(crate) fn config(&self) -> &Config {
        self.origin.account.shared.config(self.changed.as_deref())
    }

    #[inline]
    pub(crate) fn policy(&self) -> &P {
        self.origin.policy()
    }

    fn rules(&self) -> Rules<'_> {
        Rules { account: &self.origin.account, config: self.config() }
    }
}

impl<S, C, I, K, P, B> Begun<S, Policy<C, I, K, P, B>> {
    /// The copy of `request` that the attempt with this number leaves for the one after it, if there may be one.
    #[inline]
    pub(crate) fn copy<Req>(&self, attempt: u32, request: &Req) -> Option<Req>
    where
        K: CloneRequest<Req>,
    {
        let config = self.config();
        if attempt < config.max_attempts || config.retry_refusals.is_some() {
            self.policy().clone_request.clone_request(request)
        } else {
            None
        }
    }
}

// === impl Further ===

impl<S, E> Further<S, E> {
    fn boxed() -> Box<Self> {
        Box::new(Self { course: Course::new(), error: None, instance: None })
    }
}
