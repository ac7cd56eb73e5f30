//! The response future: all attempts of one call.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::{
    Class, Classify, Judged, LayerError, deadline,
    internal::{Timer, pay},
};
use tokio::time::Instant;
use tower_service::Service;

use crate::{HedgeRequest, attempt::Attempt, service::Application};

pin_project! {
    /// The answer of a [`Hedge`](crate::Hedge): the first good one of its attempts.
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready.
    pub struct ResponseFuture<S, Req, C, K, B>
    where
        S: Service<Req>,
    {
        // None once it has ended.
        #[pin]
        first: Option<S::Future>,
        // None for a call that passes by, or that has ended.
        call: Option<Call<S, Req, C, K, B>>,
    }
}

type Answer<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

/// A call, beside its first attempt.
pub(crate) struct Call<S: Service<Req>, Req, C, K, B> {
    application: Arc<Application<S, C, K, B>>,
    /// When the first attempt was begun, where that is measured and it has not failed.
    begun: Option<Instant>,
    /// What the next attempt sends; `None` if there is to be none.
    next: Option<Req>,
    /// When it is due.
    timer: Option<Timer>,
    further: Vec<Attempt<S, Req>>,
    /// How many of these were begun.
    count: u32,
    /// What the last attempt has come to that failed.
    failed: Option<Answer<S, Req>>,
}

const AFTER: &str = "`ResponseFuture` polled after it was ready";

// === impl ResponseFuture ===

impl<S: Service<Req>, Req, C, K, B> ResponseFuture<S, Req, C, K, B> {
    pub(crate) const fn new(first: S::Future, call: Option<Call<S, Req, C, K, B>>) -> Self {
        Self { first: Some(first), call }
    }
}

impl<S, Req, C, K, B> Future for ResponseFuture<S, Req, C, K, B>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    K: HedgeRequest<Req>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(call) = this.call else {
            let answer = ready!(this.first.as_mut().as_pin_mut().expect(AFTER).poll(cx));
            this.first.set(None);
            return Poll::Ready(answer);
        };
        let _paid = pay(call.application.shared.budget_id);
        let mut answer = None;
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && let Poll::Ready(result) = first.poll(cx)
        {
            this.first.set(None);
            answer = call.judge(Some(result), true);
            // A failure or a refusal says nothing of how long an answer takes.
            call.begun = call.begun.filter(|_| answer.is_some());
        }
        let answer = answer.or_else(|| call.poll(this.first.is_some(), cx));
        if answer.is_some() {
            // The losers are dropped at once, and with them what they held.
            this.first.set(None);
            call.application.shared.record(call.begun);
            *this.call = None;
        }
        answer.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<S: Service<Req>, Req, C, K, B> fmt::Debug for ResponseFuture<S, Req, C, K, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("first", &self.first.is_some())
            .field("further", &self.call.as_ref().map_or(0, |call| call.further.len()))
            .finish_non_exhaustive()
    }
}

// === impl Call ===

impl<S, Req, C, K, B> Call<S, Req, C, K, B>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    K: HedgeRequest<Req>,
{
    pub(crate) fn new(application: Arc<Application<S, C, K, B>>, request: &Req) -> Self {
        let begun = application.shared.delay.is_percentile().then(Instant::now);
        let next = application.policy.copies.copy(request);
        let (timer, further, count, failed) = (None, Vec::new(), 0, None);
        Self { application, begun, next, timer, further, count, failed }
    }

    /// What an attempt has come to, if it is the answer. A failure is kept while other attempts are left.
    fn judge(&mut self, ended: Option<Answer<S, Req>>, is_first: bool) -> Option<Answer<S, Req>> {
        let shared = &self.application.shared;
        let Some(result) = ended else {
            shared.refused();
            return None;
        };
        match Judged::of(&self.application.policy.classify, result.as_ref()) {
            Judged::Refused(_) if is_first => self.next = None,
            Judged::Refused(_) => {
                shared.refused();
                return None;
            }
            Judged::Answered(Class::Success | Class::Permanent | Class::Ignored) => {
                if !is_first {
                    shared.won();
                }
                return Some(result);
            }
            // No further attempt is begun, of any call, for a while.
            Judged::Answered(class)
                if matches!(class, Class::Overload { .. }) || class.after().is_some() =>
            {
                shared.hold_back(class.after());
                self.next = None;
            }
            Judged::Answered(_) => {}
        }
        self.failed = Some(result);
        None
    }

    /// The answer of a further attempt, if one wins, or the last failure, if no attempt is left. Begins one that is due.
    fn poll(&mut self, has_first: bool, cx: &mut Context<'_>) -> Option<Answer<S, Req>> {
        loop {
            let mut index = 0;
            while let Some(attempt) = self.further.get_mut(index) {
                let Poll::Ready(ended) = attempt.poll(cx) else {
                    index += 1;
                    continue;
                };
                drop(self.further.swap_remove(index));
                let answer = self.judge(ended, false);
                if answer.is_some() {
                    return answer;
                }
            }
            if self.further.is_empty() && !has_first {
                return self.failed.take();
            }
            if !self.begin(cx) {
                return None;
            }
        }
    }

    /// Begins the next attempt, if it is due and may be made.
    fn begin(&mut self, cx: &mut Context<'_>) -> bool {
        let Application { policy, shared, .. } = &*self.application;
        if self.next.is_some() && self.timer.is_none() {
            self.timer = shared.timer(cx);
        }
        if self.timer.as_mut().is_none_or(|timer| timer.poll(cx).is_pending()) {
            return false;
        }
        self.timer = None;
        let may = |_: &Req| !deadline::has_passed() && shared.may_hedge();
        let Some(request) = self.next.take().filter(may) else { return false };
        self.count += 1;
        if self.count < shared.config.max {
            self.next = policy.copies.copy(&request);
        }
        self.further.push(Attempt::new(self.application.instance(), request));
        true
    }
}
