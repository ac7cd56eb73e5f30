//! What an admitted call holds: its place, which it settles or gives back.

use std::mem;

use stockade_core::{Class, Classify, LayerError, Reason, deadline, internal::Moment};
use tokio::time::Instant;

use crate::{
    gate::{Gate, Pass, Verdict},
    state::Stamp,
};

/// The place of an admitted call. Dropping it gives the place back.
///
/// It stays where it is while the call is settled, because moving it costs more than all the rest.
pub(crate) struct Ticket<C> {
    /// None of a call that was not admitted, or is settled.
    gate: Option<&'static Gate>,
    admitted: Admitted,
    deadline: Ambient,
    classify: C,
}

/// A [`Stamp`] in two words, because most calls write down nothing else.
#[derive(Clone, Copy)]
pub(crate) struct Admitted {
    pass: Pass,
    started: Moment,
}

/// The deadline of a call, as far as it is known.
#[derive(Clone, Copy)]
enum Ambient {
    /// The call was not pending yet, so nobody has asked.
    Unasked,
    Is(Option<Instant>),
}

// === impl Ticket ===

impl<C> Ticket<C> {
    #[inline]
    pub(crate) const fn new(gate: &'static Gate, admitted: Admitted, classify: C) -> Self {
        Self { gate: Some(gate), admitted, deadline: Ambient::Unasked, classify }
    }

    /// That of a call that was not admitted.
    pub(crate) const fn none(classify: C) -> Self {
        let admitted = Admitted::at_once(Pass::of(0));
        Self { gate: None, admitted, deadline: Ambient::Unasked, classify }
    }

    /// Settles the call by its result. A classifier that panics gives the place back.
    #[inline(always)]
    pub(crate) fn judge<T, E>(&mut self, result: Result<&T, &E>)
    where
        C: Classify<T, E>,
        E: LayerError,
    {
        let panicked = Panicked { ticket: self, verdict: Verdict::Ignored };
        let refusal = result.err().and_then(LayerError::rejected);
        let verdict = match refusal.map(|rejected| rejected.reason()) {
            Some(Reason::Elapsed | Reason::Panicked) => Verdict::Failure,
            Some(_) => Verdict::Ignored,
            None => match panicked.ticket.classify.classify(result) {
                Class::Success | Class::Permanent => Verdict::Success,
                Class::Transient { .. } | Class::Overload { .. } | Class::NoEffect { .. } => {
                    Verdict::Failure
                }
                Class::Ignored => Verdict::Ignored,
            },
        };
        panicked.disarm();
        self.settle(verdict);
    }

    /// Guards a part of the call: if that panics, the call has failed, and the panic goes on.
    ///
    /// A guard and not a closure, because the compiler leaves a large closure apart, and what it gives is
    /// moved through memory.
    #[inline(always)]
    pub(crate) const fn guard(&mut self) -> Panicked<'_, C> {
        Panicked { ticket: self, verdict: Verdict::Failure }
    }

    /// Remembers by when the call has to end. It is asked only while the call is being polled, and only
    /// once it is pending, because asking fixes a deadline that counts from now, which reads the clock.
    #[inline]
    pub(crate) fn pending(&mut self) {
        if let Ambient::Unasked = self.deadline {
            self.deadline = Ambient::Is(deadline::current());
        }
    }

    pub(crate) const fn is_settled(&self) -> bool {
        self.gate.is_none()
    }

    #[inline(always)]
    fn settle(&mut self, verdict: Verdict) {
        if let Some(gate) = self.gate.take()
            && !(verdict == Verdict::Success && gate.ignores_successes_of(self.admitted.pass))
        {
            settle(gate, self.admitted, verdict);
        }
    }

    #[cold]
    fn dropped(&mut self) {
        self.settle(match self.deadline {
            Ambient::Is(Some(deadline)) if deadline <= Instant::now() => Verdict::Failure,
            Ambient::Is(_) | Ambient::Unasked => Verdict::Ignored,
        });
    }
}

/// Apart, because most calls need not be settled.
#[inline(never)]
fn settle(gate: &Gate, admitted: Admitted, verdict: Verdict) {
    gate.settle(admitted.stamp(), verdict);
}

// === impl Admitted ===

impl Admitted {
    /// By a look at the word alone.
    pub(crate) const fn at_once(pass: Pass) -> Self {
        Self { pass, started: Moment::NONE }
    }

    fn stamp(self) -> Stamp {
        Stamp { epoch: self.pass.epoch(), started: self.started.get() }
    }
}

impl From<Stamp> for Admitted {
    fn from(Stamp { epoch, started }: Stamp) -> Self {
        Self { pass: Pass::of(epoch), started: started.into() }
    }
}

/// The call was dropped. If that was after its deadline, then because it took too long, which nobody else
/// would tell; if it was before, then for a reason that the service inside cannot be blamed for.
impl<C> Drop for Ticket<C> {
    #[inline]
    fn drop(&mut self) {
        if self.gate.is_some() {
            self.dropped();
        }
    }
}

/// Is dropped only by a panic.
pub(crate) struct Panicked<'a, C> {
    ticket: &'a mut Ticket<C>,
    verdict: Verdict,
}

impl<C> Panicked<'_, C> {
    /// It did not.
    #[inline(always)]
    pub(crate) const fn disarm(self) {
        mem::forget(self);
    }
}

impl<C> Drop for Panicked<'_, C> {
    #[cold]
    fn drop(&mut self) {
        self.ticket.settle(self.verdict);
    }
}

/// Guards the call of the service inside, as a [`Ticket::guard`] does where there is no ticket yet: one that
/// is borrowed at that time would keep the future from being made where it stays.
pub(crate) struct CallPanicked {
    pub(crate) gate: &'static Gate,
    pub(crate) admitted: Admitted,
    pub(crate) verdict: Verdict,
}

impl CallPanicked {
    /// It did not.
    #[inline(always)]
    pub(crate) const fn disarm(self) {
        mem::forget(self);
    }
}

impl Drop for CallPanicked {
    // It hands over values, so that it need not lie in memory itself.
    #[inline(always)]
    fn drop(&mut self) {
        settle(self.gate, self.admitted, self.verdict);
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;

    #[test]
    fn an_admitted_call_keeps_its_stamp() {
        for started in [None, Some(Instant::now())] {
            let stamp = Stamp { epoch: 77, started };
            assert_eq!(Admitted::from(stamp).stamp(), stamp);
        }
    }
}
