//! What a call keeps beside the attempt that is under way.
//!
//! Each stack has a copy of this code, in which each adapter and each closure is a function of its own. So it is written
//! out, and what the types of a stack have no part in is decided by the [`Course`].

use std::{sync::Arc, task::Poll};

use stockade_core::{Class, Classify, Judged, LayerError, internal::Paid};
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
    /// There once an attempt has failed. Boxed, because most calls succeed at once.
    pub(crate) course: Option<Box<Course<E>>>,
}

// === impl Call ===

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
        let judged = Judged::of(&origin.policy.classify, result.as_ref());
        if self.course.is_none() && judged == Judged::Answered(Class::Success) {
            return None;
        }
        Some(judged)
    }

    /// Whether another attempt follows one with this `result`. `sent` says whether the service was called.
    pub(crate) fn repeats(
        &mut self,
        judged: Judged,
        result: &Result<S::Response, E>,
        sent: bool,
    ) -> bool {
        let Self { origin: Some(origin), until, request, course } = self else { return false };
        let rules = &Rules::new(&origin.account, *until);
        let course = course.get_or_insert_with(Course::boxed);
        let may_repeat = match request {
            None => false,
            Some(request) => {
                !course.has_to_ask(rules, judged, sent)
                    || origin.policy.idempotent.may_repeat(request)
            }
        };
        let repeats = course.after(rules, judged, sent, may_repeat);
        if repeats && let Some(request) = request {
            origin.policy.prepare.prepare(request, course.next(), Some(result));
        }
        repeats
    }

    /// Keeps the result of an attempt that is repeated, if it is the error to give up with.
    pub(crate) fn keep(&mut self, result: Result<S::Response, E>) {
        if let Some(course) = &mut self.course
            && let Err(error) = result
        {
            course.keep(error);
        }
    }

    /// No attempt follows. An error is replaced if another one is to be given up with.
    pub(crate) fn end(&mut self, answer: &mut Poll<Result<S::Response, E>>) {
        if let Some(course) = &mut self.course
            && let Poll::Ready(Err(error)) = answer
        {
            course.outweigh(error);
        }
        self.request = None;
        self.course = None;
    }

    /// Calls an instance that is ready.
    pub(crate) fn start(&mut self, service: &mut S) -> S::Future {
        let Self { origin: Some(origin), request, course: Some(course), .. } = self else {
            ended()
        };
        let Some(next) = request.take() else { ended() };
        if Rules::new(&origin.account, None).may_follow(course.attempts()) {
            *request = origin.policy.clone_request.clone_request(&next);
        }
        service.call(next)
    }
}

impl<Req, S, E, P> Call<Req, S, E, P> {
    /// Says to the layers inside that the call has paid, unless it passes the layer by.
    #[inline]
    pub(crate) fn paid(&self) -> Option<Paid> {
        match &self.origin {
            Some(origin) => origin.account.paid(),
            None => None,
        }
    }

    /// What decides about a call whose first attempt has failed.
    pub(crate) fn further(&mut self) -> (&mut Course<E>, &Origin<S, P>, Rules<'_>) {
        let Self { origin: Some(origin), until, course: Some(course), .. } = self else { ended() };
        (course, origin, Rules::new(&origin.account, *until))
    }
}

#[cold]
fn ended() -> ! {
    panic!("a future is not polled again after it has been ready")
}
