use serde::{Deserialize, Serialize};
use stockade_core::ConfigError;

use crate::{Error, StackBuilder, kept::KeptLimit};

/// The settings of a stack: a section for each layer, in the recommended order. A layer without a section is absent.
///
/// # Example
///
/// ```
/// use stockade_config::{StackConfig, toml};
///
/// let config: StackConfig = toml(r#"
///     [timeout]
///     limit = "10s"
///     [limit]
///     max = 64
/// "#)?;
/// let (layer, handle) = config.try_build()?.with_handle();
/// assert_eq!(handle.limit.unwrap().max(), 64);
/// assert!(handle.breaker.is_none());
/// # drop(layer);
///
/// let wrong = toml::<StackConfig>("[limit]\nmax = 0").unwrap_err();
/// assert_eq!(
///     wrong.to_string(),
///     "limit.max: 0 is not allowed, it has to be a whole number from 1 to 2147483647 (line 2)",
/// );
/// # Ok::<_, stockade_config::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StackConfig {
    /// How long a call may take with all its attempts.
    pub timeout: Option<stockade_timeout::Config>,
    /// When calls are repeated.
    pub retry: Option<stockade_retry::Config>,
    /// When a service counts as down.
    pub breaker: Option<stockade_breaker::Config>,
    /// How many attempts a second there may be.
    pub rate: Option<stockade_rate::Config>,
    /// How many attempts there may be at once.
    pub limit: Option<stockade_limit::Config>,
    /// How long an attempt may take.
    pub attempt_timeout: Option<stockade_timeout::Config>,
    /// The pool in front, which is built from this section by itself: see [`StackHandle::resizes`](crate::StackHandle::resizes).
    pub pool: Option<stockade_pool::Config>,
}

// === impl StackConfig ===

impl StackConfig {
    /// The layers.
    ///
    /// # Errors
    ///
    /// The first setting that is not allowed, that of the pool included. Nor may the limit of an attempt be above that of
    /// the whole call, because no attempt would ever reach it.
    pub fn try_build(self) -> Result<StackBuilder, Error> {
        let config = self.clone();
        if let (Some(timeout), Some(attempt)) = (&self.timeout, &self.attempt_timeout)
            && attempt.limit > timeout.limit
        {
            let [attempt, whole] = [attempt.limit, timeout.limit];
            let reason = format!("{attempt:?} is above timeout.limit, {whole:?}");
            return Err(Error::new("attempt_timeout.limit", reason));
        }
        section("pool", self.pool, stockade_pool::Config::try_build::<()>)?;
        let attempt_timeout =
            section("attempt_timeout", self.attempt_timeout, stockade_timeout::Config::try_build)?;
        Ok(StackBuilder {
            config,
            timeout: section("timeout", self.timeout, stockade_timeout::Config::try_build)?,
            retry: section("retry", self.retry, stockade_retry::Config::try_build)?,
            breaker: section("breaker", self.breaker, stockade_breaker::Config::try_build)?,
            rate: section("rate", self.rate, stockade_rate::Config::try_build)?,
            limit: section("limit", self.limit, stockade_limit::Config::try_build)?,
            attempt_timeout: attempt_timeout.map(|layer| layer.with_limit(KeptLimit)),
        })
    }
}

/// Makes the layer of a section, if there is one.
fn section<T, L>(
    name: &str,
    config: Option<T>,
    build: fn(T) -> Result<L, ConfigError>,
) -> Result<Option<L>, Error> {
    config.map(build).transpose().map_err(|error| Error::of_section(name, &error))
}
