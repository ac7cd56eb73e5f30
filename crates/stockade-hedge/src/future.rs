//! The response future: all attempts of one call.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use stockade_core::{
    Class, Classify, Judged, LayerError, deadline,
    internal::{Cold, Timer, sync::atomic::Ordering::Relaxed},
};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    HedgeRequest,
    attempt::{Attempt, Ended},
    service::Application,
};

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
        begun: Option<Instant>,
        copy: Option<Req>,
        // None for a call that passes by, or that has ended.
        application: Option<Arc<Application<S, C, K>>>,
        slow: Cold<Slow<S, Req>>,
    }
}

type Further<S, Req> = Pin<Box<Attempt<S, Req, <S as Service<Req>>::Future>>>;

/// What only a call has whose first attempt did not end at once.
struct Slow<S: Service<Req>, Req> {
    /// When the next attempt is due; none is, where there is none.
    timer: Option<Timer>,
    further: Vec<Further<S, Req>>,
    /// How many further attempts were begun.
    begun: u32,
    failed: Option<Result<S::Response, S::Error>>,
}

/// What an answer means for the call.
enum Verdict {
    Wins,
    Fails,
    /// It fails, and no further attempt is to be begun, of any call, for so long.
    Stops(Option<Duration>),
    /// A layer inside refused the attempt.
    Refused,
}

// === impl ResponseFuture ===

impl<S: Service<Req>, Req, C, K> ResponseFuture<S, Req, C, K> {
    pub(crate) fn new(
        first: S::Future,
        copy: Option<Req>,
        application: Arc<Application<S, C, K>>,
    ) -> Self {
        let rolling = application.shared.delay.rolling();
        let begun = rolling.map(|_| Instant::now());
        let application = Some(application);
        Self { first: Some(first), begun, copy, application, slow: Cold::none() }
    }

    /// The future of a call that is not hedged, whatever happens.
    pub(crate) fn passing(first: S::Future) -> Self {
        let (first, slow) = (Some(first), Cold::none());
        Self { first, begun: None, copy: None, application: None, slow }
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
        assert!(!is_over, "`ResponseFuture` polled after it was ready");
        let first = this.first.as_mut().as_pin_mut().map_or(Poll::Pending, |first| first.poll(cx));
        let Some(application) = this.application else {
            if first.is_ready() {
                this.first.set(None);
            }
            return first;
        };
        let mut answer = None;
        if let Poll::Ready(result) = first {
            this.first.set(None);
            record(application, this.begun.take());
            match judge(&application.classify, &result) {
                Verdict::Wins => answer = Some(result),
                verdict => {
                    if let Verdict::Stops(after) = verdict {
                        application.shared.hold_back(after, Instant::now());
                    }
                    if !matches!(verdict, Verdict::Fails) {
                        *this.copy = None;
                    }
                    match this.slow.get_mut().filter(|slow| !slow.further.is_empty()) {
                        Some(slow) => slow.failed = Some(result),
                        None => answer = Some(result),
                    }
                }
            }
        }
        if answer.is_none() {
            answer = Slow::poll(this.slow, this.copy, application, this.first.is_some(), cx);
        }
        let Some(answer) = answer else { return Poll::Pending };
        // The losers are dropped at once, and with them what they held.
        this.first.set(None);
        record(application, this.begun.take());
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

/// How long the first attempt took, or had taken when it lost.
fn record<S, C, K>(application: &Application<S, C, K>, begun: Option<Instant>) {
    if let (Some(rolling), Some(begun)) = (application.shared.delay.rolling(), begun) {
        let now = Instant::now();
        rolling.record(now.saturating_duration_since(begun), now);
    }
}

fn judge<T, E, C>(classify: &C, result: &Result<T, E>) -> Verdict
where
    E: LayerError,
    C: Classify<T, E>,
{
    match Judged::of(classify, result.as_ref()) {
        Judged::Refused(_) => Verdict::Refused,
        Judged::Answered(Class::Success | Class::Permanent | Class::Ignored) => Verdict::Wins,
        Judged::Answered(class @ Class::Overload { .. }) => Verdict::Stops(class.after()),
        Judged::Answered(class) if class.after().is_some() => Verdict::Stops(class.after()),
        Judged::Answered(_) => Verdict::Fails,
    }
}

// === impl Slow ===

impl<S, Req> Slow<S, Req>
where
    S: Service<Req> + Clone,
    S::Error: LayerError,
{
    /// Polls the further attempts, and begins one that is due.
    fn poll<C, K>(
        slow: &mut Cold<Self>,
        copy: &mut Option<Req>,
        application: &Application<S, C, K>,
        first: bool,
        cx: &mut Context<'_>,
    ) -> Option<Result<S::Response, S::Error>>
    where
        C: Classify<S::Response, S::Error>,
        K: HedgeRequest<Req>,
    {
        if slow.is_taken() {
            // A call that may not be sent twice waits for its only attempt.
            copy.as_ref()?;
            let timer = timer(application, cx)?;
            let new = Self { timer: Some(timer), further: Vec::new(), begun: 0, failed: None };
            *slow = Cold::new(new);
        }
        let slow = slow.get_mut()?;
        loop {
            if let Some(answer) = slow.poll_further(copy, application, cx) {
                return Some(answer);
            }
            if slow.further.is_empty() && !first {
                return slow.failed.take();
            }
            let due = slow.timer.as_mut()?.poll(cx).is_ready();
            if !due || !slow.begin(copy, application, cx) {
                return None;
            }
        }
    }

    /// The answer of a further attempt, if one wins.
    fn poll_further<C, K>(
        &mut self,
        copy: &mut Option<Req>,
        application: &Application<S, C, K>,
        cx: &mut Context<'_>,
    ) -> Option<Result<S::Response, S::Error>>
    where
        C: Classify<S::Response, S::Error>,
    {
        let mut index = 0;
        while let Some(attempt) = self.further.get_mut(index) {
            let Poll::Ready(ended) = attempt.as_mut().poll(cx) else {
                index += 1;
                continue;
            };
            drop(self.further.swap_remove(index));
            let Ended::Answered(result) = ended else {
                application.shared.refused();
                continue;
            };
            match judge(&application.classify, &result) {
                Verdict::Wins => {
                    application.shared.counts.won.fetch_add(1, Relaxed);
                    return Some(result);
                }
                Verdict::Refused => application.shared.refused(),
                Verdict::Fails => self.failed = Some(result),
                Verdict::Stops(after) => {
                    application.shared.hold_back(after, Instant::now());
                    self.failed = Some(result);
                    *copy = None;
                }
            }
        }
        None
    }

    /// Begins the attempt that is due, if it may be made, and sets the timer for the one after it.
    fn begin<C, K>(
        &mut self,
        copy: &mut Option<Req>,
        application: &Application<S, C, K>,
        cx: &mut Context<'_>,
    ) -> bool
    where
        K: HedgeRequest<Req>,
    {
        self.timer = None;
        let Some(request) = copy.take().filter(|_| !deadline::has_passed()) else { return false };
        if !application.shared.may_hedge(Instant::now()) {
            return false;
        }
        self.begun += 1;
        if self.begun < application.shared.max {
            *copy = application.copies.copy(&request);
            self.timer = copy.as_ref().and_then(|_| timer(application, cx));
        }
        self.further.push(Box::pin(Attempt::new(application.instance(), request)));
        true
    }
}

/// The timer for the next attempt, once the delay is known.
fn timer<S, C, K>(application: &Application<S, C, K>, cx: &mut Context<'_>) -> Option<Timer> {
    let delay = application.shared.delay.get()?;
    let at = deadline::saturating_add(Instant::now(), delay);
    // What would begin at the deadline or after it is not begun.
    (!deadline::is_too_late(at)).then(|| Timer::register(at, cx))
}
