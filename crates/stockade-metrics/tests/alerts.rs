//! Each alert fires in a run that goes as badly as it says, and is silent in one that does not.
//!
//! The runs are real ones in virtual time, scraped once a minute; `promtool`, which comes with Prometheus, evaluates
//! the rules over what they exported.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

#[expect(dead_code, reason = "a part of it is for other tests")]
mod common;

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use common::{Refusal, scrape};
use serde_json::{Value, json};
use stockade_breaker::BreakerLayer;
use stockade_core::{Budget, Reason, Rejected};
use stockade_metrics::{MeasureLayer, Metrics};
use stockade_pool::Pool;
use stockade_retry::{Backoff, RetryLayer};
use tokio::time::{Instant, advance, sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/alerts.yml");

const ALERTS: [&str; 5] = [
    "StockadeErrorBudgetBurnsFast",
    "StockadeErrorBudgetBurnsSlowly",
    "StockadeBreakerOpen",
    "StockadePoolSaturated",
    "StockadeRetryBudgetExhausted",
];

const MINUTE: Duration = Duration::from_secs(60);

/// The values of each series, one a minute.
#[derive(Default)]
struct Exported(BTreeMap<String, Vec<f64>>);

// === impl Exported ===

impl Exported {
    fn scrape(&mut self, metrics: &Metrics) {
        for (series, value) in scrape(metrics) {
            self.0.entry(series).or_default().push(value);
        }
    }

    fn minutes(&self) -> usize {
        self.0.values().map(Vec::len).max().unwrap_or_default()
    }

    /// As `promtool` reads it, with the labels that Prometheus adds.
    fn input(&self) -> Vec<Value> {
        let series = self.0.iter().map(|(series, values)| {
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap();
            let labels = labels.split(',').map(|label| {
                let (label, value) = label.split_once('=').unwrap();
                format!("{label}=\"{value}\"")
            });
            let labels: Vec<_> = labels.collect();
            let series = format!("{name}{{{},job=\"shop\",instance=\"a\"}}", labels.join(","));
            let values: Vec<_> = values.iter().map(f64::to_string).collect();
            json!({ "series": series, "values": values.join(" ") })
        });
        series.collect()
    }

    /// Which alerts fire at the end of the run must be these.
    #[track_caller]
    fn must_fire(&self, firing: &[&str]) {
        let minutes = self.minutes();
        let tests = ALERTS.map(|alert| {
            let samples = if firing.contains(&alert) {
                json!([{ "labels": r#"{name="it"}"#, "value": 1 }])
            } else {
                json!([])
            };
            json!({
                "expr": format!("count by (name) (ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}})"),
                "eval_time": format!("{}m", minutes - 1),
                "exp_samples": samples,
            })
        });
        // JSON is YAML.
        let test = json!({
            "rule_files": [RULES],
            "evaluation_interval": "1m",
            "tests": [{
                "interval": "1m",
                "input_series": self.input(),
                "promql_expr_test": tests,
            }],
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.yml");
        fs::write(&file, test.to_string()).unwrap();
        let output = Command::new("promtool")
            .args(["test", "rules"])
            .arg(&file)
            .output()
            .expect("this test needs promtool: apt-get install prometheus");
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{}", told.concat());
    }
}

/// Waits until the next minute is full.
async fn until_minute(start: Instant, minute: u32) {
    let rest = (start + minute * MINUTE).saturating_duration_since(Instant::now());
    advance(rest).await;
}

/// Sixty calls a minute through a stack over a service for which `fails` says whether the call of this minute and
/// this number fails.
async fn calls(minutes: u32, budget: Budget, fails: fn(u32, u32) -> bool) -> Exported {
    let metrics = Metrics::new();
    let (measure, measured) = MeasureLayer::new().with_handle();
    let retry = RetryLayer::max_attempts(2).backoff(Backoff::none()).budget(budget);
    let (retry, retries) = retry.with_handle();
    let (breaker, of_breaker) = BreakerLayer::new().with_handle();
    metrics.measure("it", measured).unwrap();
    metrics.retry("it", retries).unwrap();
    metrics.breaker("it", of_breaker).unwrap();
    let stack = ServiceBuilder::new().layer(measure).layer(retry).layer(breaker);
    let stack = stack.service(service_fn(async |fails: bool| {
        if fails { Err(Refusal::from(Rejected::new(&"test", Reason::Elapsed))) } else { Ok(()) }
    }));
    let (start, mut exported) = (Instant::now(), Exported::default());
    for minute in 0..minutes {
        until_minute(start, minute).await;
        exported.scrape(&metrics);
        for call in 0..60 {
            let _ = stack.clone().oneshot(fails(minute, call)).await;
            advance(MINUTE / 61).await;
        }
    }
    exported
}

/// A pool that gets this many jobs a minute, each of which takes a second.
async fn jobs(minutes: u32, a_minute: u32) -> Exported {
    let pool = Pool::builder().workers(1).queue(30).build(service_fn(async |_: u32| {
        sleep(Duration::from_secs(1)).await;
        Ok::<_, Refusal>(())
    }));
    let metrics = Metrics::new();
    metrics.pool("it", pool.handle()).unwrap();
    let (start, mut exported) = (Instant::now(), Exported::default());
    for minute in 0..minutes {
        let next = start + (minute + 1) * MINUTE;
        for n in 0..a_minute {
            if let Ok(job) = pool.try_submit(n) {
                job.detach();
            }
            sleep(MINUTE / (a_minute + 1)).await;
        }
        tokio::time::sleep_until(next).await;
        exported.scrape(&metrics);
    }
    exported
}

#[tokio::test(start_paused = true)]
async fn a_single_failure_fires_nothing() {
    // One call fails in six hours, with its second attempt.
    let once = |minute: u32, call: u32| minute == 200 && call == 7;
    calls(400, Budget::unlimited(), once).await.must_fire(&[]);
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_that_is_over_fires_nothing() {
    let short = |minute: u32, _: u32| minute == 100;
    calls(420, Budget::unlimited(), short).await.must_fire(&[]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail_without_end_fire_both_burn_rates() {
    // One in twelve, which opens no breaker.
    let some = |minute: u32, call: u32| minute >= 120 && call.is_multiple_of(12);
    calls(190, Budget::unlimited(), some)
        .await
        .must_fire(&["StockadeErrorBudgetBurnsFast", "StockadeErrorBudgetBurnsSlowly"]);
}

#[tokio::test(start_paused = true)]
async fn a_few_failures_for_hours_fire_the_slow_burn_rate_alone() {
    // 0.8 %.
    let few = |minute: u32, call: u32| minute.is_multiple_of(2) && call == 5;
    calls(400, Budget::unlimited(), few).await.must_fire(&["StockadeErrorBudgetBurnsSlowly"]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_down_fires_the_breaker() {
    let down = |minute: u32, _: u32| minute >= 400;
    calls(425, Budget::unlimited(), down).await.must_fire(&[
        "StockadeErrorBudgetBurnsFast",
        "StockadeErrorBudgetBurnsSlowly",
        "StockadeBreakerOpen",
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_without_a_token_fires_the_budget() {
    let some = |minute: u32, call: u32| minute >= 5 && call.is_multiple_of(12);
    let none = Budget::new(0.0, 0.0);
    let exported = calls(30, none, some).await;
    exported.must_fire(&[
        "StockadeErrorBudgetBurnsFast",
        "StockadeErrorBudgetBurnsSlowly",
        "StockadeRetryBudgetExhausted",
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_does_not_keep_up_fires_and_one_that_does_is_silent() {
    jobs(20, 120).await.must_fire(&["StockadePoolSaturated"]);
    jobs(20, 40).await.must_fire(&[]);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_should_not_be_there_is_found() {
    let exported = jobs(20, 120).await;
    let wrong = std::panic::catch_unwind(|| exported.must_fire(&[]));
    let told = wrong.unwrap_err().downcast::<String>().unwrap();
    assert!(told.contains("StockadePoolSaturated"), "{told}");
}
