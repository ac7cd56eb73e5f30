//! What Stockade's layers and pools do, measured and shown: metrics for Prometheus and OpenTelemetry, a layer that counts and
//! times calls, and a live page.
//!
//! A [`Metrics`] is a list of handles, each with a name. It costs nothing per call: a scrape reads the numbers that the
//! layers keep anyway.
//!
//! A [`MeasureLayer`] goes where calls themselves are to be counted: by what their results mean, with their attempts
//! and their durations.
//!
//! With the feature `otel` the same metrics are OpenTelemetry instruments, and with `dashboard` there is a page that shows
//! them live.
//!
//! It starts no server, and it pushes nothing.
//!
//! # Example
//!
//! ```
//! use stockade_limit::LimitLayer;
//! use stockade_metrics::{CONTENT_TYPE, Metrics};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let metrics = Metrics::new();
//! let (limit, handle) = LimitLayer::new(64).with_handle();
//! metrics.limit("database", handle)?;
//!
//! // Answer `/metrics` with this, and with `CONTENT_TYPE` as its content type:
//! let body = metrics.render();
//! assert!(body.contains(r#"stockade_limit_max{name="database"} 64"#));
//! assert!(CONTENT_TYPE.starts_with("application/openmetrics-text"));
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `prometheus` it is a [`Collector`](prometheus_client::collector::Collector) for
//! [`prometheus-client`](https://docs.rs/prometheus-client). If you already have a
//! [`Registry`](prometheus_client::registry::Registry), register it there:
//! `registry.register_collector(Box::new(metrics.clone()))`.
//!
//! # Names
//!
//! Every metric has the label `name`, which tells instances of a kind apart. Durations are in seconds. Labels such as
//! `reason` and `state` have the same values as in `tracing` events: what messages say, with `_` between the words. Each
//! kind has a crate feature.
//!
//! | metric | type | further label | what it is |
//! |---|---|---|---|
//! | `stockade_calls_total` | counter | `class` | measured calls that have ended, by what their result means |
//! | `stockade_calls_refused_total` | counter | `reason` | measured calls that a layer inside refused or ended |
//! | `stockade_calls_attempts_total` | counter | | attempts of measured calls, the first ones included |
//! | `stockade_calls_in_flight` | gauge | | measured calls in flight |
//! | `stockade_calls_duration_seconds` | histogram | | time that calls took until they were answered |
//! | `stockade_calls_recent_seconds` | gauge | `quantile` | the same over the last one or two minutes |
//! | `stockade_limit_in_flight` | gauge | | calls in flight |
//! | `stockade_limit_waiting` | gauge | | calls waiting in the queue |
//! | `stockade_limit_max` | gauge | | calls allowed in flight at once |
//! | `stockade_limit_refused_total` | counter | `reason` | calls refused |
//! | `stockade_limit_refused_by_priority_total` | counter | `priority` | calls refused |
//! | `stockade_rate_available` | gauge | | calls that would pass at once |
//! | `stockade_rate_waiting` | gauge | | calls waiting in the queue |
//! | `stockade_rate_refused_total` | counter | `reason` | calls refused |
//! | `stockade_rate_refused_by_priority_total` | counter | `priority` | calls refused |
//! | `stockade_rate_keyed_refused_total` | counter | `reason` | calls refused, of all keys together |
//! | `stockade_rate_keys` | gauge | | keys with a bucket of their own |
//! | `stockade_rate_overflow_available` | gauge | | calls that would pass at once and whose keys share the overflow bucket |
//! | `stockade_rate_overflow_waiting` | gauge | | calls waiting for a token of that bucket |
//! | `stockade_keyed_keys` | gauge | | keys with a stack of their own |
//! | `stockade_keyed_max_keys` | gauge | | keys that may have a stack of their own |
//! | `stockade_keyed_overflowed_total` | counter | | calls that shared a stack, because there was no place for their key |
//! | `stockade_keyed_refused_total` | counter | `reason` | calls refused before they reached a stack |
//! | `stockade_keyed_top_calls` | gauge | `rank` | calls of the ten keys with the most calls; `KeyedHandle::top` says which they are |
//! | `stockade_keyed_top_refused` | gauge | `rank` | refusals by the stacks of the ten keys with the most refusals |
//! | `stockade_retry_retries_total` | counter | | attempts after the first one of a call |
//! | `stockade_retry_recovered_total` | counter | | calls that succeeded after a retry |
//! | `stockade_retry_refusal_waits_total` | counter | | waits after a refusal by a layer inside |
//! | `stockade_retry_gave_up_total` | counter | `reason` | calls that failed and were not tried again |
//! | `stockade_breaker_state` | gauge | `state` | 1 for the current state, 0 for the others |
//! | `stockade_breaker_opened_total` | counter | | how often it opened |
//! | `stockade_breaker_refused_total` | counter | `reason` | calls refused |
//! | `stockade_breaker_window_calls` | gauge | | calls in the window |
//! | `stockade_breaker_window_failures` | gauge | | calls in the window that failed |
//! | `stockade_breaker_window_slow` | gauge | | calls in the window that were slow |
//! | `stockade_breaker_consecutive_failures` | gauge | | failures since the last success |
//! | `stockade_breaker_probes` | gauge | | probes in flight |
//! | `stockade_breaker_open_remaining_seconds` | gauge | | time until it lets probes through, 0 if it is not open |
//! | `stockade_timeout_limit_seconds` | gauge | | how long a call may take |
//! | `stockade_timeout_elapsed_total` | counter | | calls that it has ended |
//! | `stockade_pool_accepted_total` | counter | | jobs accepted |
//! | `stockade_pool_jobs_total` | counter | `status` | jobs that have ended |
//! | `stockade_pool_refused_total` | counter | `reason` | jobs refused |
//! | `stockade_pool_refused_by_priority_total` | counter | `priority` | jobs refused a place, or dropped from the queue to make room |
//! | `stockade_pool_callers_waiting` | gauge | | callers waiting for a place in the queue |
//! | `stockade_pool_oldest_seconds` | gauge | | how long the oldest job in the queue has waited |
//! | `stockade_pool_capacity` | gauge | | jobs that may wait for a worker |
//! | `stockade_pool_queued` | gauge | | jobs waiting for a worker |
//! | `stockade_pool_running` | gauge | | jobs running |
//! | `stockade_pool_paused` | gauge | | 1 while it is paused: no job begins |
//! | `stockade_pool_workers` | gauge | | workers alive |
//! | `stockade_pool_workers_idle` | gauge | | workers without a job |
//! | `stockade_pool_peak_queued` | gauge | | the most jobs that have waited at once |
//! | `stockade_pool_peak_running` | gauge | | the most jobs that have run at once |
//! | `stockade_pool_peak_workers` | gauge | | the most workers that have been alive at once |
//! | `stockade_pool_rebuilt_total` | counter | | times that a worker began to make its service anew, those that failed included |
//! | `stockade_pool_queue_wait_seconds` | gauge | `quantile` | time that jobs waited for a worker |
//! | `stockade_pool_run_time_seconds` | gauge | `quantile` | time that jobs ran |
//!
//! The durations of a pool exist if it [measures](stockade_pool::PoolBuilder::measure). Quantile 1 is the longest. They
//! are gauges, because a Prometheus summary needs a sum, which a pool does not keep.
//!
//! `dashboard.json`, beside this crate's manifest, is a Grafana dashboard that shows all of these, and `alerts.yml` has
//! alert rules for Prometheus: calls fail faster than the objective allows, a breaker does not close, the queue of a pool
//! is full, a retry has no budget left.
//!
//! # Why `prometheus-client`
//!
//! Its collectors are called at each scrape, so the values are current. A facade such as `metrics` is called when a
//! value changes; it would need a task that reads the handles periodically. The OpenTelemetry collector can scrape
//! the text that this makes.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "breaker")]
mod breaker;
#[cfg(feature = "measure")]
mod calls;
#[cfg(feature = "dashboard")]
mod dashboard;
#[allow(dead_code, reason = "each kind uses a part of it")]
mod family;
#[cfg(feature = "keyed")]
mod keyed;
#[cfg(feature = "limit")]
mod limit;
#[cfg(feature = "measure")]
mod measure;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
#[cfg(feature = "pool")]
mod pool;
#[cfg(feature = "prometheus")]
mod prometheus;
#[cfg(feature = "rate")]
mod rate;
#[cfg(feature = "retry")]
mod retry;
mod stack;
#[cfg(feature = "timeout")]
mod timeout;

#[cfg(feature = "dashboard")]
pub use dashboard::{Dashboard, MAX_STREAMS, dashboard};
#[cfg(feature = "measure")]
pub use measure::{Calls, Measure, MeasureHandle, MeasureLayer, Percentiles, ResponseFuture};
pub use metrics::{Metrics, NameTaken};
#[cfg(feature = "prometheus")]
pub use prometheus::CONTENT_TYPE;
#[cfg(feature = "prometheus")]
#[doc(no_inline)]
pub use prometheus_client;
pub use stack::Handles;
