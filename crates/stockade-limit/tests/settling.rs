//! Where an adaptive limit settles, over a service in virtual time.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade_core::{Error, LayerError, Reason, Rejected};
use stockade_limit::{Adaptive, Aimd, Gradient2, LimitHandle, LimitLayer, Policy, Vegas};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service};

type Answer = Result<(), Error<Infallible>>;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A service that works at so many calls at once and queues the rest.
#[derive(Clone)]
struct Server {
    places: LimitHandle,
    takes: Duration,
    /// What a client inside of the limit waits at most.
    gives_up: Option<Duration>,
    /// In percent of `takes`, how much longer or shorter calls take.
    spread: u32,
    answered: Arc<AtomicU32>,
}

impl Server {
    fn new(places: usize, takes: Duration) -> Self {
        let (_, places) = LimitLayer::new(places).queue(1_000_000).with_handle();
        Self { places, takes, gives_up: None, spread: 0, answered: Arc::default() }
    }

    async fn work(self) -> Answer {
        let n = self.answered.fetch_add(1, SeqCst);
        let _place = self.places.acquire().await?;
        // Evenly spread, and the same in each run.
        let part = n.wrapping_mul(2_654_435_761) >> 16;
        let percent = 100 - self.spread + part % (2 * self.spread + 1);
        sleep(self.takes * percent / 100).await;
        Ok(())
    }

    async fn call(self) -> Answer {
        let Some(gives_up) = self.gives_up else { return self.work().await };
        let late = Rejected::new(&"client", Reason::Elapsed);
        timeout(gives_up, self.work()).await.unwrap_or(Err(late.into()))
    }
}

/// Callers that call again and again.
#[derive(Clone, Copy)]
struct Callers {
    count: usize,
    /// How long each waits for an answer, and if it gives up, how long until it comes back.
    patience: Option<Duration>,
}

const MANY: Callers = Callers { count: 200, patience: None };

/// The limit in each of `phases`, at whose beginning something may change.
async fn run<P: Policy>(
    layer: LimitLayer<Adaptive<P>>,
    server: &Server,
    callers: Callers,
    phases: &[(Duration, Change)],
) -> Vec<Seen> {
    let inner = server.clone();
    let svc = layer.layer(tower::service_fn(move |()| inner.clone().call()));
    let limit = svc.handle();
    let mut all = JoinSet::new();
    for _ in 0..callers.count {
        let mut svc = svc.clone();
        all.spawn(async move {
            loop {
                let call = svc.call(());
                let answer = match callers.patience {
                    Some(patience) => timeout(patience, call).await.unwrap_or(Ok(())),
                    None => call.await,
                };
                if answer.is_err_and(|error| error.rejected().is_some_and(Rejected::is_refusal)) {
                    sleep(MS * 50).await;
                }
            }
        });
    }
    let mut seen = Vec::new();
    for (length, change) in phases {
        change(server);
        let start = Instant::now();
        let mut limits = Vec::new();
        while start.elapsed() < *length {
            sleep(server.takes).await;
            if start.elapsed() >= *length / 2 {
                limits.push(limit.max());
            }
        }
        limits.sort_unstable();
        let at = |part: usize| limits[(limits.len() - 1) * part / 100];
        seen.push(Seen { median: at(50), high: at(90) });
    }
    seen
}

/// The limit in the second half of a phase: the median, and what nine of ten looks were at or below.
#[derive(Clone, Copy, Debug)]
struct Seen {
    median: usize,
    high: usize,
}

/// What happens at the beginning of a phase.
type Change = fn(&Server);

const NOTHING: Change = |_| ();

/// A service that does 10 at once, 100 ms each; calls differ by up to 20 %.
fn ten_at_once() -> Server {
    Server { spread: 20, ..Server::new(10, MS * 100) }
}

#[track_caller]
fn assert_settled(seen: &Seen, capacity: usize, what: &str) {
    let twice = capacity.div_ceil(2)..=2 * capacity;
    assert!(twice.contains(&seen.median), "{what} over {capacity} at once: {seen:?}");
    assert!(seen.high <= 5 * capacity / 2, "{what} over {capacity} at once: {seen:?}");
}

async fn settles(policy: impl Policy, server: Server, callers: Callers, what: &str) {
    let phases = [(MINUTE * 5, NOTHING), (MINUTE * 15, NOTHING)];
    for seen in run(LimitLayer::adaptive(policy), &server, callers, &phases).await {
        assert_settled(&seen, 10, what);
    }
}

#[tokio::test(start_paused = true)]
async fn vegas_settles_within_twice_of_what_a_saturated_service_does_at_once() {
    settles(Vegas::new(), Server::new(10, MS * 100), MANY, "vegas").await;
    settles(Vegas::new(), Server::new(10, SECOND), MANY, "vegas, slow calls").await;
    settles(Vegas::new(), Server { spread: 90, ..ten_at_once() }, MANY, "vegas, uneven").await;
}

#[tokio::test(start_paused = true)]
async fn gradient2_settles_within_twice_of_what_a_saturated_service_does_at_once() {
    settles(Gradient2::new(), Server::new(10, MS * 100), MANY, "gradient2").await;
    settles(Gradient2::new(), Server::new(10, SECOND), MANY, "gradient2, slow calls").await;
    let uneven = Server { spread: 90, ..ten_at_once() };
    settles(Gradient2::new(), uneven, MANY, "gradient2, uneven").await;
}

#[tokio::test(start_paused = true)]
async fn callers_that_give_up_do_not_unsettle_vegas_and_gradient2() {
    let callers = Callers { patience: Some(MS * 900), ..MANY };
    let phases = [(MINUTE * 5, NOTHING), (MINUTE * 5, NOTHING)];
    let vegas = run(LimitLayer::adaptive(Vegas::new()), &ten_at_once(), callers, &phases).await;
    assert_settled(&vegas[1], 10, "vegas");
    let gradient2 = LimitLayer::adaptive(Gradient2::new());
    let gradient2 = run(gradient2, &ten_at_once(), callers, &phases).await;
    assert_settled(&gradient2[1], 10, "gradient2");
}

#[tokio::test(start_paused = true)]
async fn vegas_and_gradient2_follow_a_capacity_that_halves_and_doubles() {
    let phases: [(Duration, Change); 4] = [
        (MINUTE * 5, NOTHING),
        (MINUTE * 5, |server| server.places.set_max(5).unwrap()),
        (MINUTE * 5, |server| server.places.set_max(10).unwrap()),
        (MINUTE * 5, |server| server.places.set_max(20).unwrap()),
    ];
    let vegas = run(LimitLayer::adaptive(Vegas::new()), &ten_at_once(), MANY, &phases).await;
    let gradient2 = LimitLayer::adaptive(Gradient2::new());
    let gradient2 = run(gradient2, &ten_at_once(), MANY, &phases).await;
    for (n, capacity) in [10, 5, 10, 20].into_iter().enumerate() {
        assert_settled(&vegas[n], capacity, "vegas");
        assert_settled(&gradient2[n], capacity, "gradient2");
    }
}

#[tokio::test(start_paused = true)]
async fn aimd_settles_where_the_timeouts_of_its_clients_begin() {
    // With 50 in flight the last one waits for 500 ms.
    let phases = [(MINUTE * 10, NOTHING)];
    let inside = Server { gives_up: Some(MS * 500), ..ten_at_once() };
    let aimd = LimitLayer::adaptive(Aimd::new());
    let inside = run(aimd.clone(), &inside, MANY, &phases).await;
    let callers = Callers { patience: Some(MS * 500), count: 100 };
    let outside = run(aimd.queue(0), &ten_at_once(), callers, &phases).await;
    for seen in [inside[0], outside[0]] {
        assert!((40..=60).contains(&seen.median), "{seen:?}");
    }
}
