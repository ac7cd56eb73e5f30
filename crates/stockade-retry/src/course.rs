//! Whether there is another attempt, and when. What a call's types have no part in is decided here, so it is compiled
//! once and not for each stack.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use stockade_core::{Class, Judged, Reason, Rejected, config::MAX_DURATION, deadline, waits::Wait};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Config,
    account::Account,
    backoff::Waits,
    shared::{GaveUp, Shared},
};

/// How far a call has come.
pub(crate) struct Course {
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
    /// That of the error to give up with, if there is one.
    weight: Weight,
    /// While it waits.
    nap: Option<Nap>,
}

/// By what a call is repeated.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) account: &'a Account,
    pub(crate) config: &'a Config,
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

// === impl Course ===

impl Course {
    /// That of a call whose first attempt has failed.
    pub(crate) const fn new() -> Self {
        Self {
            attempts: 1,
            counts: true,
            refusals: 0,
            waited: Duration::ZERO,
            waits: None,
            weight: Weight::Refused,
            nap: None,
        }
    }

    /// How many attempts there were, with the one that is under way.
    pub(crate) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The number of the next attempt, once it is decided on.
    pub(crate) const fn next(&self) -> u32 {
        self.attempts + self.counts as u32
    }

    pub(crate) const fn shown(&self) -> &'static str {
        if self.nap.is_some() { "sleeping" } else { "calling" }
    }

    /// The next attempt begins.
    pub(crate) fn begin(&mut self) {
        self.attempts = self.next();
        if self.counts {
            stockade_core::attempts::record();
        }
    }

    /// Whether there is another attempt after one that did not succeed, which then [waits](Self::poll_nap). `sent` says
    /// whether the service was called, and `until` when it is too late. `may_repeat` is asked whether the request
    /// can be repeated, and if it may have had an effect (`true`), whether it may be.
    pub(crate) fn after(
        &mut self,
        rules: Rules<'_>,
        until: Option<Instant>,
        judged: Judged,
        sent: bool,
        may_repeat: &dyn Fn(bool) -> bool,
    ) -> bool {
        let wait = match judged {
            Judged::Answered(class) => {
                let may_repeat = || may_repeat(sent && !class.had_no_effect());
                self.repeat(rules, until, class, &may_repeat)
            }
            Judged::Refused(rejected) => {
                self.wait_out(rules, until, &rejected, &|| may_repeat(false))
            }
        };
        match wait {
            Ok(wait) if wait.is_zero() => {}
            Ok(wait) => {
                let until = deadline::saturating_add(Instant::now(), wait);
                let sleep = Box::pin(sleep_until(until));
                self.nap = Some(Nap { sleep, _wait: Wait::start() });
            }
            Err(why) => self.gave_up(&rules.account.shared, why, judged),
        }
        wait.is_ok()
    }

    /// Whether the error of an attempt is the one to give up with. If so, it becomes that.
    pub(crate) fn is_heaviest(&mut self, judged: Judged, sent: bool) -> bool {
        let weight = match judged {
            Judged::Refused(_) => Weight::Refused,
            Judged::Answered(_) if !sent => Weight::Unready,
            Judged::Answered(_) => Weight::Failed,
        };
        let heaviest = weight >= self.weight;
        self.weight = self.weight.max(weight);
        heaviest
    }

    /// Waits before the next attempt.
    pub(crate) fn poll_nap(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(nap) = &mut self.nap {
            ready!(nap.sleep.as_mut().poll(cx));
            self.nap = None;
        }
        Poll::Ready(())
    }

    /// The wait after an answer of the service that is to be repeated. The token comes last, because it costs other
    /// calls something.
    fn repeat(
        &mut self,
        Rules { account, config }: Rules<'_>,
        until: Option<Instant>,
        class: Class,
        may_repeat: &dyn Fn() -> bool,
    ) -> Result<Duration, GaveUp> {
        let shared = &account.shared;
        match class {
            Class::Permanent => return Err(GaveUp::Permanent),
            Class::Ignored => return Err(GaveUp::Ignored),
            _ if self.attempts >= config.max_attempts => return Err(GaveUp::Exhausted),
            _ if !may_repeat() => return Err(GaveUp::NotRepeatable),
            _ => {}
        }
        let now = Instant::now();
        let waits = self.waits.get_or_insert_with(|| Waits::new(shared.rng()));
        let (backoff, room) = (&config.backoff, room(until, now));
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
        Rules { account, config }: Rules<'_>,
        until: Option<Instant>,
        rejected: &Rejected,
        can_repeat: &dyn Fn() -> bool,
    ) -> Result<Duration, GaveUp> {
        let shared = &account.shared;
        let total = config.retry_refusals;
        let total = total.filter(|_| rejected.may_pass_later() && can_repeat());
        let left = total.ok_or(GaveUp::Refused)?.saturating_sub(self.waited);
        let room = room(until, Instant::now());
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

    /// The refusal of a call for which it is too late by now, if it is. Then it is given up.
    pub(crate) fn too_late(&self, shared: &Shared, until: Option<Instant>) -> Option<Rejected> {
        let limited = until.is_some() || deadline::is_set();
        if !limited || !room(until, Instant::now()).is_zero() {
            return None;
        }
        self.gave_up(shared, GaveUp::TooLate, Judged::Answered(Class::TRANSIENT));
        Some(Rejected::new(&"retry", Reason::Expired).with_name(shared.name))
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

/// How much time there is for a wait that starts `now`.
fn room(until: Option<Instant>, now: Instant) -> Duration {
    let latest = [until, deadline::current()].into_iter().flatten().min();
    latest.map_or(NO_LIMIT, |latest| latest.saturating_duration_since(now))
}
