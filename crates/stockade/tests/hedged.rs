//! A hedge above real layers: what its losers give back, what a refusal inside costs, and who stops it.

#![cfg(feature = "hedge")]

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Response, StatusCode};
use stockade::{
    BoxError, BreakerLayer, Budget, Class, Classify, Error, HedgeLayer, LimitLayer, RateLayer,
    Reason, hedge::Stats,
};
use stockade_clients::{grpc::Grpc, http::Http};
use tokio::time::sleep;
use tokio_test::{assert_pending, assert_ready, task::spawn};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

type Failure = Error<&'static str>;

/// A service that takes so many milliseconds for each attempt, one after the other, and answers with their number.
fn takes(
    millis: &'static [u64],
) -> impl Service<(), Response = u32, Error = Failure, Future: Send> + Clone + Send {
    let attempts = Arc::new(AtomicU32::new(0));
    service_fn(move |()| {
        let attempt = attempts.fetch_add(1, SeqCst);
        async move {
            sleep(Duration::from_millis(millis[attempt as usize])).await;
            Ok(attempt)
        }
    })
}

fn hedge() -> HedgeLayer {
    HedgeLayer::after(MS * 10).budget(Budget::unlimited())
}

/// A budget with one token.
fn one_token() -> Budget {
    Budget::new(0.0, 1e-9)
}

#[tokio::test(start_paused = true)]
async fn losers_have_given_their_permits_and_places_back_when_the_answer_is_there() {
    // With three permits the fourth attempt waits in the queue, and the third one wins.
    for (permits, millis, winner) in
        [(4, &[1_000, 1_000, 1_000, 5], 3), (3, &[1_000, 1_000, 25, 0], 2)]
    {
        let (limit, handle) = LimitLayer::new(permits).with_handle();
        let svc = ServiceBuilder::new().layer(hedge().max(3)).layer(limit).service(takes(millis));
        // The future is kept after it is ready.
        let mut call = pin!(svc.oneshot(()));
        assert_eq!(call.as_mut().await, Ok(winner));
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0), "{permits} permits");
    }
}

#[tokio::test(start_paused = true)]
async fn a_loser_that_holds_a_permit_before_it_is_called_gives_it_back() {
    let (limit, handle) = LimitLayer::new(2).with_handle();
    let limit = limit.backpressure();
    let svc = ServiceBuilder::new().layer(hedge()).layer(limit).service(takes(&[15, 1_000]));
    let held = handle.try_acquire().unwrap();
    let mut call = spawn(svc.oneshot(()));
    assert_pending!(call.poll());
    sleep(MS * 11).await;
    assert_pending!(call.poll(), "the second attempt waits for a permit in its readiness");
    assert_eq!((handle.in_flight(), handle.waiting()), (2, 1));
    sleep(MS * 5).await;
    assert_eq!(assert_ready!(call.poll()), Ok(0));
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 0));
    drop(held);
    assert_eq!(handle.in_flight(), 0);
}

/// Makes a call whose second attempt a layer inside refuses, and then one that is hedged with the only token.
async fn assert_refusal_is_free<L, S>(inside: L, refuses: impl AsyncFn(bool))
where
    L: Layer<tower::util::BoxCloneService<(), u32, Failure>, Service = S>,
    S: Service<(), Response = u32, Error = Failure> + Clone,
{
    let client = tower::util::BoxCloneService::new(takes(&[30, 1_000, 5]));
    let (layer, handle) = HedgeLayer::after(MS * 10).budget(one_token()).with_handle();
    let svc = ServiceBuilder::new().layer(layer).layer(inside).service(client);
    let mut call = spawn(svc.clone().oneshot(()));
    assert_pending!(call.poll());
    refuses(true).await;
    assert_eq!(call.await, Ok(0), "the first attempt goes on");
    let Stats { hedged, refused, .. } = handle.stats();
    assert_eq!((hedged, refused), (1, 1));
    refuses(false).await;
    assert_eq!(svc.oneshot(()).await, Ok(2), "the token is there again");
    assert_eq!(handle.stats().won, 1);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_an_open_breaker_refuses_does_not_end_the_call_and_keeps_no_token() {
    let (breaker, handle) = BreakerLayer::new().consecutive(1).open_for(MS * 15).with_handle();
    let refuses = async |refuses: bool| {
        if refuses {
            handle.admit().unwrap().failure();
        } else {
            sleep(MS * 15).await;
            handle.reset();
        }
    };
    assert_refusal_is_free(breaker, refuses).await;
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_a_full_limit_refuses_does_not_end_the_call_and_keeps_no_token() {
    let (limit, handle) = LimitLayer::new(1).queue(0).with_handle();
    let refuses = async |refuses: bool| {
        if !refuses {
            handle.set_max(2).unwrap();
        }
    };
    assert_refusal_is_free(limit, refuses).await;
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_an_empty_bucket_refuses_does_not_end_the_call_and_keeps_no_token() {
    let (rate, handle) = RateLayer::new(2, HOUR).burst(2).queue(0).with_handle();
    handle.try_take(1).unwrap();
    let refuses = async |refuses: bool| {
        if !refuses {
            sleep(HOUR).await;
        }
    };
    assert_refusal_is_free(rate, refuses).await;
}

/// Calls a service that answers `busy` at once and is slow from then on, and returns what the hedge has counted.
async fn after_pushback<T, E>(
    classify: impl Classify<T, E> + Clone + Send + 'static,
    busy: impl Fn() -> Result<T, E> + Clone + Send + 'static,
    slow: impl Fn() -> Result<T, E> + Clone + Send + 'static,
    wait: Duration,
) -> Stats
where
    T: Send + 'static,
    E: stockade::LayerError + Send + 'static,
{
    let attempts = Arc::new(AtomicU32::new(0));
    let service = service_fn(move |()| {
        let (first, busy, slow) = (attempts.fetch_add(1, SeqCst) == 0, busy.clone(), slow.clone());
        async move {
            if first {
                return busy();
            }
            sleep(MS * 50).await;
            slow()
        }
    });
    let (layer, handle) = hedge().classify(classify).with_handle();
    let svc = layer.layer(service);
    let _busy = svc.clone().oneshot(()).await;
    sleep(wait).await;
    let _slow = svc.oneshot(()).await;
    handle.stats()
}

#[tokio::test(start_paused = true)]
async fn an_http_503_stops_hedges_for_as_long_as_it_says_or_for_a_second() {
    let answer = |status: StatusCode, after: Option<&'static str>| {
        move || {
            let mut answer = Response::builder().status(status);
            if let Some(after) = after {
                answer = answer.header("retry-after", after);
            }
            Ok::<_, BoxError>(answer.body(()).unwrap())
        }
    };
    let slow = || Ok(Response::new(()));
    for (status, after, quiet) in [
        (StatusCode::SERVICE_UNAVAILABLE, None, 1_000),
        (StatusCode::SERVICE_UNAVAILABLE, Some("5"), 5_000),
        (StatusCode::TOO_MANY_REQUESTS, Some("5"), 5_000),
    ] {
        let stats = async |wait| {
            after_pushback(Http::new(), answer(status, after), slow, Duration::from_millis(wait))
                .await
        };
        let held_back = stats(quiet - 11).await;
        assert_eq!((held_back.hedged, held_back.held_back), (0, 1), "{status} {after:?}");
        assert_eq!(stats(quiet).await.hedged, 1, "{status} {after:?}");
    }
    let fails = answer(StatusCode::INTERNAL_SERVER_ERROR, None);
    assert_eq!(after_pushback(Http::new(), fails, slow, MS).await.hedged, 1, "a 500 does not");
}

#[tokio::test(start_paused = true)]
async fn the_pushback_of_grpc_stops_hedges_for_as_long_as_it_says() {
    let busy = |pushback: Option<&'static str>| {
        move || {
            let mut status = tonic::Status::unavailable("busy");
            if let Some(pushback) = pushback {
                status.metadata_mut().insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
            }
            Err::<tonic::Response<()>, _>(Error::Service(status))
        }
    };
    let slow = || Ok(tonic::Response::new(()));
    let stats = async |pushback, wait| {
        after_pushback(Grpc::new(), busy(pushback), slow, Duration::from_millis(wait)).await
    };
    let held_back = stats(Some("5000"), 5_000 - 11).await;
    assert_eq!((held_back.hedged, held_back.held_back), (0, 1));
    assert_eq!(stats(Some("5000"), 5_000).await.hedged, 1);
    assert_eq!(stats(None, 1).await.hedged, 1, "without it the next call may be hedged");
}

#[tokio::test(start_paused = true)]
async fn pushback_stops_the_attempts_that_the_call_itself_would_make() {
    let classify = |result: Result<&u32, &Failure>| match result {
        Err(_) => Class::Overload { after: None, processed: false },
        Ok(_) => Class::Success,
    };
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let service = service_fn(move |()| {
        let attempt = count.fetch_add(1, SeqCst);
        async move {
            sleep(MS * if attempt == 0 { 100 } else { 5 }).await;
            if attempt == 0 { Ok(0) } else { Err(Failure::Service("busy")) }
        }
    });
    let svc = hedge().max(10).classify(classify).layer(service);
    assert_eq!(svc.oneshot(()).await, Ok(0));
    assert_eq!(attempts.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_tells_its_caller_of_the_breaker_only_where_no_attempt_was_made() {
    let (breaker, handle) = BreakerLayer::new().with_handle();
    let _open = handle.force_open();
    let svc = ServiceBuilder::new().layer(hedge()).layer(breaker).service(takes(&[]));
    let error = svc.oneshot(()).await.unwrap_err();
    assert_eq!(stockade::LayerError::rejected(&error).unwrap().reason(), Reason::ForcedOpen);
}
