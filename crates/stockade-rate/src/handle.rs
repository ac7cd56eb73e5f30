//! What there is to see, and to turn at run time.

use std::{sync::Arc, time::Duration};

use stockade_core::config::{MAX_DURATION, MIN_DURATION, allow};

use crate::{
    bucket::{self, MAX_FILL},
    gate::Gate,
    layer::{non_zero, saturate},
};

/// Reads the state of a rate limit, changes its rate, and makes it pause when a server asked for that.
///
/// It does not let go of those who wait, and does not keep any service alive. Each value is of the moment
/// at which it was read. A clone is a handle to the same rate limit.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_rate::RateLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let layer = RateLayer::per_second(10);
/// let handle = layer.handle();
/// let echo = service_fn(|word: &'static str| async move { Ok::<_, Error<()>>(word) });
/// let service = ServiceBuilder::new().layer(layer).service(echo);
/// service.oneshot("hello").await.unwrap();
/// assert_eq!((handle.available(), handle.waiting()), (9, 0));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RateHandle {
    gate: Arc<Gate>,
}

// === impl RateHandle ===

impl RateHandle {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// The number of calls that would pass at once: the tokens in the bucket, and zero while calls wait
    /// for them.
    pub fn available(&self) -> u32 {
        self.gate.available()
    }

    /// The number of calls that wait in the queue.
    pub fn waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// Goes on with up to `n` calls in the time `per`.
    ///
    /// The tokens that are there, and the part of the next one that has come, stay; a burst that was
    /// [set](crate::RateLayer::burst) stays too, otherwise it is `n` again, and tokens that do not fit any
    /// more run over. So over a time in which the rate changes at most the larger of both bursts passes, and
    /// what each rate gives while it holds. Calls that wait keep their order, and wait for as long as the new
    /// rate makes them: `max_wait` and the deadline were asked about when they came. One that costs more
    /// than the new burst is refused when its turn comes.
    ///
    /// A rate limit whose rate has changed takes a short lock on every call; set back to the rate it
    /// was made with, it needs none.
    ///
    /// # Panics
    ///
    /// Unless `per` is from 1 ns to ten years, `n` from 1 to the number of nanoseconds in `per`, and a burst
    /// that was set comes in at most twenty years.
    #[track_caller]
    pub fn set_rate(&self, n: u32, per: Duration) {
        let per = allow("RateHandle::set_rate, per", per, MIN_DURATION..=MAX_DURATION);
        let n = allow("RateHandle::set_rate, n", n, 1..=saturate(per.as_nanos()));
        let (period, burst) = (bucket::period(n, per), self.gate.rules().burst);
        if let Some(burst) = burst {
            allow("RateHandle::set_rate, per / n", period, MIN_DURATION..=MAX_FILL / burst.get());
        }
        let quota = bucket::quota(period, burst.unwrap_or(non_zero(n)));
        self.gate.set_quota(self.gate.now(), quota);
    }

    /// Gives no token before the time `pause` has passed, as a server asks for that said
    /// `429 Too Many Requests` with a `Retry-After`.
    ///
    /// The tokens that are there are gone. When the time has passed there is one, and then one a
    /// period: a burst would be answered as the last one was. It never makes the next token come
    /// earlier, so of several penalties the one that ends last counts; a longer one than ten years is cut to
    /// that. Calls that wait go on waiting, in their order, and `retry_after` says the time with the
    /// penalty. Calls that have passed are not held back.
    pub fn penalize(&self, pause: Duration) {
        self.gate.penalize(self.gate.now() + pause.min(MAX_DURATION));
    }
}
