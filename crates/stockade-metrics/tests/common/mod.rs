//! One instance of each kind, and a scrape of them.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use prometheus_parse::{Scrape, Value};
use stockade_breaker::BreakerLayer;
use stockade_core::Error;
use stockade_keyed::KeyedLayer;
use stockade_limit::LimitLayer;
use stockade_metrics::{MeasureLayer, Metrics, NameTaken};
use stockade_pool::Pool;
use stockade_rate::RateLayer;
use stockade_retry::RetryLayer;
use stockade_timeout::TimeoutLayer;
use tower::{Layer, Service, service_fn};

pub(crate) type Refusal = Error<Infallible>;

/// The value of each series, written as a query would select it.
pub(crate) fn scrape(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.render();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    scrape
        .samples
        .into_iter()
        .flat_map(|sample| {
            let mut labels: Vec<_> =
                sample.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            labels.sort();
            let labels = labels.join(",");
            match sample.value {
                Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => {
                    vec![(format!("{}{{{labels}}}", sample.metric), value)]
                }
                Value::Histogram(buckets) => buckets
                    .into_iter()
                    .map(|bucket| {
                        let le = if bucket.less_than.is_finite() {
                            bucket.less_than.to_string()
                        } else {
                            "+Inf".to_owned()
                        };
                        (format!("{}_bucket{{le={le},{labels}}}", sample.metric), bucket.count)
                    })
                    .collect(),
                other => panic!("{other:?}"),
            }
        })
        .collect()
}

/// One of each kind, all with the same name, and the pool, which ends when it is dropped. Called inside a runtime.
pub(crate) fn one_of_each(
    name: &'static str,
) -> Result<(Metrics, Pool<u32, u32, Refusal>), NameTaken> {
    let pool = Pool::builder().workers(1..=2).queue(8).measure();
    let pool = pool.build(service_fn(async |n: u32| Ok::<_, Refusal>(n)));
    let metrics = Metrics::new();
    metrics.measure(name, MeasureLayer::new().with_handle().1)?;
    metrics.limit(name, LimitLayer::new(64).with_handle().1)?;
    metrics.rate(name, RateLayer::new(10, Duration::from_secs(1)).with_handle().1)?;
    let keyed = RateLayer::new(10, Duration::from_secs(1)).keyed::<u32, _>(|n: &u32| *n, 100);
    metrics.keyed_rate(name, keyed.with_handle().1)?;
    let stacks = KeyedLayer::new(|n: &u32| *n, 100, |_| LimitLayer::new(64));
    let (stacks, handle) = stacks.with_handle();
    drop(stacks.layer(service_fn(async |n: u32| Ok::<_, Refusal>(n))).call(1));
    metrics.keyed(name, handle)?;
    metrics.retry(name, RetryLayer::max_attempts(3).with_handle().1)?;
    metrics.breaker(name, BreakerLayer::new().with_handle().1)?;
    metrics.timeout(name, TimeoutLayer::new(Duration::from_secs(2)).with_handle().1)?;
    metrics.pool(name, pool.handle())?;
    Ok((metrics, pool))
}
