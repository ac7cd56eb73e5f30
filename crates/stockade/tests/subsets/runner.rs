//! Readiness, in every stack: nothing comes out of `poll_ready` but what the service inside says.

use std::{
    future::{Pending, pending},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use stockade::{Error, LayerError, Pool};
use tokio::task::JoinSet;
use tower::{Service, ServiceExt, util::BoxCloneService};

use crate::stacks::{
    Boxed, End, Failure, Kind, MS, Request, WORKERS, paused, stack, stack_over, subset,
};

const DAY: Duration = Duration::from_secs(86_400);

/// A job runner that takes an error of `poll_ready` for the death of its service: `None`.
async fn run_jobs(mut service: Boxed, jobs: u64) -> Option<usize> {
    let mut running = JoinSet::new();
    for id in 0..jobs {
        let ready = service.ready().await.ok()?;
        let end = if id % 2 == 0 { End::Answer } else { End::Fail };
        running.spawn(ready.call(Request { id, takes: MS * (id % 3) as u32, end }));
    }
    drop(service);
    Some(running.join_all().await.len())
}

#[test]
fn no_refusal_comes_from_poll_ready_so_a_runner_that_takes_it_for_death_does_all_jobs() {
    for bits in 0..32 * 3 {
        let order = subset(bits % 32);
        let (backpressure, pooled) = (bits / 32 == 1, bits / 32 == 2);
        let done = paused().block_on(async {
            let (mut service, _handles) = stack(&order, backpressure, &Arc::default());
            if pooled {
                let pool = Pool::builder().workers(WORKERS).queue(8).build(service);
                service = BoxCloneService::new(pool);
            }
            // Retries wait until the breaker lets them in again, which takes longer each time.
            tokio::time::timeout(DAY, run_jobs(service, 200)).await
        });
        assert_eq!(done, Ok(Some(200)), "{order:?}, {pooled}, {backpressure}");
    }
}

/// Never becomes ready, and says so as often as it is asked.
#[derive(Clone)]
struct Broken;

impl Service<Request> for Broken {
    type Response = u64;
    type Error = Failure;
    type Future = Pending<Result<u64, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Err(Error::Service("broken")))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        pending()
    }
}

#[test]
fn a_readiness_error_can_be_polled_again_and_is_never_replaced() {
    for bits in 0..64 {
        let order = subset(bits % 32);
        paused().block_on(async {
            let broken = BoxCloneService::new(Broken);
            let (mut service, _handles) = stack_over(broken, &order, bits & 32 != 0);
            for _ in 0..3 {
                let error = service.ready().await.map(drop);
                assert_eq!(error, Err(Error::Service("broken")), "{order:?}");
            }
        });
    }
}

#[test]
fn calling_a_clone_that_is_not_ready_does_not_panic() {
    for bits in 0..64 {
        let order = subset(bits % 32);
        let answer = paused().block_on(async {
            let (service, _handles) = stack(&order, bits & 32 != 0, &Arc::default());
            service.clone().call(Request { id: 7, takes: MS, end: End::Answer }).await
        });
        match answer {
            Ok(answer) => assert_eq!(answer, 7),
            // Who has to be asked first refuses; all others wait in the call.
            Err(error) => assert!(error.rejected().is_some() && bits & 32 != 0, "{order:?}"),
        }
    }
}

#[test]
fn an_instance_whose_call_the_breaker_refused_keeps_nobody_waiting() {
    paused().block_on(async {
        let (mut service, handles) = stack(&[Kind::Breaker, Kind::Rate], true, &Arc::default());
        let fails = |id| Request { id, takes: Duration::ZERO, end: End::Fail };
        let rate = handles.rate.expect("it is in the stack");
        for id in 0..5 {
            assert!(service.clone().oneshot(fails(id)).await.is_err());
        }
        rate.penalize(DAY);
        assert!(service.ready().await.is_ok(), "the breaker is open, so it is ready");
        assert!(service.call(fails(5)).await.is_err_and(|error| error.rejected().is_some()));
        assert_eq!(rate.waiting(), 0, "the instance has stayed in the queue");
    });
}
