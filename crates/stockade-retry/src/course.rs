//! Whether there is another attempt, and when. Of a call's types only that of its error has a part in this, so it is
//! compiled once for each type of error, and not for each stack.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use stockade_core::{
    Class, Judged, LayerError, Reason, Rejected, config::MAX_DURATION, deadline, waits::Wait,
};
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    Config,
    account::Account,
    backoff::Waits,
    shared::{GaveUp, Shared},
};

/// How far a call has come whose first attempt has failed. `E` is the error of the service.
pub(crate) struct Course<E> {
    /// The error to give up with, so far.
    error: Option<E>,
    /// How many attempts there were, with the one that is under way.
    attempts: u32,
    /// Whether the next attempt counts as one. It does not after a refusal.
    counts: bool,
    /// How many times in a row a layer inside has refused the call.
    refusals: u32,
    /// How long it has waited for refusals.
    waited: Duration,
    /// There once the call has been about to wait.
    waits: Option<Waits>,
    /// That of the error to give up with, if there is one, and of the last one.
    heaviest: Weight,
    last: Weight,
    /// While it waits.
    nap: Option<Nap>,
}

/// By what a call is repeated.
pub(crate) struct Rules<'a> {
    account: &'a Account,
    config: &'a Config,
    until: Option<Instant>,
}

struct Nap {
    sleep: Pin<Box<Sleep>>,
    /// Reported when it is dropped, so that a breaker outside does not take it for slowness.
    _wait: Wait,
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

/// So far away that no wait reaches it.
const NO_LIMIT: Duration = MAX_DURATION.saturating_mul(2);

// === impl Rules ===

impl<'a> Rules<'a> {
    #[inline]
    pub(crate) fn new(account: &'a Account, until: Option<Instant>) -> Self {
        Self { account, config: &account.config, until }
    }

    /// When it is too late for an attempt of a call that begins now.
    #[inline]
    pub(crate) fn latest(&self) -> Option<Instant> {
        self.config.max_elapsed.map(after)
    }

    /// Whether another attempt may follow the one with this number.
    #[inline]
    pub(crate) fn may_follow(&self, attempt: u32) -> bool {
        attempt < self.config.max_attempts || self.config.retry_refusals.is_some()
    }

    /// The refusal of a call for which it is too late.
    fn expired(&self) -> Rejected {
        Rejected::new(&"retry", Reason::Expired).with_name(self.account.shared.name)
    }

    /// How much time there is for a wait that starts `now`.
    fn room(&self, now: Instant) -> Duration {
        let latest = [self.until, deadline::current()].into_iter().flatten().min();
        latest.map_or(NO_LIMIT, |latest| latest.saturating_duration_since(now))
    }
}

/// Apart, because most layers have no use for it.
#[cold]
fn after(max_elapsed: Duration) -> Instant {
    deadline::saturating_add(Instant::now(), max_elapsed)
}

// === impl Course ===

impl<E> Course<E> {
    pub(crate) fn boxed() -> Box<Self> {
        Box::new(Self {
            error: None,
            attempts: 1,
            counts: true,
            refusals: 0,
            waited: Duration::ZERO,
            waits: None,
            heaviest: Weight::Refused,
            last: Weight::Refused,
            nap: None,
        })
    }

    /// How many attempts there were, with the one that is under way.
    pub(crate) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The number of the next attempt, once it is decided on.
    pub(crate) const fn next(&self) -> u32 {
        self.attempts + self.counts as u32
    }

    /// Whether the request has to be asked if it may be repeated: the attempt may have had an effect.
    pub(crate) fn has_to_ask(&self, rules: &Rules<'_>, judged: Judged, sent: bool) -> bool {
        match judged {
            Judged::Refused(_)
            | Judged::Answered(Class::Success | Class::Permanent | Class::Ignored) => false,
            Judged::Answered(class) => {
                sent && !class.had_no_effect() && self.attempts < rules.config.max_attempts
            }
        }
    }

    /// Whether there is another attempt after one that has ended, which then [begins](Self::poll_begin). `sent` says
    /// whether the service was called, and `may_repeat` whether the request can be repeated, and may be.
    pub(crate) fn after(
        &mut self,
        rules: &Rules<'_>,
        judged: Judged,
        sent: bool,
        may_repeat: bool,
    ) -> bool {
        self.last = match judged {
            Judged::Refused(_) => Weight::Refused,
            Judged::Answered(class) if !sent && class != Class::Success => Weight::Unready,
            Judged::Answered(_) => Weight::Failed,
        };
        let shared = &rules.account.shared;
        let wait = match judged {
            Judged::Answered(Class::Success) => {
                shared.count(|stats| stats.recovered += 1);
                return false;
            }
            Judged::Answered(class) => self.repeat(rules, class, may_repeat),
            Judged::Refused(rejected) => self.wait_out(rules, &rejected, may_repeat),
        };
        match wait {
            Ok(wait) if wait.is_zero() => {}
            Ok(wait) => {
                let until = deadline::saturating_add(Instant::now(), wait);
                let sleep = Box::pin(sleep_until(until));
                self.nap = Some(Nap { sleep, _wait: Wait::start() });
            }
            Err(why) => {
                self.gave_up(shared, why, judged);
            }
        }
        wait.is_ok()
    }

    /// Keeps the error of an attempt that is repeated, if it is the one to give up with.
    pub(crate) fn keep(&mut self, error: E) {
        if self.last >= self.heaviest {
            self.heaviest = self.last;
            self.error = Some(error);
        }
    }

    /// Replaces the `last` error of a call that is given up, if another one was kept that weighs more.
    pub(crate) fn outweigh(&mut self, last: &mut E) {
        if self.last < self.heaviest
            && let Some(error) = self.error.take()
        {
            *last = error;
        }
    }

    /// Ready when the next attempt begins, after the wait for it; or with the error if it is too late.
    pub(crate) fn poll_begin(
        &mut self,
        rules: &Rules<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), E>>
    where
        E: LayerError,
    {
        if let Some(nap) = &mut self.nap {
            ready!(nap.sleep.as_mut().poll(cx));
            self.nap = None;
        }
        // The thread may have been blocked for longer than the wait.
        self.in_time(rules)?;
        // A service that is always ready and always fails must not keep the thread.
        ready!(coop::poll_proceed(cx)).made_progress();
        self.attempts = self.next();
        if self.counts {
            stockade_core::attempts::record();
        }
        Poll::Ready(Ok(()))
    }

    /// The error of a call for which it is too late by now. It is given up.
    pub(crate) fn in_time(&mut self, rules: &Rules<'_>) -> Result<(), E>
    where
        E: LayerError,
    {
        let limited = rules.until.is_some() || deadline::is_set();
        if !limited || !rules.room(Instant::now()).is_zero() {
            return Ok(());
        }
        let last = Judged::Answered(Class::TRANSIENT);
        self.gave_up(&rules.account.shared, GaveUp::TooLate, last);
        Err(match self.error.take() {
            Some(error) => error,
            None => rules.expired().into_error(),
        })
    }

    /// The wait after an answer of the service that is to be repeated. The token comes last, because it costs other
    /// calls something.
    fn repeat(
        &mut self,
        rules: &Rules<'_>,
        class: Class,
        may_repeat: bool,
    ) -> Result<Duration, GaveUp> {
        let Rules { account, config, .. } = *rules;
        let shared = &account.shared;
        match class {
            Class::Permanent => return Err(GaveUp::Permanent),
            Class::Ignored => return Err(GaveUp::Ignored),
            _ if self.attempts >= config.max_attempts => return Err(GaveUp::Exhausted),
            _ if !may_repeat => return Err(GaveUp::NotRepeatable),
            _ => {}
        }
        let now = Instant::now();
        let waits = self.waits.get_or_insert_with(|| Waits::new(shared.rng()));
        let (backoff, room) = (&config.backoff, rules.room(now));
        let wait = waits.after_failure(backoff, self.attempts, class.after(), room);
        let wait = wait.ok_or(GaveUp::TooLate)?;
        if !account.withdraw(now) {
            return Err(GaveUp::OverBudget);
        }
        (self.counts, self.refusals) = (true, 0);
        shared.count(|stats| stats.retried += 1);
        #[cfg(feature = "tracing")]
        tracing::debug!(
            target: "stockade",
            layer = "retry",
            name = shared.name,
            attempt = self.attempts + 1,
            ?wait,
            ?class,
            "retrying"
        );
        Ok(wait)
    }

    /// The wait after a refusal, if the call is to wait for one.
    fn wait_out(
        &mut self,
        rules: &Rules<'_>,
        rejected: &Rejected,
        can_repeat: bool,
    ) -> Result<Duration, GaveUp> {
        let Rules { account, config, .. } = *rules;
        let shared = &account.shared;
        let total = config.retry_refusals;
        let total = total.filter(|_| rejected.may_pass_later() && can_repeat);
        let left = total.ok_or(GaveUp::Refused)?.saturating_sub(self.waited);
        let room = rules.room(Instant::now());
        let waits = self.waits.get_or_insert_with(|| Waits::new(shared.rng()));
        let (refusals, told) = (self.refusals.saturating_add(1), rejected.retry_after());
        let wait = waits.after_refusal(&config.backoff, refusals, told, left, room);
        let wait = wait.ok_or(GaveUp::Refused)?;
        self.waited += wait;
        (self.counts, self.refusals) = (false, refusals);
        shared.count(|stats| stats.refusal_waits += 1);
        #[cfg(feature = "tracing")]
        tracing::debug!(
            target: "stockade",
            layer = "retry",
            name = shared.name,
            by = rejected.layer(),
            reason = rejected.reason().label(),
            ?wait,
            "waiting"
        );
        Ok(wait)
    }

    /// A call that is given up is a warning. A result that no attempt would change is none, and a refusal that is
    /// passed on has been told by the layer that refused.
    fn gave_up(&self, shared: &Shared, why: GaveUp, last: Judged) {
        let reason = shared.count(|stats| why.count(stats));
        #[cfg(not(feature = "tracing"))]
        let _ = (reason, last);
        #[cfg(feature = "tracing")]
        {
            macro_rules! tell {
                ($level:ident) => {
                    tracing::$level!(
                        target: "stockade",
                        layer = "retry",
                        name = shared.name,
                        reason,
                        attempts = self.attempts,
                        ?last,
                        "gave up"
                    )
                };
            }
            match why {
                GaveUp::Permanent | GaveUp::Ignored => tell!(debug),
                GaveUp::Refused if self.waits.is_none() => {}
                _ => tell!(warn),
            }
        }
    }
}
