use std::{sync::Arc, time::Duration};

use stockade_core::{
    Reason, Rejected, Timers,
    config::{MAX_DURATION, MIN_DURATION, allow},
};
use tower_layer::Layer;

use crate::{
    Limit, LimitHandle,
    gate::{Gate, MAX},
};

/// Lets at most so many calls be in flight at once.
///
/// It does not start anything, bound the rate of calls, or end calls that take long.
///
/// All clones of a layer, all services it makes and all their clones share one limit, unless it is
/// [`isolated`](Self::isolated). A setter starts a new limit, so set first and clone then.
///
/// # Example
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use stockade_core::Error;
/// use stockade_limit::LimitLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let limit = LimitLayer::new(64).queue(1_000).max_wait(Duration::from_secs(1));
/// let handle = limit.handle();
/// let svc = ServiceBuilder::new()
///     .layer(limit)
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(svc.oneshot(1).await.unwrap(), 2);
/// assert_eq!((handle.in_flight(), handle.max()), (0, 64));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct LimitLayer {
    settings: Settings,
    state: Arc<State>,
    isolated: bool,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    max: u32,
    queue: u32,
    max_wait: Option<Duration>,
    name: Option<&'static str>,
}

/// What all who share a limit share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) gate: Gate,
    pub(crate) max_wait: Option<Duration>,
    name: Option<&'static str>,
    timers: Timers,
}

// === impl LimitLayer ===

impl LimitLayer {
    /// At most `max` calls in flight, and a queue of 1,024 behind them.
    ///
    /// # Panics
    ///
    /// If `max` is not from 1 to `i32::MAX`.
    #[track_caller]
    pub fn new(max: usize) -> Self {
        let max = allow("LimitLayer::new", max, 1..=MAX) as u32;
        let settings = Settings { max, queue: 1_024, max_wait: None, name: None };
        Self { settings, state: Arc::new(State::new(settings)), isolated: false }
    }

    /// At most `n` calls wait (default 1,024); further ones are refused with
    /// [`Reason::QueueFull`]. With 0 a call that cannot run at once is refused at once.
    ///
    /// # Panics
    ///
    /// If `n` is above `i32::MAX`.
    #[must_use]
    #[track_caller]
    pub fn queue(self, n: usize) -> Self {
        let queue = allow("LimitLayer::queue", n, 0..=MAX) as u32;
        self.with(|settings| settings.queue = queue)
    }

    /// A call that has waited for `wait` is refused with [`Reason::WaitExceeded`], up to about a
    /// millisecond later (default: it waits for as long as its caller does).
    ///
    /// # Panics
    ///
    /// If `wait` is not from a nanosecond to ten years.
    #[must_use]
    #[track_caller]
    pub fn max_wait(self, wait: Duration) -> Self {
        let wait = allow("LimitLayer::max_wait", wait, MIN_DURATION..=MAX_DURATION);
        self.with(|settings| settings.max_wait = Some(wait))
    }

    /// A name for refusals and events.
    #[must_use]
    pub fn name(self, name: &'static str) -> Self {
        self.with(|settings| settings.name = Some(name))
    }

    /// Gives each service that this layer makes a limit of its own, whose handle is
    /// [`Limit::handle`].
    #[must_use]
    pub fn isolated(mut self) -> Self {
        self.isolated = true;
        self
    }

    /// Shows and changes the shared limit.
    pub fn handle(&self) -> LimitHandle {
        LimitHandle::new(Arc::clone(&self.state))
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(&mut self.settings);
        self.state = Arc::new(State::new(self.settings));
        self
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        let state = if self.isolated {
            Arc::new(State::new(self.settings))
        } else {
            Arc::clone(&self.state)
        };
        Limit::new(inner, state)
    }
}

// === impl State ===

impl State {
    fn new(settings: Settings) -> Self {
        Self {
            gate: Gate::new(settings.max, settings.queue),
            max_wait: settings.max_wait,
            name: settings.name,
            timers: Timers::default(),
        }
    }

    pub(crate) fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(&"limit", reason).with_name(self.name)
    }
}

impl AsRef<Timers> for State {
    fn as_ref(&self) -> &Timers {
        &self.timers
    }
}
