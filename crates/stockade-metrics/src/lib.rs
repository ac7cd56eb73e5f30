//! Prometheus metrics of stockade's layers and pools, read from their handles when they are scraped.
//!
//! Give the handles to a [`Metrics`], each with a name, and it is a
//! [`Collector`](prometheus_client::collector::Collector) of
//! [`prometheus-client`](https://docs.rs/prometheus-client): nothing is counted twice, and nothing is added to the
//! way of a call. Reading costs what the handles' own methods cost, once a scrape.
//!
//! It serves no HTTP, and does not push.
//!
//! # Example
//!
//! ```
//! use stockade_limit::LimitLayer;
//! use stockade_metrics::{CONTENT_TYPE, Metrics};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let metrics = Metrics::new();
//! let limit = LimitLayer::new(64);
//! metrics.limit("database", limit.handle())?;
//!
//! // What the handler of `/metrics` answers, with `CONTENT_TYPE` as its content type:
//! let body = metrics.render();
//! assert!(body.contains(r#"stockade_limit_max{name="database"} 64"#));
//! assert!(CONTENT_TYPE.starts_with("application/openmetrics-text"));
//! # Ok(())
//! # }
//! ```
//!
//! Whoever has a [`Registry`](prometheus_client::registry::Registry) already registers it there:
//! `registry.register_collector(Box::new(metrics.clone()))`.
//!
//! # Names
//!
//! Every metric has the label `name`, which tells instances of a kind apart. Durations are in seconds. A crate
//! feature for each kind leaves out what is not used.
//!
//! | metric | type | further label | what it is |
//! |---|---|---|---|
//! | `stockade_limit_in_flight` | gauge | | calls in flight |
//! | `stockade_limit_waiting` | gauge | | calls that wait in the queue |
//! | `stockade_limit_max` | gauge | | calls that may be in flight at once |
//! | `stockade_rate_available` | gauge | | calls that would pass at once |
//! | `stockade_rate_waiting` | gauge | | calls that wait in the queue |
//! | `stockade_rate_keys` | gauge | | keys that have a bucket of their own |
//! | `stockade_rate_overflow_available` | gauge | | calls that would pass at once with keys that share a bucket |
//! | `stockade_rate_overflow_waiting` | gauge | | calls that wait for a token of that bucket |
//! | `stockade_retry_retries_total` | counter | | further attempts, decided on |
//! | `stockade_retry_recovered_total` | counter | | calls that succeeded at a further attempt |
//! | `stockade_retry_refusal_waits_total` | counter | | waits after a refusal by a layer inside |
//! | `stockade_retry_gave_up_total` | counter | `reason` | calls that failed and were not tried again |
//! | `stockade_breaker_state` | gauge | `state` | 1 at the state that it is in, and 0 at all others |
//! | `stockade_breaker_opened_total` | counter | | how often it opened |
//! | `stockade_breaker_refused_total` | counter | | calls refused |
//! | `stockade_breaker_window_calls` | gauge | | calls in the window |
//! | `stockade_breaker_window_failures` | gauge | | calls in the window that failed |
//! | `stockade_breaker_window_slow` | gauge | | calls in the window that were slow |
//! | `stockade_breaker_consecutive_failures` | gauge | | failures since the last success |
//! | `stockade_breaker_probes` | gauge | | probes that are out |
//! | `stockade_breaker_open_remaining_seconds` | gauge | | how long it will be open yet |
//! | `stockade_pool_accepted_total` | counter | | jobs taken |
//! | `stockade_pool_jobs_total` | counter | `status` | jobs that have ended |
//! | `stockade_pool_queued` | gauge | | jobs that wait for a worker |
//! | `stockade_pool_running` | gauge | | jobs that run |
//! | `stockade_pool_workers` | gauge | | workers alive |
//! | `stockade_pool_workers_idle` | gauge | | workers that have no job |
//! | `stockade_pool_queued_peak` | gauge | | the most jobs that ever waited at once |
//! | `stockade_pool_running_peak` | gauge | | the most jobs that ever ran at once |
//! | `stockade_pool_workers_peak` | gauge | | the most workers that were ever alive at once |
//! | `stockade_pool_rebuilt_total` | counter | | services of workers made anew |
//! | `stockade_pool_queue_wait_seconds` | gauge | `quantile` | how long jobs were queued |
//! | `stockade_pool_run_time_seconds` | gauge | `quantile` | how long jobs ran |
//!
//! The last two are there if the pool [measures](stockade_pool::PoolBuilder::measure). They are over all jobs since
//! the pool was made, and are gauges because a pool knows no sum, which a summary has to tell; quantile 1 is the longest.
//! A timeout has no handle: the calls that it ends are the jobs with `status="timed_out"` of a pool around it, and
//! failures of a breaker around it.
//!
//! `dashboard.json`, beside this crate's manifest, is a Grafana dashboard of all of these.
//!
//! # Why `prometheus-client`
//!
//! Its collectors are asked at each scrape. A facade such as `metrics` is told instead, which would take a task that
//! reads the handles every so often, for values that are out of date by as much. From the text that this makes
//! OpenTelemetry's collector, and every other one that scrapes, takes the numbers further.

#[cfg(feature = "breaker")]
mod breaker;
#[allow(dead_code, reason = "each kind uses a part of it")]
mod family;
#[cfg(feature = "limit")]
mod limit;
mod metrics;
#[cfg(feature = "pool")]
mod pool;
#[cfg(feature = "rate")]
mod rate;
#[cfg(feature = "retry")]
mod retry;

pub use metrics::{CONTENT_TYPE, Metrics, NameTaken};
pub use prometheus_client;
