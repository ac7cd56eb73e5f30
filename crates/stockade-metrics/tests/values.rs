//! The values follow the handles, and nothing is kept alive.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{Refusal, one_of_each, scrape};
use stockade_breaker::BreakerLayer;
use stockade_core::{Error, Reason, Rejected};
use stockade_keyed::KeyedLayer;
use stockade_limit::LimitLayer;
use stockade_metrics::Metrics;
use stockade_pool::Pool;
use stockade_rate::RateLayer;
use stockade_retry::{Backoff, RetryLayer};
use stockade_testkit::{Behaviour, Fault, Probe, Readiness, Request, Response};
use stockade_timeout::TimeoutLayer;
use tokio::{
    task::yield_now,
    time::{advance, sleep},
};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[track_caller]
fn shows(metrics: &Metrics, expected: &[(&str, f64)]) {
    let seen = scrape(metrics);
    for (series, value) in expected {
        assert_eq!(seen.get(*series), Some(value), "{series} of {seen:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_shows_the_calls_in_flight_and_waiting() {
    let (metrics, (layer, handle)) = (Metrics::new(), LimitLayer::new(2).with_handle());
    metrics.limit("db", handle.clone()).unwrap();
    let probe = Probe::new();
    let service = layer.layer(probe.clone());
    let calls = (0..5).map(|id| tokio::spawn(service.clone().oneshot(Request::wait(id))));
    let calls: Vec<_> = calls.collect();
    settle().await;
    shows(
        &metrics,
        &[
            ("stockade_limit_in_flight{name=db}", 2.0),
            ("stockade_limit_waiting{name=db}", 3.0),
            ("stockade_limit_max{name=db}", 2.0),
        ],
    );
    handle.set_max(9).unwrap();
    settle().await;
    shows(&metrics, &[("stockade_limit_in_flight{name=db}", 5.0)]);
    probe.release_all();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    shows(
        &metrics,
        &[("stockade_limit_in_flight{name=db}", 0.0), ("stockade_limit_max{name=db}", 9.0)],
    );
    handle.close();
    service.oneshot(Request::ready(9)).await.unwrap_err();
    shows(
        &metrics,
        &[
            ("stockade_limit_refused_total{name=db,reason=closed}", 1.0),
            ("stockade_limit_refused_total{name=db,reason=queue_full}", 0.0),
            ("stockade_limit_refused_by_priority_total{name=db,priority=default}", 1.0),
            ("stockade_limit_refused_by_priority_total{name=db,priority=critical}", 0.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_shows_its_tokens_the_calls_that_wait_and_the_calls_refused() {
    let (metrics, (layer, handle)) =
        (Metrics::new(), RateLayer::per_second(1).burst(3).with_handle());
    let by_hand = handle.clone();
    metrics.rate("geo", handle).unwrap();
    shows(&metrics, &[("stockade_rate_available{name=geo}", 3.0)]);
    let service = layer.layer(service_fn(async |()| Ok::<_, Refusal>(())));
    let calls: Vec<_> = (0..5).map(|_| tokio::spawn(service.clone().oneshot(()))).collect();
    settle().await;
    shows(
        &metrics,
        &[("stockade_rate_available{name=geo}", 0.0), ("stockade_rate_waiting{name=geo}", 2.0)],
    );
    for call in calls {
        call.await.unwrap().unwrap();
    }
    by_hand.try_take(3).unwrap_err();
    shows(
        &metrics,
        &[
            ("stockade_rate_waiting{name=geo}", 0.0),
            ("stockade_rate_refused_total{name=geo,reason=rate_limited}", 1.0),
            ("stockade_rate_refused_total{name=geo,reason=queue_full}", 0.0),
            ("stockade_rate_refused_by_priority_total{name=geo,priority=default}", 1.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_keyed_rate_limit_shows_its_keys_and_the_bucket_of_all_others() {
    let layer = RateLayer::per_second(1).burst(3).queue(0).keyed(|user: &u32| *user, 2);
    let ((layer, handle), metrics) = (layer.with_handle(), Metrics::new());
    metrics.keyed_rate("users", handle).unwrap();
    let service = layer.layer(service_fn(async |_: u32| Ok::<_, Refusal>(())));
    for user in 0..4 {
        service.clone().oneshot(user).await.unwrap();
    }
    while service.clone().oneshot(0).await.is_ok() {}
    shows(
        &metrics,
        &[
            ("stockade_rate_keys{name=users}", 2.0),
            ("stockade_rate_overflow_available{name=users}", 1.0),
            ("stockade_rate_overflow_waiting{name=users}", 0.0),
            ("stockade_rate_keyed_refused_total{name=users,reason=rate_limited}", 1.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn stacks_per_key_show_how_busy_the_busiest_are_and_no_key() {
    let layer = KeyedLayer::new(|user: &u32| *user, 12, |_| RateLayer::per_second(1).queue(0));
    let ((layer, handle), metrics) = (layer.name("users").with_handle(), Metrics::new());
    metrics.keyed("users", handle).unwrap();
    let service = layer.layer(service_fn(async |_: u32| Ok::<_, Refusal>(())));
    for user in (0..12).chain([700, 3, 3, 3, 7]) {
        let _ = service.clone().oneshot(user).await;
    }
    shows(
        &metrics,
        &[
            ("stockade_keyed_keys{name=users}", 12.0),
            ("stockade_keyed_max_keys{name=users}", 12.0),
            ("stockade_keyed_overflowed_total{name=users}", 1.0),
            ("stockade_keyed_refused_total{name=users,reason=shed}", 0.0),
            ("stockade_keyed_top_calls{name=users,rank=1}", 4.0),
            ("stockade_keyed_top_calls{name=users,rank=2}", 2.0),
            ("stockade_keyed_top_calls{name=users,rank=10}", 1.0),
            ("stockade_keyed_top_refused{name=users,rank=1}", 3.0),
            ("stockade_keyed_top_refused{name=users,rank=3}", 0.0),
        ],
    );
    let text = metrics.render();
    assert!(
        text.contains(r#"rank="10""#) && !text.contains(r#"rank="11""#) && !text.contains("700")
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_shows_what_it_repeated_and_why_it_gave_up() {
    let layer = RetryLayer::max_attempts(3).backoff(Backoff::constant(SECOND));
    let (layer, handle) = layer.with_handle();
    let metrics = Metrics::new();
    metrics.retry("search", handle).unwrap();
    let fails = service_fn(async |()| Err::<(), _>(Error::Service("no")));
    layer.layer(fails).oneshot(()).await.unwrap_err();
    let attempts = AtomicU32::new(0);
    let second = |()| {
        let first = attempts.fetch_add(1, SeqCst) == 0;
        std::future::ready(if first { Err(Error::Service("no")) } else { Ok(()) })
    };
    layer.layer(service_fn(second)).oneshot(()).await.unwrap();
    let refused = Rejected::new(&"limit", Reason::QueueFull);
    let refuses = service_fn(move |()| std::future::ready(Err::<(), Error<&str>>(refused.into())));
    layer.layer(refuses).oneshot(()).await.unwrap_err();
    shows(
        &metrics,
        &[
            ("stockade_retry_retries_total{name=search}", 3.0),
            ("stockade_retry_recovered_total{name=search}", 1.0),
            ("stockade_retry_gave_up_total{name=search,reason=exhausted}", 1.0),
            ("stockade_retry_gave_up_total{name=search,reason=over_budget}", 0.0),
            ("stockade_retry_gave_up_total{name=search,reason=permanent}", 0.0),
            ("stockade_retry_gave_up_total{name=search,reason=refused}", 1.0),
            ("stockade_retry_refusal_waits_total{name=search}", 0.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_breaker_shows_one_state_its_openings_and_its_refusals() {
    let (layer, handle) = BreakerLayer::new().consecutive(2).open_for(10 * SECOND).with_handle();
    let metrics = Metrics::new();
    metrics.breaker("search", handle.clone()).unwrap();
    let mut service =
        layer.layer(service_fn(
            async |fails: bool| {
                if fails { Err(Error::Service("no")) } else { Ok(()) }
            },
        ));
    let is_in = |state: &str| {
        for of in ["closed", "open", "half_open", "forced_open"] {
            let series = format!("stockade_breaker_state{{name=search,state={of}}}");
            shows(&metrics, &[(&series, f64::from(of == state))]);
        }
    };
    service.ready().await.unwrap().call(false).await.unwrap();
    service.ready().await.unwrap().call(true).await.unwrap_err();
    is_in("closed");
    shows(
        &metrics,
        &[
            ("stockade_breaker_window_calls{name=search}", 2.0),
            ("stockade_breaker_window_failures{name=search}", 1.0),
            ("stockade_breaker_window_slow{name=search}", 0.0),
            ("stockade_breaker_consecutive_failures{name=search}", 1.0),
            ("stockade_breaker_open_remaining_seconds{name=search}", 0.0),
        ],
    );
    for _ in 0..3 {
        service.ready().await.unwrap().call(true).await.unwrap_err();
    }
    is_in("open");
    shows(
        &metrics,
        &[
            ("stockade_breaker_opened_total{name=search}", 1.0),
            ("stockade_breaker_refused_total{name=search,reason=circuit_open}", 2.0),
            ("stockade_breaker_refused_total{name=search,reason=circuit_forced_open}", 0.0),
        ],
    );
    let remaining = scrape(&metrics)["stockade_breaker_open_remaining_seconds{name=search}"];
    assert!((8.0..=12.0).contains(&remaining), "{remaining}");
    advance(12 * SECOND).await;
    is_in("half_open");
    let probe = service.ready().await.unwrap().call(false);
    shows(&metrics, &[("stockade_breaker_probes{name=search}", 1.0)]);
    drop(probe);
    let _forced = handle.force_open();
    is_in("forced_open");
}

/// The statuses of the pool named `it`, in the order of the table.
fn statuses(metrics: &Metrics) -> [f64; 8] {
    let seen = scrape(metrics);
    let statuses = [
        "success",
        "failed",
        "timed_out",
        "cancelled",
        "panicked",
        "deadline_expired",
        "shed",
        "handed_back",
    ];
    statuses.map(|of| seen[&format!("stockade_pool_jobs_total{{name=it,status={of}}}")])
}

#[tokio::test(start_paused = true)]
async fn a_pool_shows_where_each_job_is_or_how_it_ended() {
    let probe = Probe::new();
    let pool: Pool<Request, Response, Error<Fault>> =
        Pool::builder().workers(2).queue(8).measure().build(probe.clone());
    let metrics = Metrics::new();
    metrics.pool("it", pool.handle()).unwrap();
    settle().await;
    shows(&metrics, &[("stockade_pool_workers_idle{name=it}", 2.0)]);

    let mut jobs: Vec<_> = (0..5).map(|id| pool.try_submit(Request::wait(id)).unwrap()).collect();
    settle().await;
    sleep(SECOND).await;
    shows(
        &metrics,
        &[
            ("stockade_pool_accepted_total{name=it}", 5.0),
            ("stockade_pool_capacity{name=it}", 8.0),
            ("stockade_pool_queued{name=it}", 3.0),
            ("stockade_pool_running{name=it}", 2.0),
            ("stockade_pool_workers{name=it}", 2.0),
            ("stockade_pool_workers_idle{name=it}", 0.0),
        ],
    );
    drop(jobs.pop());
    probe.release_all();
    settle().await;
    probe.release_all();
    for job in jobs {
        job.await.unwrap();
    }
    pool.try_submit(Request::fail(9)).unwrap().await.unwrap_err();
    pool.try_submit(Request::new(10, Behaviour::PanicInFuture)).unwrap().await.unwrap_err();
    settle().await;
    assert_eq!(statuses(&metrics), [4.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    shows(
        &metrics,
        &[
            ("stockade_pool_rebuilt_total{name=it}", 1.0),
            ("stockade_pool_peak_running{name=it}", 2.0),
            ("stockade_pool_peak_workers{name=it}", 2.0),
        ],
    );
    let seen = scrape(&metrics);
    assert!((3.0..=5.0).contains(&seen["stockade_pool_peak_queued{name=it}"]), "{seen:#?}");
    let longest = |of: &str| seen[&format!("stockade_pool_{of}_seconds{{name=it,quantile=1}}")];
    assert!((1.0..1.01).contains(&longest("queue_wait")), "{seen:#?}");
    assert!((1.0..1.01).contains(&longest("run_time")), "{seen:#?}");

    probe.set_ready(Readiness::Pending);
    let job = pool.try_submit(Request::ready(11)).unwrap();
    assert_eq!(pool.abort().len(), 1);
    job.await.unwrap_err();
    assert_eq!(statuses(&metrics)[7], 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_does_not_measure_shows_no_durations() {
    let pool = Pool::builder().workers(1).build(service_fn(async |n: u32| Ok::<_, Refusal>(n)));
    let metrics = Metrics::new();
    metrics.pool("plain", pool.handle()).unwrap();
    assert!(!metrics.render().contains("seconds"));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_used_once_for_each_kind_until_it_is_removed() {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let (_, other) = LimitLayer::new(7).with_handle();
    let error = metrics.limit("it", other.clone()).unwrap_err();
    assert_eq!(error.to_string(), "there is a limit `it` already");
    shows(&metrics, &[("stockade_limit_max{name=it}", 64.0)]);

    metrics.limit("other", other.clone()).unwrap();
    shows(
        &metrics,
        &[("stockade_limit_max{name=it}", 64.0), ("stockade_limit_max{name=other}", 7.0)],
    );

    assert!(metrics.remove("it") && !metrics.remove("it"));
    let left: Vec<_> = scrape(&metrics).into_keys().collect();
    assert!(
        left.iter().all(|series| series.contains("{name=other")),
        "only the other limit is left"
    );
    let gauges = left.iter().filter(|series| !series.contains("_refused_"));
    assert_eq!(gauges.count(), 3);
    metrics.limit("it", other.clone()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn metrics_keep_no_pool_and_no_service_alive() {
    let alive = Arc::new(());
    let count = || Weak::strong_count(&Arc::downgrade(&alive)) - 1;
    let token = Arc::clone(&alive);
    let service = service_fn(move |()| {
        let _token = Arc::clone(&token);
        async { Ok::<_, Refusal>(()) }
    });
    let ((limit, handle), metrics) = (LimitLayer::new(1).with_handle(), Metrics::new());
    metrics.limit("it", handle).unwrap();
    let pool = Pool::builder().workers(2).build(limit.layer(service));
    metrics.pool("it", pool.handle()).unwrap();
    pool.submit(()).await.unwrap();
    assert!(count() > 0);

    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    drop(pool);
    settle().await;
    assert_eq!((count(), tasks()), (0, 0), "the last handle of the pool was dropped");
    let text = metrics.render();
    assert!(!text.contains("stockade_pool") && text.contains("stockade_limit_max"), "{text}");

    let successor = Pool::builder().build(service_fn(async |()| Ok::<_, Refusal>(())));
    metrics.pool("it", successor.handle()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_timeout_shows_its_limit_and_how_many_calls_it_has_ended() {
    let (metrics, (layer, handle)) = (Metrics::new(), TimeoutLayer::new(SECOND).with_handle());
    metrics.timeout("db", handle.clone()).unwrap();
    let service = layer.layer(Probe::new());
    service.clone().oneshot(Request::ready(1)).await.unwrap();
    service.oneshot(Request::wait(2)).await.unwrap_err();
    handle.set(SECOND * 3).unwrap();
    shows(
        &metrics,
        &[
            ("stockade_timeout_limit_seconds{name=db}", 3.0),
            ("stockade_timeout_elapsed_total{name=db}", 1.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_paused_says_so() {
    let (metrics, pool) = one_of_each("it").unwrap();
    shows(&metrics, &[("stockade_pool_paused{name=it}", 0.0)]);
    pool.handle().pause();
    shows(&metrics, &[("stockade_pool_paused{name=it}", 1.0)]);
    pool.handle().resume();
    shows(&metrics, &[("stockade_pool_paused{name=it}", 0.0)]);
}

#[tokio::test(start_paused = true)]
async fn the_handles_of_a_stack_have_its_name_and_a_timeout_of_attempts_another_one() {
    let metrics = Metrics::new();
    let timeout = |seconds| TimeoutLayer::new(SECOND * seconds).with_handle().1;
    let limit = LimitLayer::new(4).with_handle().1;
    let absent: Option<stockade_retry::RetryHandle> = None;
    metrics.stack("db", (timeout(9), absent, limit.clone(), timeout(2))).unwrap();
    shows(
        &metrics,
        &[
            ("stockade_timeout_limit_seconds{name=db}", 9.0),
            ("stockade_limit_max{name=db}", 4.0),
            ("stockade_timeout_limit_seconds{name=db attempt}", 2.0),
        ],
    );
    let taken = metrics.stack("db", limit).unwrap_err();
    assert_eq!(taken.to_string(), "there is a limit `db` already");
}

#[tokio::test(start_paused = true)]
async fn what_a_stack_has_added_is_removed_by_its_name() {
    let metrics = Metrics::new();
    let timeout = |seconds| TimeoutLayer::new(SECOND * seconds).with_handle().1;
    let limit = LimitLayer::new(4).with_handle().1;
    let stack = || (timeout(9), limit.clone(), timeout(2));
    metrics.stack("db", stack()).unwrap();
    metrics.stack("other", stack()).unwrap();
    assert!(metrics.remove("db") && !metrics.remove("db"));
    assert!(scrape(&metrics).into_keys().all(|series| series.contains("{name=other")));
    metrics.stack("db", stack()).unwrap();
    shows(&metrics, &[("stockade_timeout_limit_seconds{name=db attempt}", 2.0)]);
}
