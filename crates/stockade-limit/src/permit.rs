//! A place in flight, and the way to it.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{
    Reason, Rejected,
    deadline::Deadline,
    internal::{Key, Timer},
};

use crate::{
    gate::{Gate, Turn},
    meter::{Measure, Meter},
    state::State,
};

/// A place in flight; dropping it leaves.
pub(crate) struct Permit<A: Meter> {
    gate: &'static Gate,
    meter: A::Hold,
    stamp: A::Stamp,
}

/// A place in flight, or in the queue for one.
pub(crate) enum Place<A: Meter> {
    Queued(Ticket<A>),
    Entered(Permit<A>),
}

/// A place in the queue, and the time that it is good for.
pub(crate) struct Ticket<A: Meter> {
    state: Arc<State<A>>,
    /// None once the turn has been taken.
    key: Option<Key>,
    until: Option<Deadline>,
    timer: Option<Timer>,
}

// === impl Permit ===

impl<A: Meter> Permit<A> {
    #[inline]
    pub(crate) fn try_new(state: &State<A>) -> Option<Self> {
        let stamp = state.meter.stamp();
        state.gate.try_enter().then(|| Self::new(state, stamp))
    }

    /// Takes over a place that has been entered.
    #[inline]
    pub(crate) fn new(state: &State<A>, stamp: A::Stamp) -> Self {
        Self { gate: state.gate, meter: A::hold(&state.meter), stamp }
    }

    #[inline]
    pub(crate) fn begin(&mut self) {
        let Self { gate, meter, stamp } = self;
        A::held(meter).begin(stamp, || gate.in_flight());
    }

    /// The call has ended, and its place is about to be left.
    #[inline]
    pub(crate) fn end<T, E>(&mut self, result: Result<&T, &E>)
    where
        A: Measure<T, E>,
    {
        let Self { gate, meter, stamp } = self;
        if let Some(entered) = A::held(meter).ended(stamp, result, |max| gate.set_max(max)) {
            entered.wake();
        }
    }
}

impl<A: Meter> Drop for Permit<A> {
    #[inline(always)]
    fn drop(&mut self) {
        let Self { gate, meter, stamp } = self;
        let leave = Leave(gate);
        // Unless it has ended, the call was dropped, or panicked.
        if let Some(entered) = A::held(meter).abandoned(stamp, |max| gate.set_max(max)) {
            entered.wake();
        }
        drop(leave);
    }
}

/// Leaves, also when a policy panics.
struct Leave<'a>(&'a Gate);

impl Drop for Leave<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.leave();
    }
}

// === impl Place ===

impl<A: Meter> Place<A> {
    /// Enters, or joins the queue, if there is room for one more than `capacity` allows; otherwise gives the state
    /// back.
    pub(crate) fn join(state: Arc<State<A>>, capacity: u32) -> Result<Self, Arc<State<A>>> {
        let stamp = state.meter.stamp();
        match state.gate.enter_or_queue(capacity) {
            Turn::Entered => Ok(Self::Entered(Permit::new(&state, stamp))),
            Turn::Waits(key) => Ok(Self::Queued(Ticket::new(state, key))),
            Turn::Full => Err(state),
        }
    }

    /// Waits for the turn, or for the time that the wait may take.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        if let Self::Queued(ticket) = self {
            if let Err(reason) = ready!(ticket.poll(cx)) {
                return Poll::Ready(Err(ticket.state.rejected(reason)));
            }
            *self = Self::Entered(ticket.take());
        }
        Poll::Ready(Ok(()))
    }

    /// The place in flight, once it is one.
    pub(crate) fn entered(self) -> Option<Permit<A>> {
        match self {
            Self::Entered(permit) => Some(permit),
            Self::Queued(_) => None,
        }
    }
}

// === impl Ticket ===

impl<A: Meter> Ticket<A> {
    pub(crate) fn new(state: Arc<State<A>>, key: Key) -> Self {
        Self { state, key: Some(key), until: None, timer: None }
    }

    /// The wait counts from now, if it may not take for ever.
    pub(crate) fn start(&mut self) {
        self.until = self.state.max_wait.map(|wait| {
            let mut until = Deadline::after(wait);
            until.fix();
            until
        });
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let key = self.key.expect("a ticket is polled until it is taken");
        if self.state.gate.poll_turn(key, cx.waker()).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let Some(until) = &mut self.until else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Timer::register(until.fix(), cx));
        timer.poll(cx).map(|()| Err(Reason::WaitExceeded))
    }

    /// The turn has come: the place in the queue becomes one in flight.
    fn take(&mut self) -> Permit<A> {
        self.key = None;
        Permit::new(&self.state, self.state.meter.stamp())
    }
}

impl<A: Meter> Drop for Ticket<A> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.state.gate.give_up(key);
        }
    }
}
