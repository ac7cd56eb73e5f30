//! The response future: all attempts of one call.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use stockade_core::{
    Class, Classify, Judged, LayerError, deadline,
    internal::{Cold, Timer, lock, pay},
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
    pub struct ResponseFuture<S, Req, C, K>
    where
        S: Service<Req>,
    {
        // None once it has ended.
        #[pin]
        first: Option<S::Future>,
        // Which budget the call has paid into.
        paid: u64,
        begun: Option<Instant>,
        copy: Option<Req>,
        // None for a call that passes by, or that has ended.
        application: Option<Arc<Application<S, C, K>>>,
        slow: Cold<Slow<S, Req>>,
    }
}

type Answer<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;
type Further<S, Req> = Pin<Box<Attempt<S, Req, <S as Service<Req>>::Future>>>;

/// What only a call has whose first attempt did not end at once.
struct Slow<S: Service<Req>, Req> {
    /// When the next attempt is due; none is, where there is none.
    timer: Option<Timer>,
    further: Vec<Further<S, Req>>,
    /// How many further attempts were begun.
    begun: u32,
    failed: Option<Answer<S, Req>>,
}

/// A call while it is polled.
struct Call<'a, S: Service<Req>, Req, C, K> {
    application: &'a Application<S, C, K>,
    copy: &'a mut Option<Req>,
    slow: &'a mut Cold<Slow<S, Req>>,
}

// === impl ResponseFuture ===

impl<S: Service<Req>, Req, C, K> ResponseFuture<S, Req, C, K> {
    pub(crate) fn new(
        first: S::Future,
        paid: u64,
        copy: Option<Req>,
        application: Option<Arc<Application<S, C, K>>>,
    ) -> Self {
        let is_timed = application
            .as_ref()
            .is_some_and(|application| application.shared.delay.is_percentile());
        let begun = is_timed.then(Instant::now);
        Self { first: Some(first), paid, begun, copy, application, slow: Cold::none() }
    }
}

impl<S, Req, C, K> Future for ResponseFuture<S, Req, C, K>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    K: HedgeRequest<Req>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let is_over = this.first.is_none() && this.application.is_none();
        let _paid = pay(*this.paid);
        assert!(!is_over, "`ResponseFuture` polled after it was ready");
        let first = this.first.as_mut().as_pin_mut().map_or(Poll::Pending, |first| first.poll(cx));
        let Some(application) = this.application else {
            if first.is_ready() {
                this.first.set(None);
            }
            return first;
        };
        let mut call = Call { application, copy: this.copy, slow: this.slow };
        let mut answer = None;
        if let Poll::Ready(result) = first {
            this.first.set(None);
            application.shared.record(this.begun.take());
            answer = call.judge(result, true);
        }
        if answer.is_none() {
            answer = call.poll(this.first.is_some(), cx);
        }
        let Some(answer) = answer else { return Poll::Pending };
        // The losers are dropped at once, and with them what they held.
        this.first.set(None);
        application.shared.record(this.begun.take());
        drop(this.slow.take());
        *this.application = None;
        Poll::Ready(answer)
    }
}

impl<S: Service<Req>, Req, C, K> fmt::Debug for ResponseFuture<S, Req, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let further = self.slow.get().map_or(0, |slow| slow.further.len());
        f.debug_struct("ResponseFuture")
            .field("first", &self.first.is_some())
            .field("further", &further)
            .finish_non_exhaustive()
    }
}

// === impl Call ===

impl<S, Req, C, K> Call<'_, S, Req, C, K>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
    C: Classify<S::Response, S::Error>,
    K: HedgeRequest<Req>,
{
    /// What an attempt has come to, if it is the answer. A failure is kept while other attempts are left.
    fn judge(&mut self, result: Answer<S, Req>, is_first: bool) -> Option<Answer<S, Req>> {
        let shared = &self.application.shared;
        match Judged::of(&self.application.classify, result.as_ref()) {
            Judged::Refused(_) if is_first => *self.copy = None,
            Judged::Refused(_) => {
                shared.refused();
                return None;
            }
            Judged::Answered(Class::Success | Class::Permanent | Class::Ignored) => {
                if !is_first {
                    lock(&shared.stats).won += 1;
                }
                return Some(result);
            }
            // No further attempt is begun, of any call, for a while.
            Judged::Answered(class)
                if matches!(class, Class::Overload { .. }) || class.after().is_some() =>
            {
                shared.hold_back(class.after(), Instant::now());
                *self.copy = None;
            }
            Judged::Answered(_) => {}
        }
        let Some(slow) = self.slow.get_mut() else { return Some(result) };
        slow.failed = Some(result);
        None
    }

    /// Polls the further attempts, and begins one that is due.
    fn poll(&mut self, has_first: bool, cx: &mut Context<'_>) -> Option<Answer<S, Req>> {
        if self.slow.is_taken() {
            // A call that may not be sent twice waits for its only attempt.
            self.copy.as_ref()?;
            let timer = Some(self.application.shared.timer(cx)?);
            self.slow.put(Slow { timer, further: Vec::new(), begun: 0, failed: None });
        }
        loop {
            if let Some(answer) = self.poll_further(cx) {
                return Some(answer);
            }
            if self.slow.further.is_empty() && !has_first {
                return self.slow.failed.take();
            }
            let is_due = self.slow.timer.as_mut()?.poll(cx).is_ready();
            if !is_due || !self.begin(cx) {
                return None;
            }
        }
    }

    /// The answer of a further attempt, if one wins.
    fn poll_further(&mut self, cx: &mut Context<'_>) -> Option<Answer<S, Req>> {
        let mut index = 0;
        while let Some(attempt) = self.slow.further.get_mut(index) {
            let Poll::Ready(ended) = attempt.as_mut().poll(cx) else {
                index += 1;
                continue;
            };
            drop(self.slow.further.swap_remove(index));
            let Some(result) = ended else {
                self.application.shared.refused();
                continue;
            };
            if let Some(answer) = self.judge(result, false) {
                return Some(answer);
            }
        }
        None
    }

    /// Begins the attempt that is due, if it may be made, and sets the timer for the one after it.
    fn begin(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { application, copy, slow } = self;
        slow.timer = None;
        let Some(request) = copy.take().filter(|_| !deadline::has_passed()) else { return false };
        if !application.shared.may_hedge(Instant::now()) {
            return false;
        }
        slow.begun += 1;
        if slow.begun < application.shared.max {
            **copy = application.copies.copy(&request);
            slow.timer = copy.as_ref().and_then(|_| application.shared.timer(cx));
        }
        slow.further.push(Box::pin(Attempt::new(application.instance(), request)));
        true
    }
}
