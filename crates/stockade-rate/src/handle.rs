//! Reads the state of a rate limit, and changes it at run time.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use stockade_core::{ConfigError, Name, Reason, Rejected, internal, priority::Priority};

use crate::{
    Config,
    backend::{Admission, Backend},
    shared::Shared,
};

/// Reads the state of a rate limit, changes its rate, pauses it when a server asked for that, and takes tokens by hand.
///
/// It keeps no service alive. Each value is of the moment at which it was read. A clone is a handle to the same rate
/// limit.
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
/// let (layer, handle) = RateLayer::per_second(10).with_handle();
/// let echo = service_fn(|word: &'static str| async move { Ok::<_, Error<()>>(word) });
/// let service = ServiceBuilder::new().layer(layer).service(echo);
/// service.oneshot("hello").await.unwrap();
/// assert_eq!((handle.available(), handle.waiting()), (9, 0));
/// # }
/// ```
#[derive(Clone)]
pub struct RateHandle(pub(crate) Arc<Shared>);

// === impl RateHandle ===

impl RateHandle {
    /// The number of calls that would pass at once: the tokens in the bucket, or 0 while calls wait for them.
    pub fn available(&self) -> u32 {
        self.0.available()
    }

    /// The number of calls that wait in the queue.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }

    /// How many calls were refused for this reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.0.common().refusals.get(reason)
    }

    /// How many calls of this class were refused, for whatever reason.
    pub fn refused_of(&self, priority: Priority) -> u64 {
        self.0.common().refusals.of(priority)
    }

    /// The configuration, with the rate and the burst that hold now.
    pub fn config(&self) -> Config {
        self.0.config()
    }

    /// Goes on with up to `n` calls in the time `per`.
    ///
    /// The tokens that are there, and the part of the next one that has come, stay. A burst that was
    /// [set](crate::RateLayer::burst) stays too, otherwise it is `n`; tokens that do not fit are gone. So over a time
    /// in which the rate changes, at most the larger of both bursts passes, and what each rate gives while it holds.
    /// Calls that wait keep their order, and wait for as long as the new rate makes them: `max_wait` and the deadline
    /// were checked when they came. One that costs more than the new burst is refused when its turn comes.
    ///
    /// A rate limit whose rate has changed takes a short lock on every call. Set back to the rate it was made with, it
    /// needs none.
    ///
    /// # Errors
    ///
    /// Unless `per` is from 1 ns to ten years, `n` from 1 to the number of nanoseconds in `per`, and a burst that was
    /// set comes in at most twenty years. Nothing changes then.
    pub fn set_rate(&self, n: u32, per: Duration) -> Result<(), ConfigError> {
        self.0.set_rate(self.0.common().now(), n, per)
    }

    /// Gives no token until `pause` has passed, as a server asks for that answers `429 Too Many Requests` with a
    /// `Retry-After`.
    ///
    /// The tokens that are there are gone. When the time has passed there is one, and then one per period, because a
    /// burst would be answered as the last one was. A penalty never makes the next token come earlier, so of several
    /// the one that ends last counts. One of more than ten years is cut to that. Calls that wait go on waiting in their
    /// order, and `retry_after` includes the penalty. Calls that have passed are not held back.
    pub fn penalize(&self, pause: Duration) {
        self.0.penalize(self.0.common().now(), pause);
    }

    /// Corrects what a call was charged, once its real cost is known: takes so many more tokens, or with a negative
    /// number gives some back.
    ///
    /// Tokens that are not there are owed: calls wait until they have come, too. At most twenty years of them can be
    /// owed. What does not fit into the bucket when it is given back is gone, and it does not end a penalty.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use stockade_rate::RateLayer;
    ///
    /// let (_layer, handle) = RateLayer::per_second(1_000).with_handle();
    /// handle.try_take(100).unwrap(); // an estimate
    /// handle.settle(-40); // it took 60
    /// assert_eq!(handle.available(), 940);
    /// # }
    /// ```
    pub fn settle(&self, tokens: i64) {
        self.0.adjust(self.0.common().now(), tokens);
    }

    /// Takes `n` tokens for something that is no call of a service, if they are there and no call waits.
    ///
    /// # Errors
    ///
    /// [`RateLimited`](stockade_core::Reason::RateLimited) with the time after which they would be there, or
    /// [`TooCostly`](stockade_core::Reason::TooCostly) for more than the burst.
    pub fn try_take(&self, n: u32) -> Result<(), Rejected> {
        NonZeroU32::new(n).map_or(Ok(()), |cost| self.0.try_take(cost))
    }

    /// Takes `n` tokens, and waits for them in the queue like a call that costs as much.
    ///
    /// # Errors
    ///
    /// The refusals of [`Rate`](crate::Rate), for the same reasons.
    ///
    /// # Panics
    ///
    /// When it has to wait outside a tokio runtime with time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future returns its place in the queue. Tokens are gone only when it is ready.
    pub async fn take(&self, n: u32) -> Result<(), Rejected> {
        let Some(cost) = NonZeroU32::new(n) else { return Ok(()) };
        match Shared::admit(&self.0, cost) {
            Admission::Pass => Ok(()),
            Admission::Refuse(refusal) => Err(refusal.rejected()),
            Admission::Wait(waiter) => {
                internal::Admission::new(waiter).admitted().await?;
                Ok(())
            }
        }
    }

    /// Switches the rate limit off, or on again.
    ///
    /// While it is off no call waits or is refused, and those that wait pass. Calls still take the tokens that are
    /// there.
    pub fn set_enabled(&self, enabled: bool) {
        self.0.common().enable(enabled);
        self.0.switched();
    }

    /// Whether it is switched on, as it is at first.
    pub fn is_enabled(&self) -> bool {
        self.0.common().is_enabled()
    }
}

impl fmt::Debug for RateHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config();
        f.debug_struct("RateHandle")
            .field("name", &Name::known(config.name.as_ref()))
            .field("calls", &config.calls)
            .field("per", &config.per)
            .field("available", &self.available())
            .field("waiting", &self.waiting())
            .finish()
    }
}
