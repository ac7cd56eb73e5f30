//! Settings that change while calls are under way.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use common::{FULL, config};
use stockade_config::{Error, Reload, StackConfig, StackHandle};
use stockade_core::{Error as Failure, LayerError, Reason};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};
use tower::{Service, ServiceBuilder, ServiceExt};

const MS: Duration = Duration::from_millis(1);

type Answer = Result<u32, Failure<&'static str>>;

/// The stack that a file describes, around an async function.
fn stack<F, R>(
    toml: &str,
    client: F,
) -> (
    impl Service<u32, Response = u32, Error = Failure<&'static str>, Future: Send> + Clone + Send,
    StackHandle,
)
where
    F: Fn(u32) -> R + Clone + Send + 'static,
    R: Future<Output = Result<u32, &'static str>> + Send + 'static,
{
    let (layer, handle) = config(toml).try_build().unwrap().with_handle();
    (ServiceBuilder::new().layer(layer).map_err(Failure::Service).service_fn(client), handle)
}

fn shown(config: &StackConfig) -> String {
    format!("{config:?}")
}

#[tokio::test(start_paused = true)]
async fn absent_layers_let_calls_pass_and_have_no_handle() {
    let (service, handle) = stack("", async |n| Ok(n + 1));
    assert_eq!(service.oneshot(1).await, Ok(2));
    assert!(handle.timeout.is_none() && handle.retry.is_none() && handle.breaker.is_none());
    assert!(handle.rate.is_none() && handle.limit.is_none() && handle.attempt_timeout.is_none());
}

#[cfg(feature = "metrics")]
#[test]
fn the_handles_of_a_stack_are_added_to_metrics_at_once() {
    let (_layer, handle) = config(FULL).try_build().unwrap().with_handle();
    let metrics = stockade_metrics::Metrics::new();
    metrics.stack("search", &handle).unwrap();
    let page = metrics.render();
    for series in [
        "stockade_timeout_limit_seconds{name=\"search\"} 2.0",
        "stockade_timeout_limit_seconds{name=\"search attempt\"} 0.2",
        "stockade_retry_retries_total{name=\"search\"}",
        "stockade_breaker_state{name=\"search\",state=\"closed\"} 1",
        "stockade_rate_available{name=\"search\"} 1000",
        "stockade_limit_max{name=\"search\"} 4",
    ] {
        assert!(page.contains(series), "{series} is in {page}");
    }
    let taken = metrics.stack("search", &handle).unwrap_err();
    assert_eq!(taken.to_string(), "there is a timeout `search attempt` already");
}

#[tokio::test(start_paused = true)]
async fn each_layer_does_what_its_section_says() {
    let begun = Instant::now();
    let (service, handle) = stack(FULL, async |n| {
        sleep(MS * 150 * n).await;
        Err::<u32, _>("down")
    });
    let error = service.clone().oneshot(2).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::Elapsed));
    assert_eq!(
        begun.elapsed(),
        MS * 630,
        "three attempts of 200 ms, and 10 and 20 ms between them"
    );
    assert_eq!(handle.retry.unwrap().stats().retried, 2);
    assert_eq!(handle.breaker.unwrap().snapshot().failures, 3);
    assert_eq!(handle.limit.unwrap().max(), 4);
    assert_eq!(handle.rate.unwrap().config().calls, 1_000);
    assert_eq!(handle.timeout.unwrap().limit(), MS * 2_000);
}

/// All that can change at run time.
fn other() -> String {
    [
        ("limit = \"2s\"", "limit = \"1s\""),
        ("max_attempts = 3", "max_attempts = 2"),
        ("base = \"10ms\"", "base = \"20ms\""),
        ("max_elapsed = \"30s\"", "max_elapsed = \"20s\""),
        ("probes = 3", "probes = 4"),
        ("window = { calls = 100 }", "window = { time = \"10s\" }"),
        ("calls = 1000", "calls = 10"),
        ("max = 4\nqueue = 8", "max = 2\nqueue = 9\nmax_wait = \"1s\""),
        ("limit = \"200ms\"", "limit = \"100ms\""),
    ]
    .iter()
    .fold(FULL.to_owned(), |toml, (from, to)| {
        assert!(toml.contains(from), "{from}");
        toml.replace(from, to)
    })
}

#[tokio::test(start_paused = true)]
async fn what_can_change_at_run_time_changes_together() {
    let (_service, handle) = stack(FULL, async |n| Ok(n));
    let changes = handle.reload(config(&other())).await.unwrap();
    let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            r#"attempt_timeout.limit from "200ms" to "100ms""#,
            r#"breaker.probes from 3 to 4"#,
            r#"breaker.window.calls from 100 to null"#,
            r#"breaker.window.time from null to "10s""#,
            r#"limit.max from 4 to 2"#,
            r#"limit.max_wait from null to "1s""#,
            r#"limit.queue from 8 to 9"#,
            r#"rate.calls from 1000 to 10"#,
            r#"retry.backoff.exponential.base from "10ms" to "20ms""#,
            r#"retry.max_attempts from 3 to 2"#,
            r#"retry.max_elapsed from "30s" to "20s""#,
            r#"timeout.limit from "2s" to "1s""#,
        ]
    );
    assert_eq!(shown(&handle.config()), shown(&config(&other())));
    assert_eq!(handle.timeout.unwrap().limit(), MS * 1_000);
    assert_eq!(handle.retry.unwrap().config().max_attempts, 2);
    assert_eq!(handle.breaker.unwrap().config().probes, 4);
    assert_eq!(handle.rate.unwrap().config().calls, 10);
    let limit = handle.limit.unwrap();
    assert_eq!((limit.max(), limit.queue(), limit.max_wait()), (2, 9, Some(MS * 1_000)));
    assert_eq!(handle.attempt_timeout.unwrap().limit(), MS * 100);
}

#[tokio::test(start_paused = true)]
async fn what_has_not_changed_is_not_set_anew() {
    let (_service, handle) = stack(FULL, async |n| Ok(n));
    let (limit, breaker) = (handle.limit.clone().unwrap(), handle.breaker.clone().unwrap());
    limit.set_max(9).unwrap();
    breaker.admit().unwrap().failure();
    handle.reload(config(&FULL.replace("max_attempts = 3", "max_attempts = 2"))).await.unwrap();
    assert_eq!((limit.max(), breaker.snapshot().failures), (9, 1), "set by hand, and counted");
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_has_not_changed_keeps_its_tokens() {
    let toml = "[retry]\nmax_attempts = 2\nbudget = { ratio = 0, per_second = 0.1 }";
    let (service, handle) = stack(toml, async |_| Err("down"));
    let retries = async || {
        let before = handle.retry.as_ref().unwrap().stats().retried;
        service.clone().oneshot(1).await.unwrap_err();
        handle.retry.as_ref().unwrap().stats().retried - before
    };
    assert_eq!(retries().await, 1);
    handle.reload(config(&format!("{toml}\nmax_elapsed = \"1h\""))).await.unwrap();
    assert_eq!(retries().await, 0, "its only token is spent");
    handle.reload(config(&toml.replace("0.1", "0.2"))).await.unwrap();
    assert_eq!(retries().await, 1, "this one is another");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_needs_a_restart_is_refused_with_all_that_came_with_it() {
    let (_service, handle) = stack(FULL, async |n| Ok(n));
    for (from, to, error) in [
        (
            "per = \"1s\"",
            "per = \"1s\"\nburst = 7",
            "rate.burst: it cannot change from its default to 7 at run time; it needs a restart",
        ),
        (
            "[limit]\nmax = 4\nqueue = 8",
            "",
            "limit: a layer cannot go at run time; it needs a restart",
        ),
        (
            "name = \"search\"",
            "name = \"find\"",
            "breaker.name: it cannot change from \"search\" to \"find\" at run time; it needs a restart",
        ),
        (
            "seed = 7",
            "",
            "retry.seed: it cannot change from 7 to its default at run time; it needs a restart",
        ),
        (
            "workers = 2",
            "workers = 3",
            "pool.workers: no pool is known that can be resized at run time; it needs a restart",
        ),
    ] {
        assert!(FULL.contains(from), "{from}");
        let toml = FULL.replace(from, to).replace("200ms", "100ms");
        let refused = handle.reload(config(&toml)).await.unwrap_err();
        assert_eq!(refused.to_string(), error);
        assert!(refused.needs_restart());
        assert_eq!(shown(&handle.config()), shown(&config(FULL)));
        assert_eq!(handle.attempt_timeout.as_ref().unwrap().limit(), MS * 200, "{to}");
    }
    let toml = FULL
        .replace("per = \"1s\"", "per = \"1s\"\nburst = 7\nmax_wait = \"1s\"")
        .replace("workers = 2", "workers = 3\nqueue = 9\nidle = \"1s\"")
        .replace("[limit]\nmax = 4\nqueue = 8", "");
    let refused = handle.reload(config(&toml)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "limit: a layer cannot go at run time; it needs a restart; the same holds for pool.idle, \
         pool.queue, pool.workers, rate.burst, rate.max_wait"
    );
    let (_service, handle) = stack("", async |n| Ok(n));
    let refused = handle.reload(config("[limit]\nmax = 4")).await.unwrap_err();
    assert_eq!(refused.to_string(), "limit: a layer cannot appear at run time; it needs a restart");
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_only_fails_with_others_is_refused_with_them() {
    let (_service, handle) = stack(FULL, async |n| Ok(n));
    let toml = other().replace("per = \"1s\"", "per = \"5ns\"");
    let refused: Error = handle.reload(config(&toml)).await.unwrap_err();
    assert_eq!(refused.to_string(), "rate.calls: 10 is not allowed, it has to be from 1 to 5");
    assert_eq!(shown(&handle.config()), shown(&config(FULL)));
    assert_eq!(handle.limit.unwrap().max(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_its_own_settings_until_it_ends_and_the_next_one_has_the_new_ones() {
    let toml = "[timeout]\nlimit = \"2s\"\n[attempt_timeout]\nlimit = \"200ms\"\n[retry]\nmax_attempts = 3\n\
                backoff = { constant = \"10ms\" }\nbudget = \"unlimited\"";
    let (service, handle) = stack(toml, async |_| std::future::pending().await);
    let begun = Instant::now();
    let mut call = task::spawn(service.clone().oneshot(1));
    assert_pending!(call.poll());
    sleep(MS * 50).await;
    let toml = toml.replace("\"2s\"", "\"100ms\"").replace("200ms", "60ms").replace("= 3", "= 1");
    handle.reload(config(&toml)).await.unwrap();

    let ended: Answer = call.await;
    assert_eq!(ended.unwrap_err().rejected().unwrap().reason(), Reason::Elapsed);
    assert_eq!(begun.elapsed(), MS * 620, "three attempts of 200 ms each");
    let begun = Instant::now();
    service.oneshot(2).await.unwrap_err();
    assert_eq!(begun.elapsed(), MS * 60);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_raised_keeps_calls_that_are_under_way_from_it_as_well() {
    let toml = "[attempt_timeout]\nlimit = \"60ms\"\n[retry]\nmax_attempts = 2\nbackoff = { constant = \"10ms\" }";
    let (service, handle) = stack(toml, async |_| std::future::pending().await);
    let begun = Instant::now();
    let mut call = task::spawn(service.oneshot(1));
    assert_pending!(call.poll());
    handle.reload(config(&toml.replace("60ms", "1s"))).await.unwrap();
    call.await.unwrap_err();
    assert_eq!(begun.elapsed(), MS * 130);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_admitted_by_the_new_limit() {
    let (service, handle) = stack("[limit]\nmax = 1", async |n| {
        sleep(MS * 100).await;
        Ok(n)
    });
    let begun = Instant::now();
    let calls: Vec<_> = (0..4).map(|n| tokio::spawn(service.clone().oneshot(n))).collect();
    sleep(MS).await;
    assert_eq!(handle.limit.as_ref().unwrap().waiting(), 3);
    handle.reload(config("[limit]\nmax = 4")).await.unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(begun.elapsed(), MS * 101);
}

/// As many stacks in one file as make a hundred settings that change at run time.
const STACKS: usize = 12;

fn hundred(odd: bool) -> BTreeMap<String, StackConfig> {
    let ms = if odd { 1 } else { 2 };
    let toml = format!(
        "[timeout]\nlimit = \"{ms}0s\"\n[retry]\nmax_attempts = {ms}\nmax_elapsed = \"{ms}h\"\n\
         backoff = {{ constant = \"{ms}ms\" }}\n[breaker]\nprobes = {ms}\nmin_calls = {ms}00\n\
         [rate]\ncalls = {ms}000000\nper = \"1s\"\nburst = 1000000\nqueue = 0\n\
         [limit]\nmax = {ms}00\n[attempt_timeout]\nlimit = \"{ms}s\""
    );
    (0..STACKS).map(|n| (format!("stack-{n:02}"), config(&toml))).collect()
}

/// Which of the two sets is in force for a call that is being made; nothing if it is half of each.
fn seen(handle: &StackHandle) -> Option<bool> {
    let retry = handle.retry.as_ref().unwrap().config();
    let breaker = handle.breaker.as_ref().unwrap().config();
    let seconds = |handle: &stockade_timeout::TimeoutHandle| handle.limit().as_secs();
    let values = [
        seconds(handle.timeout.as_ref().unwrap()) / 10,
        u64::from(retry.max_attempts),
        retry.max_elapsed.unwrap().as_secs() / 3_600,
        u64::from(breaker.probes),
        u64::from(breaker.min_calls) / 100,
        u64::from(handle.rate.as_ref().unwrap().config().calls) / 1_000_000,
        handle.limit.as_ref().unwrap().max() as u64 / 100,
        seconds(handle.attempt_timeout.as_ref().unwrap()),
    ];
    values.iter().all(|value| *value == values[0]).then_some(values[0] == 1)
}

/// Looks at all settings when it is called, as the layers do: in `call`, and not in the future.
#[derive(Clone)]
struct Witness {
    handle: Arc<std::sync::OnceLock<StackHandle>>,
    seen: Arc<[AtomicU64; 3]>,
}

impl Service<u32> for Witness {
    type Response = u32;
    type Error = Failure<&'static str>;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        let first = seen(self.handle.get().unwrap());
        std::thread::yield_now();
        let second = seen(self.handle.get().unwrap());
        let index = match first.filter(|_| first == second) {
            Some(odd) => usize::from(odd),
            None => 2,
        };
        self.seen[index].fetch_add(1, Relaxed);
        std::future::ready(Ok(n))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_settings_change_under_load_and_no_call_is_lost_or_sees_half_of_them() {
    const TASKS: usize = 24;
    const RELOADS: u64 = 60;
    let seen = Arc::new([const { AtomicU64::new(0) }; 3]);
    let stop = Arc::new(AtomicBool::new(false));
    let (mut handles, mut tasks) = (BTreeMap::new(), Vec::new());
    for (name, config) in hundred(false) {
        let (layer, handle) = config.try_build().unwrap().with_handle();
        let witness = Witness { handle: Arc::default(), seen: Arc::clone(&seen) };
        assert!(witness.handle.set(handle.clone()).is_ok());
        let service = ServiceBuilder::new().layer(layer).service(witness);
        handles.insert(name, handle);
        for _ in 0..TASKS / STACKS {
            let (mut service, stop) = (service.clone(), Arc::clone(&stop));
            tasks.push(tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(Relaxed) {
                    let answer = service.ready().await.unwrap().call(calls).await;
                    assert_eq!(answer, Ok(calls), "no call is lost or refused");
                    calls += 1;
                    tokio::task::yield_now().await;
                }
                u64::from(calls)
            }));
        }
    }
    let (mut reloads, mut changed) = (0, 0);
    let both_were_seen = || (0..2).all(|n| seen[n].load(Relaxed) > 0);
    while reloads < RELOADS || !both_were_seen() {
        changed = handles.reload(hundred(reloads % 2 == 0)).await.unwrap().len();
        reloads += 1;
    }
    stop.store(true, Relaxed);
    let mut calls = 0;
    for task in tasks {
        calls += task.await.unwrap();
    }
    let [even, odd, half] = [0, 1, 2].map(|n| seen[n].load(Relaxed));
    assert!(changed >= 100, "{changed} settings");
    assert_eq!(half, 0, "of {calls} calls");
    assert_eq!(even + odd, calls);
}

#[tokio::test(start_paused = true)]
async fn of_several_stacks_none_changes_if_one_cannot() {
    let handles: BTreeMap<String, StackHandle> = ["a", "b"]
        .map(|name| {
            (name.to_owned(), config("[limit]\nmax = 1").try_build().unwrap().with_handle().1)
        })
        .into();
    let both = |a: &str, b: &str| [("a".to_owned(), config(a)), ("b".to_owned(), config(b))].into();
    let refused = handles.reload(both("[limit]\nmax = 2", "[limit]\nmax = 2\nname = \"b\"")).await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "b.limit.name: it cannot change from its default to \"b\" at run time; it needs a restart"
    );
    assert_eq!(handles["a"].limit.as_ref().unwrap().max(), 1);
    let only = [("a".to_owned(), config("[limit]\nmax = 2"))].into();
    let refused = handles.reload(only).await.unwrap_err();
    assert_eq!(refused.to_string(), "b: a stack cannot go at run time; it needs a restart");
    let other = ["a", "c"].map(|name| (name.to_owned(), config("[breaker]\nprobes = 2")));
    let refused = handles.reload(other.into()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a.breaker: a layer cannot appear at run time; it needs a restart; the same holds for \
         a.limit, b, c"
    );

    let changes = handles.reload(both("[limit]\nmax = 2", "[limit]\nmax = 3")).await.unwrap();
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[1].to_string(), "b.limit.max from 1 to 3");
}

#[tokio::test(start_paused = true)]
async fn a_retry_layer_of_a_client_gives_its_functions_and_the_file_gives_the_values() {
    let of_client = stockade_retry::RetryLayer::max_attempts(1)
        .idempotent(|n: &u32| n % 10 != 7)
        .clone_request(|n: &u32| Some(n + 10));
    let builder = config("[retry]\nmax_attempts = 3").try_build().unwrap();
    let (layer, handle) = builder.retry_layer(of_client).with_handle();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let service = ServiceBuilder::new().layer(layer).map_err(Failure::Service).service_fn(|n| {
        seen.lock().unwrap().push(n);
        async { Err::<u32, _>("down") }
    });
    service.clone().oneshot(1).await.unwrap_err();
    service.clone().oneshot(7).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [1, 11, 21, 7]);
    assert_eq!(handle.retry.unwrap().config().max_attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn limit_and_rate_take_what_no_file_can_say() {
    type Held = (u32, Option<stockade_limit::Permit>);
    let toml = "[rate]\ncalls = 10\nper = \"1s\"\nqueue = 0\n[limit]\nmax = 1\nqueue = 0";
    let (layer, handle) = config(toml)
        .try_build()
        .unwrap()
        .rate(|rate| rate.cost(|n: &u32| *n))
        .limit(|limit| limit.by_priority().hold(|(n, _): Held, permit| (n, Some(permit))))
        .with_handle();
    let service = ServiceBuilder::new().layer(layer).map_err(Failure::Service);
    let service = service.service_fn(async |n: u32| Ok::<Held, &str>((n, None)));
    let (answer, permit) = service.clone().oneshot(4).await.unwrap();
    let [rate, limit] =
        [handle.rate.unwrap().available() as usize, handle.limit.as_ref().unwrap().in_flight()];
    assert_eq!((answer, rate, limit), (4, 6, 1));
    let refused = service.oneshot(1).await.unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::QueueFull);
    drop(permit);
    assert_eq!(handle.limit.unwrap().in_flight(), 0);
}

#[test]
fn what_is_wrong_is_named_as_it_is_written() {
    for (toml, told) in [
        (
            "[retry]\nmax_attempts = 2\nbackoff = \"exponential\"",
            "retry.backoff: invalid type: string \"exponential\", expected a table, such as \
             { exponential = { base = \"50ms\", cap = \"10s\" } } (line 3)",
        ),
        (
            "[retry]\nmax_attempts = 2\nbackoff = { exponential = { base = \"2s\", cap = \"1s\" } }",
            "retry.backoff.exponential.cap: 1s is not allowed, \
             it has to be at least `base`, 2s, and at most ten years (line 3)",
        ),
        (
            "[retry]\nmax_attempts = 2\nbackoff = {}",
            "retry.backoff: a backoff needs `exponential` or `constant`, such as \
             { exponential = { base = \"50ms\", cap = \"10s\" } } or { constant = \"100ms\" } (line 3)",
        ),
        (
            "[retry]\nmax_attempts = 2\n\
             backoff = { constant = \"1s\", exponential = { base = \"1s\", cap = \"2s\" } }",
            "retry.backoff: a backoff has either `exponential` or `constant`, and not both (line 3)",
        ),
        (
            "[breaker]\nwindow = {}",
            "breaker.window: a window needs `calls` or `time`, such as { calls = 100 } or \
             { time = \"30s\" } (line 2)",
        ),
        (
            "[breaker]\nwindow = { calls = 5, time = \"1s\" }",
            "breaker.window: a window has either `calls` or `time`, and not both (line 2)",
        ),
        (
            "[breaker]\nwindow = { calls = 0 }",
            "breaker.window.calls: 0 is not allowed, it has to be a whole number from 1 to \
             1000000 (line 2)",
        ),
        ("[pool]\nworkers = { min = 9, max = 3 }", "pool.workers.min: 9 is above max, 3 (line 2)"),
        (
            "[breaker]\nslow = 5",
            "breaker.slow: invalid type: integer `5`, expected a table, such as \
             { after = \"1s\", rate = 0.8 } (line 2)",
        ),
        (
            "[retry]\nmax_attempts = 2\nseed = -1",
            "retry.seed: -1 is not allowed, it has to be a whole number from 0 to \
             18446744073709551615 (line 3)",
        ),
        (
            "timeout = \"1s\"",
            "timeout: invalid type: string \"1s\", expected a table of settings (line 1)",
        ),
        (
            "[limit]\nmax = \"64KiB\"",
            "limit.max: \"64KiB\" is not allowed, it has to be a whole number from 1 to \
             2147483647 (line 2)",
        ),
    ] {
        let error = stockade_config::toml::<StackConfig>(toml).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
}

#[test]
fn an_attempt_may_not_take_longer_than_the_whole_call() {
    let toml = "[timeout]\nlimit = \"2s\"\n[attempt_timeout]\nlimit = \"3s\"";
    let error = config(toml).try_build().unwrap_err();
    assert_eq!(error.to_string(), "attempt_timeout.limit: 3s is above timeout.limit, 2s");
}
