//! Keep one bad service from taking the rest of your program down.
//!
//! Stockade puts small [`tower`](https://docs.rs/tower) layers around the client that you already have: an HTTP client, a
//! database client, an async function. They bound how long a call takes, repeat what may work a moment later, stop
//! calling what is down, and limit how much runs at once. Where there is more work than that, a [pool](pool::Pool) of
//! workers takes it from a queue.
//!
//! ```
//! use std::time::Duration;
//! use stockade::{BreakerLayer, Error, LimitLayer, Pool, RateLayer, RetryLayer, TimeoutLayer};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let stack = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(Duration::from_secs(10)).name("total")) // for all attempts together
//!     .layer(RetryLayer::max_attempts(3))
//!     .layer(BreakerLayer::new())
//!     .layer(RateLayer::per_second(500))
//!     .layer(LimitLayer::new(64).max_wait(Duration::from_millis(500)))
//!     .layer(TimeoutLayer::new(Duration::from_secs(2)).name("attempt")) // for each attempt
//!     .map_err(Error::Service)
//!     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
//! stockade::check::<u32>(&stack);
//!
//! let mut pool = Pool::builder().workers(16).queue(128).build(stack);
//! assert_eq!(pool.ready().await.unwrap().call(1).await.unwrap(), 2);
//! # }
//! ```
//!
//! This needs, beside `stockade`, the crate `tower` with its feature `util`, for `ready`, and `tokio` with `macros` and
//! `rt`. Two defaults to know before there is a real client in it:
//!
//! - **Every request is repeated** by retry when it fails. [`RetryLayer::idempotent`] says which ones may be.
//! - **Every `Ok` is a success**, an HTTP answer with status 500 too. A classifier says what an answer means.
//!
//! `stockade-clients` knows both for the usual clients: see [`guide::real_clients`].
//!
//! # Where to go next
//!
//! The [guide] takes it from there: [a first stack](guide::first_stack), [which layers, and in which
//! order](guide::choosing_layers), [what callers see on a bad day](guide::bad_day), [the pool](guide::pool),
//! [axum](guide::axum), [reqwest, tonic, SQL and Redis](guide::real_clients), [tests](guide::testing), [what to
//! watch](guide::watching), [who comes first](guide::priority), [a stack per key](guide::stack_per_key), [settings from
//! files](guide::settings_from_files), [deadlines across processes](guide::across_processes), [a fleet of many
//! processes](guide::fleet), [layers without a service](guide::by_hand), [a layer of your own](guide::own_layer), and what to
//! write [in place of what you know](guide::coming_from).
//!
//! # Features
//!
//! Each layer is a crate of its own, and a feature here.
//!
//! | feature | on by default | what it adds |
//! |---|---|---|
//! | `timeout` | yes | [`TimeoutLayer`]: ends a call that takes too long, and tells all layers inside when that will be |
//! | `retry` | yes | [`RetryLayer`]: tries again what may work a moment later |
//! | `breaker` | yes | [`BreakerLayer`]: stops calling a service that is down |
//! | `rate` | yes | [`RateLayer`]: at most so many calls a second |
//! | `limit` | yes | [`LimitLayer`]: at most so many calls at once |
//! | `pool` | yes | [`Pool`]: a bounded queue, and workers that pull from it |
//! | `hedge` | | `HedgeLayer`: a second attempt when the first takes long |
//! | `fallback` | | `FallbackLayer`: an answer in place of a call that failed |
//! | `coalesce` | | `CoalesceLayer`: calls with the same key share one answer |
//! | `keyed` | | `KeyedLayer`: a stack for each host, tenant or partition |
//! | `chaos` | | `ChaosLayer`: makes calls slow or fail, for tests and game days |
//! | `config` | | a whole stack from a file, which is followed while it changes |
//! | `metrics` | | the numbers of all handles for Prometheus, and `MeasureLayer`: counts and times calls |
//! | `otel` | | the same numbers as OpenTelemetry instruments |
//! | `serde` | | each layer's `Config` can be read from a file |
//! | `tracing` | | events for what goes wrong, see [below](#seeing-what-happens) |
//!
//! What the results of real clients mean to retry and breaker is in `stockade-clients`, because this crate depends on no
//! client. A page that shows all handles live is the feature `dashboard` of `stockade-metrics`, because it needs axum.
//!
//! # The order of layers
//!
//! Outermost first: total timeout, retry, breaker, rate limit, concurrency limit, attempt timeout, client; and a pool in
//! front of all. [`order`] says why, and what goes wrong in other orders.
//!
//! # Errors
//!
//! No layer wraps the error of the service inside it. A refusal by any of them is one small value, a [`Rejected`], and
//! your stack's error type carries it: [`Error<E>`](Error) through `.map_err(Error::Service)`, a [`BoxError`] through
//! `.map_err(stockade::boxed)`, or an enum of your own that implements [`LayerError`]. So the order of the layers never
//! changes the error type, and a `match` stays exhaustive.
//!
//! A refusal other than a timeout fails fast: it ends the call at once, says in [`retry_after`](Rejected::retry_after) when
//! to come back if the layer knows, is no failure of the service to a breaker, and is not repeated by retry unless
//! `RetryLayer::retry_refusals` allows it. A timeout, [`Reason::Elapsed`], is a `Rejected` too, but the call may have run:
//! to a breaker it is a failure of the service, and retry repeats it.
//!
//! # Seeing what happens
//!
//! Layers and pools have handles, which show what they hold and change what can be changed at run time. On top of that:
//!
//! - Feature `metrics`: the handles as Prometheus metrics, read when they are scraped.
//! - Feature `tracing`: events with the target `stockade`, and with the fields `layer` and `name`, for refusals,
//!   timeouts and retries (debug), transitions of a breaker (info), calls that are given up and services that a worker
//!   could not make (warn), and panics in a pool (error). A call that goes well has none. The span of the caller who
//!   submits a job goes with it to the pool's worker.
//!
//! # Tests
//!
//! Time is tokio's. In a test with the paused clock (`#[tokio::test(start_paused = true)]`) every layer follows it.
//!
//! # When it does not compile
//!
//! Put [`stockade::check::<Request>(&svc)`](check()) above the line: it makes the compiler say which bound is not met,
//! and what to write. The usual mistakes are listed in [the module of the same name](mod@check).

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod check;
pub mod guide;
pub mod order;

pub use check::check;

#[doc(inline)]
pub use stockade_core::priority::{Priority, PriorityLayer};
pub use stockade_core::{
    BoxError, Budget, Carried, Class, Classify, ConfigError, Configured, DefaultClassify, Error,
    LayerError, Name, PerService, Reason, Rejected, Share, attempts, boxed, carry, deadline,
    priority,
};

#[cfg(feature = "breaker")]
#[doc(inline)]
pub use stockade_breaker::{self as breaker, BreakerLayer};
#[cfg(feature = "chaos")]
#[doc(inline)]
pub use stockade_chaos::{self as chaos, ChaosLayer};
#[cfg(feature = "coalesce")]
#[doc(inline)]
pub use stockade_coalesce::{self as coalesce, CoalesceLayer};
#[cfg(feature = "config")]
#[doc(no_inline)]
pub use stockade_config as config;
#[cfg(feature = "fallback")]
#[doc(inline)]
pub use stockade_fallback::{self as fallback, FallbackLayer};
#[cfg(feature = "hedge")]
#[doc(inline)]
pub use stockade_hedge::{self as hedge, HedgeLayer};
#[cfg(feature = "keyed")]
#[doc(inline)]
pub use stockade_keyed::{self as keyed, KeyedLayer};
#[cfg(feature = "limit")]
#[doc(inline)]
pub use stockade_limit::{self as limit, LimitLayer};
#[cfg(feature = "metrics")]
#[doc(no_inline)]
pub use stockade_metrics::{self as metrics, MeasureLayer};
#[cfg(feature = "pool")]
#[doc(inline)]
pub use stockade_pool::{self as pool, Pool};
#[cfg(feature = "rate")]
#[doc(inline)]
pub use stockade_rate::{self as rate, RateLayer};
#[cfg(feature = "retry")]
#[doc(inline)]
pub use stockade_retry::{self as retry, RetryLayer};
#[cfg(feature = "timeout")]
#[doc(inline)]
pub use stockade_timeout::{self as timeout, TimeoutLayer};
