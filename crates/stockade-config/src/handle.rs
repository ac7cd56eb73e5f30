use std::{
    collections::BTreeMap,
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};
use stockade_breaker::BreakerHandle;
use stockade_core::ConfigError;
use stockade_limit::LimitHandle;
use stockade_pool::PoolHandle;
use stockade_rate::RateHandle;
use stockade_retry::RetryHandle;
use stockade_timeout::TimeoutHandle;
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    Change, Error, StackConfig,
    change::{at_run_time, changes},
    gate::Gate,
};

/// The handles of the layers that a stack has, and what changes their settings together.
///
/// What is set through the handle of a layer by hand stays until its section changes.
#[derive(Clone)]
pub struct StackHandle {
    /// That of the total timeout.
    pub timeout: Option<TimeoutHandle>,
    /// That of the retry.
    pub retry: Option<RetryHandle>,
    /// That of the breaker.
    pub breaker: Option<BreakerHandle>,
    /// That of the rate limit.
    pub rate: Option<RateHandle>,
    /// That of the limit.
    pub limit: Option<LimitHandle>,
    /// That of the attempt timeout. A call keeps the limit that holds when it begins, for all its attempts.
    pub attempt_timeout: Option<TimeoutHandle>,
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) gate: Arc<Gate>,
    config: Mutex<StackConfig>,
    /// Held by the one who changes settings.
    turn: AsyncMutex<()>,
    resize: OnceLock<Box<Resize>>,
}

type Resize = dyn Fn(RangeInclusive<usize>) -> Result<(), ConfigError> + Send + Sync;

/// What settings are read for: one [stack](StackHandle), or several by name.
pub trait Reload: Send + Sync + 'static {
    /// The settings.
    type Config: DeserializeOwned + Serialize + Send + 'static;

    /// Puts settings into force: all of them, or none. Returns what has changed.
    ///
    /// # Errors
    ///
    /// The first setting that is not allowed, or all that cannot change at run time. Nothing has changed then.
    fn reload(
        &self,
        config: Self::Config,
    ) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
}

// === impl StackHandle ===

impl StackHandle {
    /// The settings in force, as they were read.
    pub fn config(&self) -> StackConfig {
        self.shared.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets `pool.workers` be changed at run time: by this pool, which stands in front of the stack. It does not keep
    /// the pool. The first one that is given counts.
    ///
    /// ```
    /// use stockade_config::{StackConfig, toml};
    /// use stockade_core::Error;
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), stockade_core::BoxError> {
    /// let config: StackConfig = toml("[limit]\nmax = 8\n[pool]\nworkers = 2")?;
    /// let pool = config.pool.clone().unwrap_or_default().try_build()?;
    /// let (layer, handle) = config.try_build()?.with_handle();
    /// let client = ServiceBuilder::new()
    ///     .layer(layer)
    ///     .map_err(Error::Service)
    ///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
    /// let pool = pool.build(client);
    /// handle.resizes(&pool.handle());
    ///
    /// handle.reload(toml("[limit]\nmax = 8\n[pool]\nworkers = 4")?).await?;
    /// assert_eq!(pool.handle().stats().max_workers, 4);
    /// assert_eq!(pool.oneshot(1).await?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn resizes<Req, T, E>(&self, pool: &PoolHandle<Req, T, E>)
    where
        Req: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let pool = pool.downgrade();
        let _ = self.shared.resize.set(Box::new(move |workers| {
            pool.upgrade().map_or(Ok(()), |pool| pool.resize(workers))
        }));
    }

    /// Puts other settings into force: all of them, or none. Returns what has changed.
    ///
    /// First all are checked. Then they are set, while no call is being made: so each call finds either all of them as
    /// they were or all of them changed. The [crate] says what that means for calls that are under way.
    ///
    /// # Errors
    ///
    /// The first setting that is not allowed, or all that cannot change at run time. Nothing has changed then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready changes nothing.
    pub async fn reload(&self, config: StackConfig) -> Result<Vec<Change>, Error> {
        let _turn = self.shared.turn.lock().await;
        let changes = self.check(&config)?;
        self.apply(config, &changes).await?;
        Ok(changes)
    }

    /// What would change, if these settings can be put into force.
    ///
    /// # Errors
    ///
    /// Those of [`reload`](Self::reload).
    pub fn check(&self, config: &StackConfig) -> Result<Vec<Change>, Error> {
        at_run_time(self.changes(config)?)
    }

    /// Those that need a restart too.
    fn changes(&self, config: &StackConfig) -> Result<Vec<Change>, Error> {
        drop(config.clone().try_build()?);
        changes(&self.config(), config, self.shared.resize.get().is_some())
    }

    async fn apply(&self, config: StackConfig, changes: &[Change]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let closed = self.shared.gate.close().await;
        let set = self.set(&config, changes);
        *self.shared.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        drop(closed);
        // All of them were checked.
        set.map_err(|error| Error::new(error.setting(), error.reason()))
    }
}

impl StackHandle {
    /// Calls the setters of the layers of which something has changed.
    fn set(&self, to: &StackConfig, changes: &[Change]) -> Result<(), ConfigError> {
        let has = |setting: &str| changes.iter().any(|change| change.is_in(setting));
        let Self { timeout, retry, breaker, rate, limit, attempt_timeout, shared } = self;
        when(has("timeout"), timeout, &to.timeout, |handle, to| handle.set(to.limit))?;
        when(has("retry"), retry, &to.retry, |handle, to| {
            let mut to = to.clone();
            // A budget that has not changed keeps its tokens.
            to.budget = has("retry.budget").then(|| to.budget.unwrap_or_default());
            handle.set(to)
        })?;
        when(has("breaker"), breaker, &to.breaker, |handle, to| handle.set(*to))?;
        when(has("rate"), rate, &to.rate, |handle, to| handle.set_rate(to.calls, to.per))?;
        when(has("limit"), limit, &to.limit, |handle, to| {
            handle.set_queue(to.queue)?;
            handle.set_max_wait(to.max_wait)?;
            handle.set_max(to.max)
        })?;
        when(has("attempt_timeout"), attempt_timeout, &to.attempt_timeout, |handle, to| {
            handle.set(to.limit)
        })?;
        let resize = shared.resize.get();
        when(has("pool"), &resize, &to.pool, |resize, to| resize(to.workers.clone()))
    }
}

/// Sets what has changed, if it is there.
fn when<H, C>(
    has_changed: bool,
    handle: &Option<H>,
    config: &Option<C>,
    set: impl FnOnce(&H, &C) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    match (handle, config) {
        (Some(handle), Some(config)) if has_changed => set(handle, config),
        _ => Ok(()),
    }
}

impl Reload for StackHandle {
    type Config = StackConfig;

    async fn reload(&self, config: StackConfig) -> Result<Vec<Change>, Error> {
        Self::reload(self, config).await
    }
}

#[cfg(feature = "metrics")]
impl stockade_metrics::Handles for &StackHandle {
    fn add_to(
        self,
        metrics: &stockade_metrics::Metrics,
        name: &str,
    ) -> Result<(), stockade_metrics::NameTaken> {
        let StackHandle { timeout, retry, breaker, rate, limit, attempt_timeout, .. } =
            self.clone();
        (timeout, retry, breaker, rate, limit, attempt_timeout).add_to(metrics, name)
    }
}

impl fmt::Debug for StackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackHandle").field("config", &self.config()).finish_non_exhaustive()
    }
}

/// Several stacks in one file: a table for each. All are checked before the first one is changed; then they are changed
/// one after the other.
impl Reload for BTreeMap<String, StackHandle> {
    type Config = BTreeMap<String, StackConfig>;

    async fn reload(&self, mut config: Self::Config) -> Result<Vec<Change>, Error> {
        let (mut all, mut checked) = (Vec::new(), Vec::new());
        for (name, handle) in self {
            let turn = handle.shared.turn.lock().await;
            let Some(config) = config.remove(name) else {
                all.push(Change::of_stack(name, "a stack cannot go"));
                continue;
            };
            let changes = handle.changes(&config).map_err(|error| error.within(name))?;
            all.extend(changes.iter().map(|change| change.clone().within(name)));
            checked.push((handle, config, changes, turn));
        }
        all.extend(config.keys().map(|name| Change::of_stack(name, "a stack cannot appear")));
        let all = at_run_time(all)?;
        for (handle, config, changes, _turn) in checked {
            handle.apply(config, &changes).await?;
        }
        Ok(all)
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: StackConfig) -> Self {
        let config = Mutex::new(config);
        Self { gate: Arc::default(), config, turn: AsyncMutex::default(), resize: OnceLock::new() }
    }
}
