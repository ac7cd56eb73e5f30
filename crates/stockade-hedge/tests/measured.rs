//! What a hedge does on a real clock, beside the same service without one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade_core::{Budget, Error};
use stockade_hedge::HedgeLayer;
use tokio::{task::JoinSet, time::Instant};
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const TASKS: usize = 20;
const CALLS: usize = 150;

type Failure = Error<&'static str>;

/// A service of which one answer in a hundred takes a second, and the others 10 ms; counts its calls.
fn service(
    begun: &Arc<AtomicU32>,
) -> impl Service<(), Response = (), Error = Failure, Future: Send> + Clone + Send + use<> {
    let begun = Arc::clone(begun);
    service_fn(move |()| {
        let is_slow = begun.fetch_add(1, SeqCst) % 100 == 99;
        async move {
            tokio::time::sleep(if is_slow { MS * 1_000 } else { MS * 10 }).await;
            Ok(())
        }
    })
}

/// The latencies of many calls, without those of the first fifth, which find out how long calls take.
async fn latencies<S>(service: S) -> Vec<Duration>
where
    S: Service<(), Response = (), Error = Failure, Future: Send> + Clone + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let service = service.clone();
        tasks.spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..CALLS {
                let begin = Instant::now();
                service.clone().oneshot(()).await.expect("it always answers");
                taken.push(begin.elapsed());
            }
            taken.split_off(CALLS / 5)
        });
    }
    tasks.join_all().await.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hedge_at_the_95th_percentile_halves_the_slowest_thousandth_for_a_twentieth_more_calls() {
    let (plain, hedged) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let layer = HedgeLayer::percentile(0.95).budget(Budget::new(0.05, 0.0));
    let (layer, handle) = layer.with_handle();
    // Side by side, so that a busy machine is busy for both.
    let one = tokio::spawn(latencies(service(&plain)));
    let other = tokio::spawn(latencies(layer.layer(service(&hedged))));
    let [one, other] = [one.await.unwrap(), other.await.unwrap()].map(|mut latencies| {
        latencies.sort_unstable();
        latencies[latencies.len() * 999 / 1_000]
    });
    assert!(other <= one / 2, "{other:?}, not {one:?}: {:?}", handle.stats());
    let most = plain.load(SeqCst) * 105 / 100;
    assert!(hedged.load(SeqCst) <= most, "{hedged:?} calls, not {most}");
}
