//! The instruments show what Prometheus is shown.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::collections::BTreeMap;

use common::{Refusal, one_of_each, scrape};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, SdkMeterProvider,
    data::{AggregatedMetrics, MetricData},
};
use stockade_core::{Error, Reason, Rejected};
use stockade_metrics::{MeasureLayer, Metrics};
use tower::{Layer, ServiceExt, service_fn};

/// The value of each series by name and attributes, and the unit of each instrument.
type Collected = (BTreeMap<String, f64>, BTreeMap<String, String>);

fn collect(metrics: &Metrics) -> Collected {
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
    metrics.observe(&provider.meter("test"));
    provider.force_flush().unwrap();
    let (mut values, mut units) = Collected::default();
    for resource in exporter.get_finished_metrics().unwrap() {
        for metric in resource.scope_metrics().flat_map(|scope| scope.metrics()) {
            units.insert(metric.name().to_owned(), metric.unit().to_owned());
            let AggregatedMetrics::F64(data) = metric.data() else { panic!("{metric:?}") };
            let mut add = |attributes: Vec<String>, value| {
                values.insert(format!("{}{{{}}}", metric.name(), attributes.join(",")), value);
            };
            let spelt = |attributes: &mut dyn Iterator<Item = &opentelemetry::KeyValue>| {
                let mut all: Vec<_> =
                    attributes.map(|of| format!("{}={}", of.key, of.value)).collect();
                all.sort();
                all
            };
            match data {
                MetricData::Gauge(gauge) => gauge
                    .data_points()
                    .for_each(|point| add(spelt(&mut point.attributes()), point.value())),
                MetricData::Sum(sum) => {
                    assert!(sum.is_monotonic(), "{}", metric.name());
                    sum.data_points()
                        .for_each(|point| add(spelt(&mut point.attributes()), point.value()));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    (values, units)
}

/// A Prometheus series as the instrument that shows it; none for the count of a histogram, which is its last bucket.
fn as_instrument(series: &str) -> Option<String> {
    let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap();
    if name.ends_with("_count") {
        return None;
    }
    let name = name.replace("_seconds_", ".").replace("_bucket", ".bucket");
    let name = name.trim_end_matches("_seconds").trim_end_matches("_total");
    let mut all = Vec::new();
    for (label, value) in labels.split(',').map(|label| label.split_once('=').unwrap()) {
        match label {
            "le" | "quantile" => all.push(format!("{label}={value}")),
            "reason" => all.push(format!("error.type={value}")),
            _ => all.push(format!("stockade.{label}={value}")),
        }
        if ["class", "status"].contains(&label) && value != "success" {
            all.push(format!("error.type={value}"));
        }
    }
    all.sort();
    Some(format!("{}{{{}}}", name.replacen('_', ".", 2), all.join(",")))
}

#[tokio::test(start_paused = true)]
async fn each_series_that_prometheus_sees_is_observed_with_the_same_value() {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let (layer, handle) = MeasureLayer::new().with_handle();
    metrics.measure("used", handle).unwrap();
    let service = layer.layer(service_fn(async |answer: Result<u32, Refusal>| answer));
    let full = Error::from(Rejected::new(&"limit", Reason::QueueFull));
    for answer in [Ok(1), Ok(2), Err(full)] {
        let _ = service.clone().oneshot(answer).await;
    }
    let (values, _) = collect(&metrics);
    let expected: BTreeMap<_, _> = scrape(&metrics)
        .into_iter()
        .filter_map(|(series, value)| Some((as_instrument(&series)?, value)))
        .collect();
    assert!(expected.len() > 100);
    assert_eq!(values, expected);
    let named = |rest: &str| values[&format!("stockade.calls{rest}")];
    assert_eq!(named("{stockade.class=success,stockade.name=used}"), 2.0);
    assert_eq!(named("{error.type=refused,stockade.class=refused,stockade.name=used}"), 1.0);
    assert_eq!(named(".refused{error.type=queue_full,stockade.name=used}"), 1.0);
    assert_eq!(named(".duration.bucket{le=+Inf,stockade.name=used}"), 3.0);
}

#[tokio::test(start_paused = true)]
async fn durations_are_in_seconds_and_say_so() {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let (_, units) = collect(&metrics);
    let in_seconds: Vec<_> =
        units.iter().filter(|(_, unit)| *unit == "s").map(|(name, _)| name.as_str()).collect();
    let expected = [
        "stockade.breaker.open_remaining",
        "stockade.calls.duration.sum",
        "stockade.calls.recent",
        "stockade.pool.oldest",
        "stockade.pool.queue_wait",
        "stockade.pool.run_time",
        "stockade.timeout.limit",
    ];
    assert_eq!(in_seconds, expected);
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_added_later_is_observed_too() {
    let metrics = Metrics::new();
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
    metrics.observe(&provider.meter("test"));
    provider.force_flush().unwrap();
    let text = || format!("{:?}", exporter.get_finished_metrics().unwrap());
    assert!(!text().contains("late"));
    metrics.measure("late", MeasureLayer::new().with_handle().1).unwrap();
    provider.force_flush().unwrap();
    assert!(text().contains("late"));
}
