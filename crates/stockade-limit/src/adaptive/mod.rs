//! A limit that finds its maximum by itself.
//!
//! [`Measured`], a service inside the limit, measures the calls. A [`Policy`] says what maximum follows. The
//! [`Controller`] stands between: it decides which calls tell anything, and changes the maximum of the semaphore.

mod aimd;
mod baseline;
mod gradient2;
mod measured;
mod policy;
mod vegas;

use std::sync::{Arc, PoisonError, TryLockError};

use stockade_core::{
    DefaultClassify,
    config::allow,
    internal::sync::{Mutex, MutexGuard},
};
use tokio::time::Instant;

use crate::{LimitLayer, Maximum, config::MAXIMA, layer::sealed::Sealed, shared::Shared};

pub use aimd::Aimd;
pub use gradient2::Gradient2;
pub use measured::Measured;
pub use policy::{Policy, Sample};
pub use vegas::Vegas;

/// The maximum follows a [`Policy`]; see [`LimitLayer::adaptive`].
///
/// Every call that reaches the service is a sample. Successes and [`Permanent`](stockade_core::Class::Permanent)
/// errors tell how long a call takes. [`Overload`](stockade_core::Class::Overload) and a timeout inside tell of
/// too much load. So does a call that is dropped because a timeout outside is over, or because its caller
/// gives up while at least half of the maximum is in flight, if the service had it for longer than calls usually
/// take; for twice as long while calls wait in the queue, because that may have taken the caller's time. Other errors
/// tell nothing, nor do refusals by layers inside, and calls that are dropped earlier.
///
/// Each change of the maximum starts a new epoch, and the results of calls that began before it change nothing. So
/// the maximum moves about once a round trip, and one burst of failures counts once. It grows only when at
/// least half of it was in flight.
///
/// The bounds are 1 and 1,000, and it starts with 20. Setters may come in any order: a lowest maximum above the
/// highest one means the highest, and a start beyond the bounds means the nearest.
#[derive(Clone, Debug)]
pub struct Adaptive<P, C = DefaultClassify> {
    policy: P,
    classify: C,
    min: usize,
    max: usize,
}

/// Moves the maximum of one limit.
#[derive(Debug)]
pub struct Controller<P, C> {
    shared: Arc<Shared>,
    classify: C,
    min: f64,
    max: f64,
    live: Mutex<Live<P>>,
}

#[derive(Debug)]
struct Live<P> {
    policy: P,
    /// The maximum with its fraction, as it was in this epoch.
    limit: f64,
    epoch: u32,
    /// How long calls take, in seconds: a moving average. None before the first answer.
    usual: Option<f64>,
}

/// What is known of a call when it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    epoch: u32,
    in_flight: u32,
    at: Instant,
    /// The ambient deadline.
    until: Option<Instant>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Answered,
    /// Lost to overload.
    Lost,
    /// Dropped before it had an answer.
    Dropped,
}

/// The weight of a call in the average of how long calls take.
const WEIGHT: f64 = 1.0 / 8.0;

// === impl Adaptive ===

impl<P, C> Adaptive<P, C> {
    pub(crate) const fn new(policy: P, classify: C) -> Self {
        Self { policy, classify, min: 1, max: 1_000 }
    }
}

impl<P, C> Sealed for Adaptive<P, C> {}

impl<P: Policy, C: Clone> Maximum for Adaptive<P, C> {
    type Controller = Arc<Controller<P, C>>;
    type Inner<S> = Measured<S, P, C>;

    const CAPS_CLASSES: bool = true;

    fn initial(&self, max: usize) -> usize {
        max.max(self.min).min(self.max)
    }

    fn controller(&self, shared: &Arc<Shared>) -> Arc<Controller<P, C>> {
        let shared = Arc::clone(shared);
        let live = Live {
            policy: self.policy.clone(),
            limit: f64::from(shared.semaphore.max()),
            epoch: shared.semaphore.epoch(),
            usual: None,
        };
        Arc::new(Controller {
            shared,
            classify: self.classify.clone(),
            min: self.min.min(self.max) as f64,
            max: self.max as f64,
            live: Mutex::new(live),
        })
    }

    fn inner<S>(controller: &Arc<Controller<P, C>>, service: S) -> Measured<S, P, C> {
        Measured::new(service, Arc::clone(controller))
    }
}

impl<P: Policy, C: Clone, X> LimitLayer<Adaptive<P, C>, X> {
    /// The maximum never goes below `n` (default 1).
    ///
    /// # Panics
    ///
    /// If `n` is not from 1 to `i32::MAX`.
    #[track_caller]
    pub fn min(self, n: usize) -> Self {
        let min = allow("LimitLayer::min", n, MAXIMA);
        self.with_maximum(|adaptive| Adaptive { min, ..adaptive })
    }

    /// The maximum never goes above `n` (default 1,000).
    ///
    /// # Panics
    ///
    /// If `n` is not from 1 to `i32::MAX`.
    #[track_caller]
    pub fn max(self, n: usize) -> Self {
        let max = allow("LimitLayer::max", n, MAXIMA);
        self.with_maximum(|adaptive| Adaptive { max, ..adaptive })
    }

    /// The maximum to start with (default 20).
    ///
    /// # Panics
    ///
    /// If `n` is not from 1 to `i32::MAX`.
    #[track_caller]
    pub fn initial(mut self, n: usize) -> Self {
        self.config.max = allow("LimitLayer::initial", n, MAXIMA);
        self.changed()
    }

    /// Judges results with `classify` (default [`DefaultClassify`]).
    pub fn classify<D: Clone>(self, classify: D) -> LimitLayer<Adaptive<P, D>, X> {
        self.with_maximum(|Adaptive { policy, min, max, .. }| Adaptive {
            policy,
            classify,
            min,
            max,
        })
    }
}

// === impl Controller ===

impl<P: Policy, C> Controller<P, C> {
    pub(crate) fn begin(&self, until: Option<Instant>) -> Begun {
        let semaphore = self.shared.semaphore;
        let (epoch, in_flight) = (semaphore.epoch(), semaphore.in_flight());
        Begun { epoch, in_flight, until, at: Instant::now() }
    }

    /// A call has ended.
    pub(crate) fn end(&self, call: &Begun, end: End) {
        let semaphore = self.shared.semaphore;
        if semaphore.epoch() != call.epoch {
            return;
        }
        // Nobody waits for this lock, because a policy is foreign code. Calls that end at the same instant tell much
        // the same, so one of them is enough.
        let Some(mut live) = try_lock(&self.live) else { return };
        if live.epoch != call.epoch {
            // Somebody else has changed it.
            (live.limit, live.epoch) = (f64::from(semaphore.max()), call.epoch);
        }
        let moved = live.next(call, end, semaphore.waiting() > 0).is_some_and(|wanted| {
            let old = live.limit as u32;
            live.limit = wanted.clamp(self.min, self.max);
            let max = live.limit as u32;
            let moved = max != old && semaphore.set_max_since(call.epoch, max);
            live.epoch += u32::from(moved);
            moved
        });
        drop(live);
        if moved {
            semaphore.hand_over();
        }
    }
}

#[cfg(all(test, shuttle))]
impl<P: Policy, C> Adaptive<P, C> {
    pub(crate) fn between(self, min: usize, max: usize) -> Self {
        Self { min, max, ..self }
    }
}

#[cfg(all(test, shuttle))]
impl<P: Policy, C> Controller<P, C> {
    /// What the policy goes on from.
    pub(crate) fn limit(&self) -> u32 {
        let live = try_lock(&self.live).expect("nobody else is here");
        let semaphore = self.shared.semaphore;
        if live.epoch == semaphore.epoch() { live.limit as u32 } else { semaphore.max() }
    }
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
        Err(TryLockError::WouldBlock) => None,
    }
}

// === impl Live ===

impl<P: Policy> Live<P> {
    /// The limit that follows, if the call tells anything. `queued` says whether calls wait for a place.
    fn next(&mut self, call: &Begun, end: End, queued: bool) -> Option<f64> {
        let now = Instant::now();
        let (limit, in_flight) = (self.limit, call.in_flight as usize);
        let round_trip = now.saturating_duration_since(call.at);
        let sample = Sample { limit, in_flight, round_trip, dropped: end != End::Answered };
        let seconds = sample.seconds();
        match end {
            End::Answered => {
                let usual = self.usual.unwrap_or(seconds);
                self.usual = Some(usual + (seconds - usual) * WEIGHT);
            }
            End::Lost => {}
            End::Dropped => {
                let timed_out = call.until.is_some_and(|until| until <= now);
                // A call that has waited for its place had less time here.
                let late = if queued { 2.0 } else { 1.0 };
                let lost = match self.usual {
                    Some(usual) => seconds >= late * usual && (timed_out || sample.is_used()),
                    None => timed_out,
                };
                if !lost {
                    return None;
                }
            }
        }
        let wanted = self.policy.update(&sample);
        let grows_unused = wanted > limit && !sample.is_used();
        (!wanted.is_nan() && !grows_unused).then_some(wanted)
    }
}
