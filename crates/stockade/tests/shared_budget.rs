//! One budget for several layers: what they make together is bounded by its one number.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade::{Budget, Error, HedgeLayer, RetryLayer, retry::Backoff};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, layer::layer_fn, service_fn};

const MS: Duration = Duration::from_millis(1);
const CALLS: u32 = 1_000;

/// Of 1,000 calls a tenth, of which a little leaks away.
const TENTH: RangeInclusive<u32> = 95..=100;

/// What the service does with all calls.
#[derive(Clone, Copy, Debug)]
struct Day {
    slow: bool,
    fails: bool,
}

const DAYS: [Day; 3] = [
    Day { slow: true, fails: false },
    Day { slow: false, fails: true },
    Day { slow: true, fails: true },
];

type Answer = Result<(), Error<&'static str>>;

/// A service that counts its calls.
fn counted(
    day: Day,
    count: &Arc<AtomicU32>,
) -> impl Service<(), Response = (), Error = Error<&'static str>, Future: Send> + Clone + Send + use<>
{
    let count = Arc::clone(count);
    service_fn(move |()| {
        count.fetch_add(1, SeqCst);
        async move {
            if day.slow {
                tokio::time::sleep(15 * MS).await;
            }
            if day.fails { Answer::Err(Error::Service("no")) } else { Ok(()) }
        }
    })
}

fn hedge(budget: &Budget) -> HedgeLayer {
    HedgeLayer::after(10 * MS).budget(budget.clone())
}

fn retry(budget: &Budget) -> RetryLayer {
    RetryLayer::max_attempts(3).backoff(Backoff::none()).budget(budget.clone())
}

/// A layer that calls the service inside of it not in its own `call`, but in the future of that.
fn later<S>() -> impl Layer<S, Service: Service<(), Response = (), Error = S::Error> + Clone>
where
    S: Service<(), Response = ()> + Clone,
{
    layer_fn(|inner: S| service_fn(move |()| inner.clone().oneshot(())))
}

async fn call<S: Service<()> + Clone>(stack: &S, calls: u32) {
    for _ in 0..calls {
        let _answer = stack.clone().oneshot(()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn retry_above_hedge_and_hedge_above_retry_share_a_tenth_of_the_calls() {
    for day in DAYS {
        let (count, budget) = (Arc::default(), Budget::new(0.1, 0.0));
        let stack = ServiceBuilder::new().layer(retry(&budget)).layer(hedge(&budget));
        call(&stack.service(counted(day, &count)), CALLS).await;
        let extra = count.load(SeqCst) - CALLS;
        assert!(TENTH.contains(&extra), "retry above hedge, {day:?}: {extra}");

        let (count, budget) = (Arc::default(), Budget::new(0.1, 0.0));
        let stack = ServiceBuilder::new().layer(hedge(&budget)).layer(retry(&budget));
        call(&stack.service(counted(day, &count)), CALLS).await;
        let extra = count.load(SeqCst) - CALLS;
        assert!(TENTH.contains(&extra), "hedge above retry, {day:?}: {extra}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_between_the_two_may_call_later() {
    for day in DAYS {
        let (count, budget) = (Arc::default(), Budget::new(0.1, 0.0));
        let stack =
            ServiceBuilder::new().layer(retry(&budget)).layer(later()).layer(hedge(&budget));
        call(&stack.service(counted(day, &count)), CALLS).await;
        let extra = count.load(SeqCst) - CALLS;
        assert!(TENTH.contains(&extra), "retry above hedge, {day:?}: {extra}");

        let (count, budget) = (Arc::default(), Budget::new(0.1, 0.0));
        let stack =
            ServiceBuilder::new().layer(hedge(&budget)).layer(later()).layer(retry(&budget));
        call(&stack.service(counted(day, &count)), CALLS).await;
        let extra = count.load(SeqCst) - CALLS;
        assert!(TENTH.contains(&extra), "hedge above retry, {day:?}: {extra}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_stacks_with_one_budget_both_pay() {
    for day in DAYS {
        let (count, budget) = (Arc::default(), Budget::new(0.1, 0.0));
        let stack = ServiceBuilder::new().layer(retry(&budget)).layer(hedge(&budget));
        let [first, second] = [(); 2].map(|()| stack.clone().service(counted(day, &count)));
        for _ in 0..CALLS / 2 {
            call(&first, 1).await;
            call(&second, 1).await;
        }
        let extra = count.load(SeqCst) - CALLS;
        assert!(TENTH.contains(&extra), "{day:?}: {extra}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_switched_off_does_not_pay_and_the_one_inside_does() {
    let day = Day { slow: false, fails: true };
    let (count, budget) = (Arc::default(), Budget::new(0.1, 0.0));
    let (off, handle) = hedge(&budget).with_handle();
    handle.set_enabled(false);
    let stack = ServiceBuilder::new().layer(off).layer(retry(&budget));
    call(&stack.service(counted(day, &count)), CALLS).await;
    let extra = count.load(SeqCst) - CALLS;
    assert!(TENTH.contains(&extra), "{extra}");
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_a_handle_sets_is_shared_from_then_on() {
    let day = Day { slow: false, fails: true };
    let (count, budget) = (Arc::default(), Budget::new(0.1, 0.0));
    let (retry, handle) = RetryLayer::max_attempts(3).backoff(Backoff::none()).with_handle();
    let stack = ServiceBuilder::new().layer(hedge(&budget)).layer(retry);
    let stack = stack.service(counted(day, &count));
    handle.set_budget(budget);
    call(&stack, CALLS).await;
    let extra = count.load(SeqCst) - CALLS;
    assert!(TENTH.contains(&extra), "{extra}");
}
