use std::{fmt, future::poll_fn, sync::Arc, time::Duration};

use stockade_core::{
    ConfigError, Reason, Rejected,
    config::check,
    internal::{Admission, Key},
    priority::Priority,
};

use crate::{
    Permit,
    config::{MAXIMA, QUEUES, WAITS},
    shared::Shared,
};

/// Shows a limit, changes it while it runs, and takes permits by hand.
///
/// It keeps the numbers alive, not the service. The numbers are read one by one while calls come and go.
///
/// # Example
///
/// A service that ends takes no more calls, and waits for those in flight:
///
/// ```
/// use stockade_limit::LimitLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (layer, handle) = LimitLayer::new(64).with_handle();
/// let permit = handle.acquire().await.unwrap();
/// handle.close();
/// assert!(handle.acquire().await.is_err());
///
/// tokio::spawn(async move { drop(permit) });
/// handle.drained().await;
/// assert_eq!(handle.in_flight(), 0);
/// # drop(layer);
/// # }
/// ```
#[derive(Clone)]
pub struct LimitHandle(pub(crate) Arc<Shared>);

/// A place among those who wait until nothing is in flight.
struct Drains<'a> {
    shared: &'a Shared,
    key: Option<Key>,
}

// === impl LimitHandle ===

impl LimitHandle {
    /// How many calls are in flight, with the permits that were taken by hand. While the maximum changes it may be
    /// off by the change, for that moment.
    pub fn in_flight(&self) -> usize {
        self.0.semaphore.in_flight() as usize
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.0.semaphore.waiting() as usize
    }

    /// How many calls may be in flight at once.
    pub fn max(&self) -> usize {
        self.0.semaphore.max() as usize
    }

    /// How many calls may wait.
    pub fn queue(&self) -> usize {
        self.0.bounds().queue as usize
    }

    /// How long a call may wait, if that is bounded.
    pub fn max_wait(&self) -> Option<Duration> {
        self.0.bounds().max_wait
    }

    /// The name in refusals and events.
    pub fn name(&self) -> Option<&'static str> {
        self.0.name
    }

    /// How many calls were refused for `reason`, which is [`QueueFull`](Reason::QueueFull),
    /// [`WaitExceeded`](Reason::WaitExceeded), [`Expired`](Reason::Expired), [`PoolClosed`](Reason::PoolClosed), or
    /// [`Shed`](Reason::Shed) for one that gave way in a full queue that is not first come, first served.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.0.refusals.get(reason)
    }

    /// How many calls of this class were refused, for whatever reason.
    pub fn refused_of(&self, priority: Priority) -> u64 {
        self.0.refusals.of(priority)
    }

    /// Changes how many calls may be in flight at once. If it is raised, calls that wait start at once. If it is
    /// lowered, calls in flight go on, and none starts until enough have ended.
    ///
    /// An adaptive limit goes on from there, and returns between its bounds with its next change.
    ///
    /// # Errors
    ///
    /// If `max` is not from 1 to `i32::MAX`. Nothing changes then.
    pub fn set_max(&self, max: usize) -> Result<(), ConfigError> {
        let max = check("LimitHandle::set_max", max, MAXIMA)?;
        self.0.semaphore.set_max(max as u32);
        Ok(())
    }

    /// Changes how many calls may wait. Those that wait already go on.
    ///
    /// # Errors
    ///
    /// If `n` is above `i32::MAX`. Nothing changes then.
    pub fn set_queue(&self, n: usize) -> Result<(), ConfigError> {
        let queue = check("LimitHandle::set_queue", n, QUEUES)?;
        self.0.bounds().queue = queue as u32;
        Ok(())
    }

    /// Changes how long a call may wait, for calls that begin to wait after that. `None` is as long as its caller does.
    ///
    /// # Errors
    ///
    /// If `wait` is above ten years. Nothing changes then.
    pub fn set_max_wait(&self, wait: Option<Duration>) -> Result<(), ConfigError> {
        let wait = wait.map(|wait| check("LimitHandle::set_max_wait", wait, WAITS)).transpose()?;
        self.0.bounds().max_wait = wait;
        Ok(())
    }

    /// Switches the limit off, or on again. Switched off, it lets every call pass, also those that wait, and
    /// still counts them.
    pub fn set_enabled(&self, enabled: bool) {
        self.0.semaphore.set_enabled(enabled);
    }

    /// Whether the limit is switched on.
    pub fn is_enabled(&self) -> bool {
        self.0.semaphore.is_enabled()
    }

    /// Takes no more calls, for good. New calls and those that wait are refused with
    /// [`PoolClosed`](Reason::PoolClosed), the reason of everything here that was closed; calls in flight go on. A
    /// limit that is switched off is closed too.
    pub fn close(&self) {
        self.0.semaphore.close();
    }

    /// Whether the limit is closed.
    pub fn is_closed(&self) -> bool {
        self.0.semaphore.is_closed()
    }

    /// Waits until the limit is [closed](Self::close) and nothing is in flight. Any number of tasks may wait.
    ///
    /// Permits that were taken by hand are in flight, and so are instances of
    /// [`LimitLayer::backpressure`](crate::LimitLayer::backpressure) that are ready.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn drained(&self) {
        let mut drains = Drains { shared: &self.0, key: None };
        poll_fn(|cx| self.0.semaphore.poll_drained(&mut drains.key, cx.waker())).await;
    }

    /// A permit, if there is one at once and nobody waits.
    pub fn try_acquire(&self) -> Option<Permit> {
        self.0.try_acquire()
    }

    /// Waits for a permit as a call does: in the same queue, with the same bounds. For streams, connections that are
    /// checked out, and loops.
    ///
    /// # Errors
    ///
    /// The refusal that a call would get.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the queue.
    pub async fn acquire(&self) -> Result<Permit, Rejected> {
        let acquired = self.acquire_in_time().await;
        acquired.inspect_err(Rejected::tell)
    }

    async fn acquire_in_time(&self) -> Result<Permit, Rejected> {
        if let Some(permit) = self.try_acquire() {
            return Ok(permit);
        }
        Admission::new(self.0.join(None)?).admitted().await
    }
}

impl fmt::Debug for LimitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitHandle")
            .field("name", &self.name())
            .field("in_flight", &self.in_flight())
            .field("waiting", &self.waiting())
            .field("max", &self.max())
            .finish()
    }
}

// === impl Drains ===

impl Drop for Drains<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.semaphore.stop_draining(key);
        }
    }
}
