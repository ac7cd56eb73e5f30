//! Callers that write into a database, and keep books of what they were told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade_breaker::{BreakerHandle, BreakerLayer, State, Window};
use stockade_clients::Cause;
use stockade_core::{BoxError, Classify, Error, LayerError};
use stockade_retry::{Backoff, Budget, RetryHandle, RetryLayer};
use stockade_timeout::TimeoutLayer;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

pub(crate) type Stack<E> = BoxCloneSyncService<i64, (), Error<E>>;

/// What an attempt may take: longer than it does on a machine that is busy, or the breaker would open for that.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(1);
const WINDOW: u32 = 20;
const OPEN: Duration = Duration::from_millis(200);
/// What is repeated: a fifth of the calls, and one a second.
const RATIO: f64 = 0.2;
const PER_SECOND: f64 = 1.0;
/// Callers at once.
const CALLERS: u64 = 8;
/// Beyond it a test has failed: everything waited for is an event.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stack of retries, a breaker and a time-out for each attempt, around a client that writes numbers.
pub(crate) struct Rig<E> {
    stack: Stack<E>,
    retries: RetryHandle,
    breaker: BreakerHandle,
    counts: Arc<Counts>,
    begin: Instant,
}

/// What was seen at the client.
#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    attempts: AtomicU64,
    failures: AtomicU64,
}

/// Callers that go on until they are stopped.
pub(crate) struct Load {
    next: Arc<AtomicI64>,
    told: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

// === impl Rig ===

impl<E: std::error::Error + Send + Sync + 'static> Rig<E> {
    pub(crate) fn new<S, C>(client: S, classify: C) -> Self
    where
        S: Service<i64, Response = (), Error = E, Future: Send> + Clone + Send + Sync + 'static,
        C: Classify<(), Error<E>> + Copy + Send + Sync + 'static,
        Error<E>: Cause + LayerError,
    {
        let counts = Arc::<Counts>::default();
        let retry = RetryLayer::max_attempts(5)
            .backoff(Backoff::exponential(Duration::from_millis(5), Duration::from_millis(100)))
            .budget(Budget::new(RATIO, PER_SECOND))
            .classify(classify);
        let breaker = BreakerLayer::new()
            .window(Window::calls(WINDOW))
            .min_calls(10)
            .open_for(OPEN)
            .classify(classify);
        let (retry, retries) = retry.with_handle();
        let (breaker, handle) = breaker.with_handle();
        let (asked, ended) = (Arc::clone(&counts), Arc::clone(&counts));
        let stack = ServiceBuilder::new()
            .layer(retry)
            .layer(breaker)
            .map_request(move |id| {
                asked.attempts.fetch_add(1, SeqCst);
                id
            })
            .map_result(move |result: Result<(), Error<E>>| {
                if result.is_err() {
                    ended.failures.fetch_add(1, SeqCst);
                }
                result
            })
            .layer(TimeoutLayer::new(ATTEMPT))
            .map_err(Error::Service)
            .service(client);
        let stack = BoxCloneSyncService::new(stack);
        Self { stack, retries, breaker: handle, counts, begin: Instant::now() }
    }

    /// One call.
    pub(crate) async fn write(&self, id: i64) -> Result<(), Error<E>> {
        self.counts.calls.fetch_add(1, SeqCst);
        self.stack.clone().oneshot(id).await
    }

    /// Callers that write numbers in order, each of them again and again until it is told that it is written.
    pub(crate) fn load(self: &Arc<Self>) -> Load {
        let mut load = Load {
            next: Arc::default(),
            told: watch::Sender::new(0),
            stop: Arc::default(),
            callers: JoinSet::new(),
        };
        for _ in 0..CALLERS {
            let (rig, next) = (Arc::clone(self), Arc::clone(&load.next));
            let (told, stop) = (load.told.clone(), Arc::clone(&load.stop));
            load.callers.spawn(async move {
                while !stop.load(SeqCst) {
                    let id = next.fetch_add(1, SeqCst);
                    while rig.write(id).await.is_err() {
                        // A caller who is told no comes back later.
                        sleep(Duration::from_millis(20)).await;
                    }
                    told.send_modify(|told| *told += 1);
                }
            });
        }
        load
    }

    /// Breaks what is behind the stack, waits until the breaker has noticed, mends it, and waits until all is well.
    pub(crate) async fn outage(
        &self,
        break_it: impl AsyncFnOnce() -> Result<(), BoxError>,
        mend_it: impl AsyncFnOnce() -> Result<(), BoxError>,
    ) {
        let mut state = self.breaker.watch();
        within(state.wait_for(|state| *state == State::Closed)).await.unwrap();
        let opened = self.breaker.snapshot().opened;
        let before = self.counts.failures.load(SeqCst);
        break_it().await.unwrap();
        within(state.wait_for(|state| *state == State::Open)).await.unwrap();
        let failed = self.counts.failures.load(SeqCst) - before;
        // Those that were under way when it opened come on top, and those that fail after a success in the window.
        assert!(failed <= u64::from(WINDOW) + CALLERS, "open only after {failed} failures");
        assert!(self.breaker.snapshot().opened > opened);

        mend_it().await.unwrap();
        self.recovery().await;
    }

    /// From now on all is well: the breaker has to close within its open interval and a second.
    async fn recovery(&self) {
        let mut state = self.breaker.watch();
        let mut since = Instant::now();
        let mut interval = self.breaker.snapshot().remaining.unwrap_or_default();
        while *state.borrow_and_update() != State::Closed {
            within(state.changed()).await.unwrap();
            // A probe that was under way as it was mended may open it once more.
            if let Some(remaining) = self.breaker.snapshot().remaining {
                (since, interval) = (Instant::now(), remaining);
            }
        }
        let took = since.elapsed();
        assert!(
            took < interval + Duration::from_secs(1),
            "{took:?} after an interval of {interval:?}"
        );
    }

    /// No more reached the client than the budget allows.
    pub(crate) fn check_amplification(&self) {
        let (calls, attempts) = (self.counts.calls.load(SeqCst), self.counts.attempts.load(SeqCst));
        let seconds = self.begin.elapsed().as_secs_f64();
        let most = (1.0 + RATIO) * calls as f64 + PER_SECOND * (seconds + 10.0);
        assert!(attempts as f64 <= most, "{attempts} attempts for {calls} calls in {seconds} s");
        assert!(self.retries.stats().retried > 0, "nothing was repeated");
    }
}

// === impl Load ===

impl Load {
    /// Waits until this many more were written.
    pub(crate) async fn written(&self, more: u64) {
        let mut told = self.told.subscribe();
        let from = *told.borrow();
        within(told.wait_for(|told| *told >= from + more)).await.unwrap();
    }

    /// Ends the callers once each of them has been told yes, and says how many numbers they have written.
    pub(crate) async fn stop(mut self) -> i64 {
        self.stop.store(true, SeqCst);
        within(async {
            while let Some(ended) = self.callers.join_next().await {
                ended.unwrap();
            }
        })
        .await;
        let written = self.next.load(SeqCst);
        assert_eq!(self.told.borrow().cast_signed(), written);
        written
    }
}

/// `future`, which is a matter of moments.
pub(crate) async fn within<F: IntoFuture>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it happens in time")
}
