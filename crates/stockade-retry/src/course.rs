//! Whether there is another attempt, and when.

use std::{sync::Arc, time::Duration};

use stockade_core::{
    Class, Classify, Judged, LayerError, Reason, Rejected, config::MAX_DURATION, deadline,
};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    CloneRequest, Idempotent, Policy, Prepare, account::Account, backoff::Waits, future::Between,
    shared::GaveUp,
};

/// What a call keeps until it ends.
pub(crate) struct Call<Req, S, E, P> {
    account: Arc<Account<S, P>>,
    /// For the next attempt, if the request can be repeated.
    request: Option<Req>,
    /// No attempt starts then or later.
    until: Option<Instant>,
    /// Boxed, because most calls have no further attempt.
    further: Option<Box<Further<S, E>>>,
}

/// What a call keeps once it needs another attempt.
pub(crate) struct Further<S, E> {
    /// How many attempts there were, with the one that is under way.
    attempts: u32,
    /// Whether the next attempt counts as one. It does not after a refusal.
    counts: bool,
    /// How many times in a row a layer inside has refused the call.
    refusals: u32,
    /// How long it has waited for refusals.
    waited: Duration,
    waits: Waits,
    /// The error to give up with, so far.
    error: Option<(Weight, E)>,
    /// While no attempt is under way.
    pub(crate) between: Option<Between<S>>,
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

/// An attempt that has ended.
pub(crate) struct Ended<T, E> {
    judged: Judged,
    result: Result<T, E>,
    /// Whether the request was sent.
    sent: bool,
}

pub(crate) enum Next<T, E> {
    Answer(Result<T, E>),
    /// Another attempt, after a wait that may be zero.
    Attempt {
        after: Duration,
    },
}

const DECIDED: &str = "another attempt is decided on, so all that it needs is there";

/// So far away that no wait reaches it.
const NO_LIMIT: Duration = MAX_DURATION.saturating_mul(2);

// === impl Ended ===

impl<T, E> Ended<T, E> {
    #[inline]
    pub(crate) const fn new(judged: Judged, result: Result<T, E>) -> Self {
        Self { judged, result, sent: true }
    }

    pub(crate) const fn unready(judged: Judged, error: E) -> Self {
        Self { judged, result: Err(error), sent: false }
    }
}

// === impl Account ===

impl<S, C, I, K, P, B> Account<S, Policy<C, I, K, P, B>> {
    /// The copy of `request` that the attempt with this number leaves for the one after it, if there may be one.
    #[inline]
    pub(crate) fn copy<Req>(&self, attempt: u32, request: &Req) -> Option<Req>
    where
        K: CloneRequest<Req>,
    {
        let config = &self.shared.config;
        let may_follow = attempt < config.max_attempts || config.retry_refusals.is_some();
        may_follow.then(|| self.policy().clone_request.clone_request(request)).flatten()
    }
}

// === impl Call ===

impl<Req, S, E, P> Call<Req, S, E, P> {
    #[inline]
    pub(crate) const fn new(
        account: Arc<Account<S, P>>,
        request: Option<Req>,
        until: Option<Instant>,
    ) -> Self {
        Self { account, request, until, further: None }
    }

    /// Whether this is the first attempt.
    #[inline]
    pub(crate) const fn is_first(&self) -> bool {
        self.further.is_none()
    }

    pub(crate) fn further(&mut self) -> Option<&mut Further<S, E>> {
        self.further.as_deref_mut()
    }

    pub(crate) fn between(&self) -> Option<&Between<S>> {
        self.further.as_ref().and_then(|further| further.between.as_ref())
    }

    /// How many attempts there were, with the one that is under way.
    pub(crate) fn attempts(&self) -> u32 {
        self.further.as_ref().map_or(1, |further| further.attempts)
    }

    /// An instance of the service for the next attempt, which begins.
    pub(crate) fn begin(&mut self) -> S
    where
        S: Clone,
    {
        if let Some(further) = &mut self.further
            && further.counts
        {
            further.attempts += 1;
            stockade_core::attempts::record();
        }
        self.account.instance()
    }

    /// How much time there is for a wait that starts now.
    fn room(&self, now: Instant) -> Duration {
        let latest = [self.until, deadline::current()].into_iter().flatten().min();
        latest.map_or(NO_LIMIT, |latest| latest.saturating_duration_since(now))
    }
}

impl<Req, S, E, C, I, K, P, B> Call<Req, S, E, Policy<C, I, K, P, B>>
where
    S: Service<Req, Error = E>,
    E: LayerError,
    C: Classify<S::Response, E>,
    I: Idempotent<Req>,
    K: CloneRequest<Req>,
    P: Prepare<Req, S::Response, E>,
{
    #[inline]
    pub(crate) fn judge(&self, result: Result<&S::Response, &E>) -> Judged {
        Judged::of(&self.account.policy().classify, result)
    }

    /// What follows an attempt that has ended.
    pub(crate) fn next(&mut self, ended: Ended<S::Response, E>) -> Next<S::Response, E> {
        let Ended { judged, result, sent } = ended;
        let decided = match judged {
            Judged::Answered(Class::Success) => {
                self.account.shared.count(|stats| stats.recovered += 1);
                return Next::Answer(result);
            }
            Judged::Answered(class) => self.repeat(class, sent),
            Judged::Refused(rejected) => self.wait_out(&rejected),
        };
        match decided {
            Ok(after) => {
                self.prepare(&result);
                // A response is dropped before the wait, because its connection may be what the next attempt needs.
                if let Err(error) = result {
                    let error = self.heavier(error, judged, sent);
                    self.further().expect(DECIDED).error = Some(error);
                }
                Next::Attempt { after }
            }
            Err(why) => {
                self.gave_up(why, judged);
                Next::Answer(result.map_err(|error| self.heavier(error, judged, sent).1))
            }
        }
    }

    /// The wait after an answer of the service that is to be repeated. The token comes last, because it costs other
    /// calls something.
    fn repeat(&mut self, class: Class, sent: bool) -> Result<Duration, GaveUp> {
        let attempts = self.attempts();
        match class {
            Class::Permanent => return Err(GaveUp::Permanent),
            Class::Ignored => return Err(GaveUp::Ignored),
            _ if attempts >= self.account.shared.config.max_attempts => {
                return Err(GaveUp::Exhausted);
            }
            _ => {}
        }
        let harmless = !sent || class.had_no_effect();
        let idempotent = &self.account.policy().idempotent;
        match &self.request {
            Some(request) if harmless || idempotent.may_repeat(request) => {}
            _ => return Err(GaveUp::NotRepeatable),
        }
        let now = Instant::now();
        let room = self.room(now);
        let Self { account, further, .. } = self;
        let backoff = &account.shared.config.backoff;
        let further = further.get_or_insert_with(|| Further::of(account));
        let wait = further.waits.after_failure(backoff, attempts, class.after(), room);
        let wait = wait.ok_or(GaveUp::TooLate)?;
        if !account.withdraw(now) {
            return Err(GaveUp::OverBudget);
        }
        (further.counts, further.refusals) = (true, 0);
        account.shared.count(|stats| stats.retried += 1);
        #[cfg(feature = "tracing")]
        tracing::debug!(
            target: "stockade",
            layer = "retry",
            name = account.shared.name,
            attempt = attempts + 1,
            ?wait,
            ?class,
            "retrying"
        );
        Ok(wait)
    }

    /// The wait after a refusal, if the call is to wait for one.
    fn wait_out(&mut self, rejected: &Rejected) -> Result<Duration, GaveUp> {
        let total = self.account.shared.config.retry_refusals;
        let total = total.filter(|_| rejected.may_pass_later() && self.request.is_some());
        let total = total.ok_or(GaveUp::Refused)?;
        let room = self.room(Instant::now());
        let Self { account, further, .. } = self;
        let backoff = &account.shared.config.backoff;
        let further = further.get_or_insert_with(|| Further::of(account));
        let left = total.saturating_sub(further.waited);
        let (refusals, told) = (further.refusals.saturating_add(1), rejected.retry_after());
        let wait = further.waits.after_refusal(backoff, refusals, told, left, room);
        let wait = wait.ok_or(GaveUp::Refused)?;
        further.waited += wait;
        (further.counts, further.refusals) = (false, refusals);
        account.shared.count(|stats| stats.refusal_waits += 1);
        #[cfg(feature = "tracing")]
        tracing::debug!(
            target: "stockade",
            layer = "retry",
            name = account.shared.name,
            by = rejected.layer(),
            reason = rejected.reason().as_str(),
            ?wait,
            "waiting"
        );
        Ok(wait)
    }

    /// The answer of a call for which it is too late by now, if it is.
    pub(crate) fn too_late(&mut self) -> Option<E> {
        let limited = self.until.is_some() || deadline::is_set();
        if !limited || !self.room(Instant::now()).is_zero() {
            return None;
        }
        self.gave_up(GaveUp::TooLate, Judged::Answered(Class::TRANSIENT));
        let error = self.further().and_then(|further| further.error.take());
        Some(error.map_or_else(
            || {
                let expired = Rejected::new(&"retry", Reason::Expired);
                expired.with_name(self.account.shared.name).into_error()
            },
            |(_, error)| error,
        ))
    }

    /// The request for an attempt that starts, which leaves a copy for the one after it.
    pub(crate) fn take_request(&mut self) -> Req {
        let request = self.request.take().expect(DECIDED);
        self.request = self.account.copy(self.attempts(), &request);
        request
    }

    /// Changes the request for the next attempt.
    fn prepare(&mut self, last: &Result<S::Response, E>) {
        let further = self.further.as_ref().expect(DECIDED);
        let attempt = further.attempts + u32::from(further.counts);
        if let Some(request) = &mut self.request {
            self.account.policy().prepare.prepare(request, attempt, Some(last));
        }
    }

    /// The error to give up with, now that there is another one.
    fn heavier(&mut self, error: E, judged: Judged, sent: bool) -> (Weight, E) {
        let weight = match judged {
            Judged::Refused(_) => Weight::Refused,
            Judged::Answered(_) if !sent => Weight::Unready,
            Judged::Answered(_) => Weight::Failed,
        };
        match self.further().and_then(|further| further.error.take()) {
            Some(before) if before.0 > weight => before,
            _ => (weight, error),
        }
    }

    fn gave_up(&self, why: GaveUp, judged: Judged) {
        self.account.shared.count(|stats| why.count(stats));
        #[cfg(feature = "tracing")]
        self.tell(why, judged);
        #[cfg(not(feature = "tracing"))]
        let _ = judged;
    }

    /// A call that is given up is a warning. A result that no attempt would change is none, and a refusal that is
    /// passed on has been told by the layer that refused.
    #[cfg(feature = "tracing")]
    fn tell(&self, why: GaveUp, judged: Judged) {
        macro_rules! gave_up {
            ($level:ident) => {
                tracing::$level!(
                    target: "stockade",
                    layer = "retry",
                    name = self.account.shared.name,
                    reason = why.as_str(),
                    attempts = self.attempts(),
                    last = ?judged,
                    "gave up"
                )
            };
        }
        match why {
            GaveUp::Permanent | GaveUp::Ignored => gave_up!(debug),
            GaveUp::Refused if self.is_first() => {}
            _ => gave_up!(warn),
        }
    }
}

// === impl Further ===

impl<S, E> Further<S, E> {
    fn of<P>(account: &Account<S, P>) -> Box<Self> {
        Box::new(Self {
            attempts: 1,
            counts: true,
            refusals: 0,
            waited: Duration::ZERO,
            waits: Waits::new(account.shared.rng()),
            error: None,
            between: None,
        })
    }
}
