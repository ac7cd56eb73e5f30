//! What a call keeps beside the attempt that is under way.
//!
//! Each stack has a copy of this code, in which each adapter and each closure is a function of its own. So it is written
//! out, and what the types of a stack have no part in is decided by the [`Course`].

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{Class, Classify, Judged, LayerError};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    CloneRequest, Idempotent, Policy, Prepare,
    account::Origin,
    course::{Course, Rules},
};

/// What a call keeps until it ends.
pub(crate) struct Call<Req, S, E, P> {
    /// Nothing for a call that passes the layer by.
    pub(crate) origin: Option<Arc<Origin<S, P>>>,
    /// No attempt starts then or later.
    pub(crate) until: Option<Instant>,
    /// For the next attempt, if the request can be repeated.
    pub(crate) request: Option<Req>,
    /// Boxed, because most calls succeed at once.
    pub(crate) further: Option<Box<Further<S, E>>>,
}

/// What a call keeps once an attempt has failed.
pub(crate) struct Further<S, E> {
    course: Course,
    /// The error to give up with, so far.
    error: Option<E>,
    /// While it gets ready for the next attempt.
    instance: Option<S>,
}

// === impl Call ===

impl<Req, S, E, P> Call<Req, S, E, P> {
    /// The first attempt was the only one. All else is dropped with the future: what is done between the answer and its
    /// return has it copied.
    #[inline]
    pub(crate) fn drop_request(&mut self) {
        self.request = None;
    }

    /// No attempt follows.
    pub(crate) fn end(&mut self) {
        self.request = None;
        self.further = None;
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
    /// What the `result` of an attempt is; nothing if the call passes the layer by, or has succeeded at once.
    #[inline]
    pub(crate) fn judge(&self, result: &Result<S::Response, E>) -> Option<Judged> {
        let Some(origin) = &self.origin else { return None };
        let judged = Judged::of(&origin.policy().classify, result.as_ref());
        if self.further.is_none() && judged == Judged::Answered(Class::Success) {
            return None;
        }
        Some(judged)
    }

    /// Whether the `result` of an attempt is the answer. Otherwise it is [kept](Self::keep), and the call
    /// [goes on](Self::poll_between). `sent` says whether the service was called.
    pub(crate) fn ends(
        &mut self,
        judged: Judged,
        result: &Result<S::Response, E>,
        sent: bool,
    ) -> bool {
        let Self { origin: Some(origin), until, request, further } = self else {
            return true;
        };
        let further = match further {
            Some(further) => &mut **further,
            None => further.insert(Further::boxed()),
        };
        let (policy, course) = (origin.policy(), &mut further.course);
        let rules = &Rules::new(&origin.account, *until);
        let may_repeat = match request {
            None => false,
            Some(request) => {
                !course.has_to_ask(rules, judged, sent) || policy.idempotent.may_repeat(request)
            }
        };
        let repeats = course.after(rules, judged, sent, may_repeat);
        if repeats && let Some(request) = request {
            policy.prepare.prepare(request, course.next(), Some(result));
        }
        !repeats && (result.is_ok() || course.is_heaviest())
    }

    /// Keeps the error of an attempt that is not the answer, if it is the one to give up with.
    pub(crate) fn keep(&mut self, error: E) {
        if let Some(further) = &mut self.further
            && further.course.keeps()
        {
            further.error = Some(error);
        }
    }

    /// Goes on between two attempts. Ready when the next `attempt` is under way; with the error if that is the end of
    /// the call.
    #[cold]
    pub(crate) fn poll_between(
        &mut self,
        mut attempt: Pin<&mut Option<S::Future>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<E>> {
        loop {
            let Self { origin: Some(origin), until, request, further: Some(further) } = self else {
                ended()
            };
            let Further { course, error, instance } = &mut **further;
            let rules = &Rules::new(&origin.account, *until);
            if !ready!(course.poll_begin(rules, cx)) {
                return Poll::Ready(Some(last(error, rules)));
            }
            let service = match instance {
                Some(service) => service,
                None => instance.insert(origin.instance()),
            };
            let unready = match service.poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(unready)) => unready,
                Poll::Ready(Ok(())) => {
                    if course.is_too_late(rules) {
                        return Poll::Ready(Some(last(error, rules)));
                    }
                    let Some(next) = request.take() else { ended() };
                    if rules.may_follow(course.attempts()) {
                        *request = origin.policy().clone_request.clone_request(&next);
                    }
                    attempt.set(Some(service.call(next)));
                    *instance = None;
                    return Poll::Ready(None);
                }
            };
            *instance = None;
            let judged = Judged::of(&origin.policy().classify, Err(&unready));
            let result = Err(unready);
            let ends = self.ends(judged, &result, false);
            let Err(error) = result else { continue };
            if ends {
                return Poll::Ready(Some(error));
            }
            self.keep(error);
        }
    }
}

/// What a call ends with that has no further attempt: its error, if there was one.
fn last<E: LayerError>(error: &mut Option<E>, rules: &Rules<'_>) -> E {
    match error.take() {
        Some(error) => error,
        None => rules.expired().into_error(),
    }
}

#[cold]
fn ended() -> ! {
    panic!("a future is not polled again after it has been ready")
}

// === impl Further ===

impl<S, E> Further<S, E> {
    fn boxed() -> Box<Self> {
        Box::new(Self { course: Course::new(), error: None, instance: None })
    }
}
