use std::sync::Arc;

use stockade_core::{
    Class, Classify, DefaultClassify, LayerError, Reason, deadline,
    internal::{
        lock,
        sync::{
            Mutex,
            atomic::{AtomicU64, Ordering::*},
        },
    },
};
use tokio::time::Instant;

use crate::{Measure, Meter, Policy, Sample, meter::sealed::Sealed};

/// A limit that follows a [`Policy`]; see [`LimitLayer::adaptive`](crate::LimitLayer::adaptive).
#[derive(Debug)]
pub struct Adaptive<P, C = DefaultClassify> {
    /// As it was given, to start others from.
    policy: P,
    classify: C,
    bounds: Bounds,
    /// Counts the changes of the limit. Released after a change, acquired before a call is admitted: who reads
    /// an epoch is admitted under its limit, or under a later one.
    epoch: AtomicU64,
    live: Mutex<Live<P>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

#[derive(Debug)]
struct Live<P> {
    policy: P,
    /// The limit, with its fraction.
    limit: f64,
}

/// What one call carries.
#[derive(Debug)]
pub struct Stamp {
    epoch: u64,
    /// None before the call, and after its end.
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    at: Instant,
    in_flight: u32,
    /// The ambient deadline.
    until: Option<Instant>,
}

// === impl Adaptive ===

impl<P: Policy, C> Adaptive<P, C> {
    pub(crate) fn new(policy: P, classify: C, bounds: Bounds, limit: u32) -> Self {
        let live = Live { policy: policy.clone(), limit: f64::from(limit) };
        Self { policy, classify, bounds, epoch: AtomicU64::new(0), live: Mutex::new(live) }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(crate) fn policy(&self) -> &P {
        &self.policy
    }

    pub(crate) fn classifier(&self) -> &C {
        &self.classify
    }

    fn sample<R>(
        &self,
        epoch: u64,
        begun: &Begun,
        dropped: bool,
        set: impl FnOnce(u32) -> R,
    ) -> Option<R> {
        if self.epoch.load(Relaxed) != epoch {
            return None;
        }
        let round_trip = begun.at.elapsed();
        let mut live = lock(&self.live);
        // Changes under the lock alone.
        if self.epoch.load(Relaxed) != epoch {
            return None;
        }
        let limit = live.limit;
        let sample = Sample { limit, in_flight: begun.in_flight as usize, round_trip, dropped };
        let wanted = live.policy.update(&sample);
        if wanted.is_nan() || (wanted > limit && !sample.is_used()) {
            return None;
        }
        live.limit = wanted.clamp(f64::from(self.bounds.min), f64::from(self.bounds.max));
        let max = live.limit as u32;
        if max == limit as u32 {
            return None;
        }
        let set = set(max);
        self.epoch.fetch_add(1, Release);
        Some(set)
    }
}

#[cfg(all(test, shuttle))]
impl<P, C> Adaptive<P, C> {
    pub(crate) fn limit(&self) -> u32 {
        lock(&self.live).limit as u32
    }
}

impl<P, C> Sealed for Adaptive<P, C> {}

impl<P, C> Meter for Adaptive<P, C>
where
    P: Policy,
    C: Clone + Send + Sync + 'static,
{
    type Stamp = Stamp;
    type Hold = Arc<Self>;

    #[inline]
    fn hold(meter: &Arc<Self>) -> Arc<Self> {
        Arc::clone(meter)
    }

    #[inline]
    fn held(hold: &Arc<Self>) -> &Self {
        hold
    }

    fn fresh(&self, max: u32) -> Self {
        Self::new(self.policy.clone(), self.classify.clone(), self.bounds, max)
    }

    #[inline]
    fn stamp(&self) -> Stamp {
        Stamp { epoch: self.epoch.load(Acquire), begun: None }
    }

    #[inline]
    fn begin(&self, stamp: &mut Stamp, in_flight: impl FnOnce() -> u32) {
        let begun =
            Begun { in_flight: in_flight(), until: deadline::current(), at: Instant::now() };
        stamp.begun = Some(begun);
    }

    fn abandoned<R>(&self, stamp: &mut Stamp, set: impl FnOnce(u32) -> R) -> Option<R> {
        let begun = stamp.begun.take()?;
        // Dropped because its time was up, as by a timeout outside; why else is not known.
        let late = begun.until.is_some_and(|until| until <= Instant::now());
        if late { self.sample(stamp.epoch, &begun, true, set) } else { None }
    }

    fn set_max<R>(&self, max: u32, set: impl FnOnce(u32) -> R) -> R {
        let mut live = lock(&self.live);
        live.limit = f64::from(max);
        let set = set(max);
        self.epoch.fetch_add(1, Release);
        set
    }
}

impl<P, C, T, E> Measure<T, E> for Adaptive<P, C>
where
    Self: Meter<Stamp = Stamp>,
    P: Policy,
    C: Classify<T, E>,
    E: LayerError,
{
    fn ended<R>(
        &self,
        stamp: &mut Stamp,
        result: Result<&T, &E>,
        set: impl FnOnce(u32) -> R,
    ) -> Option<R> {
        let begun = stamp.begun.take()?;
        let dropped = match self.classify.classify(result) {
            Class::Success | Class::Permanent => false,
            Class::Overload { .. } => true,
            Class::Transient { .. } if is_elapsed(result) => true,
            // How long a failure took says nothing about how long the work takes.
            Class::Transient { .. } | Class::NoEffect { .. } | Class::Ignored => return None,
        };
        self.sample(stamp.epoch, &begun, dropped, set)
    }
}

fn is_elapsed<T, E: LayerError>(result: Result<&T, &E>) -> bool {
    let rejected = result.err().and_then(LayerError::rejected);
    rejected.is_some_and(|rejected| rejected.reason() == Reason::Elapsed)
}
