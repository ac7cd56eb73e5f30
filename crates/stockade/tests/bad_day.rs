//! The README's stack on a bad day: an upstream that is dead, slow or flapping, that comes back with a crowd waiting, or
//! that meets ten times its load. Each case is run with the pool in front and without it, on the paused clock. What is
//! asserted is what callers see: their answers, and the time until they had them.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::FutureExt;
use stockade::{
    BreakerLayer, Error, LayerError, LimitLayer, Pool, RateLayer, Reason, RetryLayer, TimeoutLayer,
    breaker::{BreakerHandle, State},
    deadline,
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

type Answer = Result<(), Error<&'static str>>;
type Stack = BoxCloneSyncService<(), (), Error<&'static str>>;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The total timeout of the README's stack.
const TOTAL: Duration = Duration::from_secs(10);

/// The timeout of each attempt.
const ATTEMPT: Duration = Duration::from_secs(2);

/// How long a call waits for its place in the limit.
const WAIT: Duration = Duration::from_millis(500);

/// How long a breaker is open for the first time, by default.
const OPEN: Duration = Duration::from_secs(5);

const DOWN: Answer = Err(Error::Service("down"));

/// A call as its caller saw it.
#[derive(Clone, Debug)]
struct Seen {
    /// Since the first call of all.
    began: Duration,
    took: Duration,
    answer: Answer,
}

/// What an upstream does with a call, by the time since the first call of all.
type Behaviour = fn(Duration) -> Does;

#[derive(Clone, Copy)]
enum Does {
    Answer(Duration),
    Fail,
    Hang,
}

/// An upstream, and what it has seen.
#[derive(Clone)]
struct Upstream {
    behaviour: Behaviour,
    start: Instant,
    /// When each call began.
    calls: Arc<Mutex<Vec<Duration>>>,
}

/// The stack of the README over an upstream.
struct Day {
    stack: Stack,
    upstream: Upstream,
    breaker: BreakerHandle,
    pooled: bool,
    name: &'static str,
}

// === impl Upstream ===

impl Upstream {
    fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, start: Instant::now(), calls: Arc::default() }
    }

    async fn call(self) -> Answer {
        let now = self.start.elapsed();
        self.calls.lock().unwrap().push(now);
        match (self.behaviour)(now) {
            Does::Answer(time) => {
                sleep(time).await;
                Ok(())
            }
            Does::Fail => DOWN,
            Does::Hang => pending().await,
        }
    }

    fn calls(&self) -> Vec<Duration> {
        self.calls.lock().unwrap().clone()
    }
}

// === impl Day ===

impl Day {
    fn new(behaviour: Behaviour, retry: &RetryLayer, pooled: bool) -> Self {
        Self::with_limit(behaviour, retry, pooled, LimitLayer::new(64).max_wait(WAIT))
    }

    fn with_limit(
        behaviour: Behaviour,
        retry: &RetryLayer,
        pooled: bool,
        limit: LimitLayer,
    ) -> Self {
        let upstream = Upstream::new(behaviour);
        let client = upstream.clone();
        let (layer, breaker) = BreakerLayer::new().with_handle();
        let stack = ServiceBuilder::new()
            .layer(TimeoutLayer::new(TOTAL))
            .layer(retry.clone())
            .layer(layer)
            .layer(RateLayer::per_second(500))
            .layer(limit)
            .layer(TimeoutLayer::new(ATTEMPT))
            .service_fn(move |()| client.clone().call());
        let (stack, name) = if pooled {
            (Stack::new(Pool::builder().workers(16).queue(128).build(stack)), "with the pool")
        } else {
            (Stack::new(stack), "without a pool")
        };
        Self { stack, upstream, breaker, pooled, name }
    }

    /// A call from now on.
    fn call(&self) -> impl Future<Output = Seen> + Send + use<> {
        let (mut stack, start) = (self.stack.clone(), self.upstream.start);
        let began = Instant::now();
        async move {
            let answer = match stack.ready().await {
                Ok(stack) => stack.call(()).await,
                Err(error) => Err(error),
            };
            Seen { began: began - start, took: began.elapsed(), answer }
        }
    }

    /// One caller every so often, for so long; nobody waits for the ones before.
    async fn callers(&self, every: Duration, time: Duration) -> Vec<Seen> {
        let mut ticks = interval(every);
        let mut calls = JoinSet::new();
        for _ in 0..(time.as_micros() / every.as_micros()) {
            ticks.tick().await;
            calls.spawn(self.call());
        }
        calls.join_all().await
    }

    /// So many callers at once.
    async fn crowd(&self, callers: usize) -> Vec<Seen> {
        (0..callers).map(|_| self.call()).collect::<JoinSet<_>>().join_all().await
    }

    /// What holds on every bad day: an open breaker answers at once, with the time to come back; and no call takes longer
    /// than the total timeout.
    ///
    /// In front of a pool this holds once a worker is free: not while all of them wait for attempts that began
    /// before the breaker opened.
    #[track_caller]
    fn check(&self, seen: &[Seen]) {
        for seen in seen {
            assert!(seen.took <= TOTAL + 2 * MS, "{}: {seen:?}", self.name);
            if refused(&seen.answer) == Some(Reason::BreakerOpen) {
                let worker_free = !self.pooled || seen.began > ATTEMPT * 5;
                assert!(seen.took < MS || !worker_free, "{}: {seen:?}", self.name);
                let rejected = seen.answer.as_ref().unwrap_err().rejected().unwrap();
                assert!(rejected.retry_after().is_some(), "{}: {seen:?}", self.name);
            }
        }
    }
}

/// The README's retry.
fn retry() -> RetryLayer {
    RetryLayer::max_attempts(3)
}

/// Why a layer refused the call, if one did.
fn refused(answer: &Answer) -> Option<Reason> {
    Some(answer.as_ref().err()?.rejected()?.reason())
}

/// How often each answer was seen.
fn count(seen: &[Seen]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for seen in seen {
        let answer = match (&seen.answer, refused(&seen.answer)) {
            (Ok(()), _) => "ok",
            (_, Some(reason)) => reason.as_str(),
            _ => "failed",
        };
        *counts.entry(answer.to_owned()).or_default() += 1;
    }
    counts
}

/// The latency below which this share of the calls was.
fn quantile(seen: &[Seen], share: f64) -> Duration {
    let mut took: Vec<_> = seen.iter().map(|seen| seen.took).collect();
    took.sort();
    took[((took.len() - 1) as f64 * share) as usize]
}

#[tokio::test(start_paused = true)]
async fn behind_a_dead_upstream_callers_are_told_so_at_once() {
    for pooled in [false, true] {
        let day = Day::new(|_| Does::Fail, &retry(), pooled);
        let seen = day.callers(100 * MS, 60 * SECOND).await;
        day.check(&seen);
        let counts = count(&seen);
        assert!(counts["circuit open"] > 500, "{}: {counts:?}", day.name);
        assert!(quantile(&seen, 0.9) < MS, "{}: {:?}", day.name, quantile(&seen, 0.9));
        assert!(day.upstream.calls().len() < 100, "{}: the upstream is spared", day.name);
    }
}

#[tokio::test(start_paused = true)]
async fn behind_a_dead_upstream_callers_are_told_so_at_once_without_a_total_timeout_too() {
    let (layer, breaker) = BreakerLayer::new().with_handle();
    let stack = ServiceBuilder::new()
        .layer(retry())
        .layer(layer)
        .layer(RateLayer::per_second(500))
        .layer(LimitLayer::new(64).max_wait(WAIT))
        .layer(TimeoutLayer::new(ATTEMPT))
        .service_fn(async |()| DOWN);
    let mut opened = 0;
    for _ in 0..600 {
        let start = Instant::now();
        let open = breaker.state() == State::Open;
        let answer = stack.clone().oneshot(()).await;
        if open && refused(&answer) == Some(Reason::BreakerOpen) {
            assert!(start.elapsed() < MS, "{:?}", start.elapsed());
            opened += 1;
        }
        sleep(100 * MS).await;
    }
    assert!(opened > 400, "{opened}");
}

#[tokio::test(start_paused = true)]
async fn behind_an_upstream_that_hangs_callers_wait_for_attempts_only_until_the_breaker_opens() {
    for pooled in [false, true] {
        let day = Day::new(|_| Does::Hang, &retry(), pooled);
        let seen = day.callers(100 * MS, 60 * SECOND).await;
        day.check(&seen);
        let counts = count(&seen);
        assert!(counts["circuit open"] > 400, "{}: {counts:?}", day.name);
        let (_, late): (Vec<_>, Vec<_>) =
            seen.into_iter().partition(|seen| seen.began < 10 * SECOND);
        assert!(quantile(&late, 0.8) < MS, "{}: {:?}", day.name, quantile(&late, 0.8));
    }
}

#[tokio::test(start_paused = true)]
async fn callers_in_the_queue_of_the_limit_outlast_an_opening_breaker_only_by_max_wait_and_an_attempt()
 {
    // How much later those ended who came before it opened, and how many calls were sent while it was open.
    let after_opening = async |limit| {
        let day = Day::with_limit(|_| Does::Hang, &retry(), false, limit);
        let (start, breaker) = (day.upstream.start, day.breaker.clone());
        let opening = tokio::spawn(async move {
            while breaker.state() == State::Closed {
                sleep(MS).await;
            }
            start.elapsed()
        });
        let seen = day.callers(5 * MS, 6 * SECOND).await;
        let opened = opening.await.unwrap();
        let before = seen.iter().filter(|seen| seen.began < opened);
        let last = before.map(|seen| seen.began + seen.took).max().unwrap();
        let probes = opened + OPEN * 3 / 4;
        let sent = day.upstream.calls().iter().filter(|&&at| at > opened && at < probes).count();
        (last - opened, sent)
    };
    let (last, sent) = after_opening(LimitLayer::new(64)).await;
    assert!(last > TOTAL - SECOND && sent > 64, "without `max_wait`: {last:?}, {sent}");
    let (last, sent) = after_opening(LimitLayer::new(64).max_wait(WAIT)).await;
    assert!(last <= ATTEMPT + WAIT && sent <= 64, "with `max_wait`: {last:?}, {sent}");
}

#[tokio::test(start_paused = true)]
async fn behind_a_slow_upstream_callers_wait_for_attempts_only_until_the_breaker_opens() {
    for pooled in [false, true] {
        let day = Day::new(|_| Does::Answer(3 * SECOND), &retry(), pooled);
        let seen = day.callers(100 * MS, 60 * SECOND).await;
        day.check(&seen);
        let counts = count(&seen);
        assert!(counts["circuit open"] > 400, "{}: {counts:?}", day.name);
    }
}

#[tokio::test(start_paused = true)]
async fn behind_a_flapping_upstream_callers_fail_fast_and_succeed_when_it_stays_up() {
    // Three seconds down, three up; and from the 30th second on it is well.
    let flapping: Behaviour = |now| {
        let down = now < 30 * SECOND && (now.as_secs() / 3).is_multiple_of(2);
        if down { Does::Fail } else { Does::Answer(20 * MS) }
    };
    for pooled in [false, true] {
        let day = Day::new(flapping, &retry(), pooled);
        let seen = day.callers(50 * MS, 120 * SECOND).await;
        day.check(&seen);
        let counts = count(&seen);
        assert!(quantile(&seen, 0.99) < SECOND, "{}: {counts:?}", day.name);
        // The breaker has opened a few times, so its open time may have grown up to a minute.
        let late = seen.iter().filter(|seen| seen.began > 95 * SECOND);
        assert!(late.clone().count() > 400);
        assert!(late.clone().all(|seen| seen.answer.is_ok()), "{}: {counts:?}", day.name);
        assert_eq!(day.breaker.state(), State::Closed, "{}", day.name);
    }
}

/// Opens the breaker of a service that is well again, and lets 50 callers come after some time.
async fn recovery(retry: &RetryLayer, pooled: bool, after: Duration) -> (Day, Vec<Seen>) {
    let day = Day::new(|_| Does::Answer(200 * MS), retry, pooled);
    while day.breaker.state() == State::Closed {
        day.breaker.admit().unwrap().failure();
    }
    sleep(after).await;
    let seen = day.crowd(50).await;
    (day, seen)
}

#[tokio::test(start_paused = true)]
async fn when_the_upstream_is_back_callers_who_wait_are_all_served_within_the_open_time_and_two_seconds()
 {
    let cases = [(false, SECOND), (true, SECOND), (false, OPEN), (true, OPEN)];
    for (pooled, after) in cases {
        let (day, seen) = recovery(&retry().retry_refusals(TOTAL), pooled, after).await;
        let counts = count(&seen);
        assert_eq!(counts.get("ok"), Some(&50), "{}: {counts:?}", day.name);
        let last = quantile(&seen, 1.0);
        assert!(last <= OPEN + 2 * SECOND, "{}: {last:?}", day.name);
        // They come back spread out, and not in one instant.
        let mut instants = BTreeMap::<_, usize>::new();
        for call in day.upstream.calls() {
            *instants.entry(call.as_millis()).or_default() += 1;
        }
        let most = instants.values().max().copied().unwrap_or_default();
        assert!(most <= 16, "{}: {most} calls in one millisecond", day.name);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_upstream_is_back_callers_who_do_not_wait_are_refused_at_once_and_lose_nothing() {
    for pooled in [false, true] {
        let (day, seen) = recovery(&retry(), pooled, SECOND).await;
        day.check(&seen);
        assert_eq!(count(&seen)["circuit open"], 50, "{}: {:?}", day.name, count(&seen));
        assert_eq!(quantile(&seen, 1.0), Duration::ZERO, "{}", day.name);
        // And a little later everybody is served.
        sleep(OPEN + 2 * SECOND).await;
        let _probes = day.callers(100 * MS, 2 * SECOND).await;
        let seen = day.callers(100 * MS, 2 * SECOND).await;
        assert_eq!(count(&seen).get("ok"), Some(&20), "{}: {:?}", day.name, count(&seen));
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_ten_times_the_rate_is_served_or_refused_within_the_total_timeout() {
    for pooled in [false, true] {
        let day = Day::new(|_| Does::Answer(20 * MS), &retry(), pooled);
        let start = Instant::now();
        let seen = day.crowd(5_000).await;
        let counts = count(&seen);
        let served = counts["ok"];
        assert_eq!(day.breaker.state(), State::Closed, "{}: a queue is no failure", day.name);
        assert_eq!(day.upstream.calls().len(), served, "{}: nothing is sent twice", day.name);
        // A bucket full, and what runs in.
        let sent = start.elapsed().as_secs_f64() * 500.0 + 501.0;
        assert!(served as f64 <= sent, "{}: {served} of {sent}", day.name);
        for seen in &seen {
            match refused(&seen.answer) {
                Some(Reason::QueueFull | Reason::RateLimited | Reason::Expired) => {
                    assert!(seen.took < MS, "{}: {seen:?}", day.name);
                }
                refused => assert_eq!(refused, None, "{}: {seen:?}", day.name),
            }
        }
        // Without a pool most of the crowd finds the queue of the rate limit full; in front of the pool it waits.
        assert!(served > 1_400, "{}: {counts:?}", day.name);
        assert!(quantile(&seen, 1.0) <= TOTAL + SECOND, "{}: {counts:?}", day.name);
        let healthy = day.callers(10 * MS, SECOND).await;
        assert_eq!(count(&healthy)["ok"], 100, "{}: and then all is well", day.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_jobs_behind_a_dead_upstream_end_within_a_third_of_a_second() {
    let day = Day::new(|_| Does::Fail, &retry(), true);
    let start = Instant::now();
    let seen = day.crowd(1_000).await;
    assert!(start.elapsed() < 300 * MS, "{:?}", start.elapsed());
    assert!(count(&seen)["circuit open"] > 900, "{:?}", count(&seen));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_cannot_pass_is_never_repeated() {
    let four = || RetryLayer::max_attempts(4).retry_refusals(TOTAL).with_handle();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let client = service_fn(move |()| {
        count.fetch_add(1, SeqCst);
        async { Answer::Ok(()) }
    });

    let (retry, retries) = four();
    let costly = RateLayer::per_second(5).burst(5).cost(|(): &()| 6);
    let costly = retry.layer(costly.layer(client.clone()));
    let start = Instant::now();
    assert_eq!(refused(&costly.oneshot(()).await), Some(Reason::TooCostly));
    assert_eq!((retries.stats().retried, start.elapsed()), (0, Duration::ZERO));

    let (retry, retries) = four();
    let pool = Pool::builder().workers(1).build(client);
    let closed = retry.layer(pool.clone());
    pool.drain(SECOND).await;
    assert_eq!(refused(&closed.oneshot(()).await), Some(Reason::PoolClosed));
    assert_eq!((retries.stats().retried, start.elapsed()), (0, Duration::ZERO));
    assert_eq!(calls.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn callers_who_share_a_call_each_wait_under_their_own_deadline() {
    let upstream = Upstream::new(|_| Does::Answer(SECOND));
    let client = upstream.clone();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(TOTAL))
        .layer(retry())
        .layer(BreakerLayer::new())
        .layer(RateLayer::per_second(500))
        .layer(LimitLayer::new(64).max_wait(WAIT))
        .layer(TimeoutLayer::new(ATTEMPT))
        .service_fn(move |()| client.clone().call());
    let shared = deadline::shared(stack.oneshot(())).shared();
    let caller = |time| {
        let call = shared.clone();
        let svc = TimeoutLayer::new(time).layer(service_fn(move |()| call.clone()));
        let start = Instant::now();
        async move { (svc.oneshot(()).await, start.elapsed()) }
    };
    // The impatient one polls first.
    let impatient = tokio::spawn(caller(100 * MS));
    tokio::task::yield_now().await;
    let patient = tokio::spawn(caller(TOTAL));
    let (answer, took) = impatient.await.unwrap();
    assert_eq!(refused(&answer), Some(Reason::Elapsed));
    assert!((100 * MS..=102 * MS).contains(&took), "{took:?}");
    let (answer, took) = timeout(TOTAL, patient).await.unwrap().unwrap();
    assert_eq!(answer, Ok(()));
    assert!((SECOND..=SECOND + 2 * MS).contains(&took), "{took:?}");
    assert_eq!(upstream.calls().len(), 1);
}
