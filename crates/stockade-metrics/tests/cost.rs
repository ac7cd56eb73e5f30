//! Metrics cost nothing per call; a scrape does the work.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    mem,
    pin::pin,
    task::{Context, Poll, Waker},
};

use stockade_breaker::BreakerLayer;
use stockade_core::Error;
use stockade_limit::LimitLayer;
use stockade_metrics::{MeasureLayer, Metrics};
use stockade_retry::RetryLayer;
use tower::{Service, ServiceBuilder};

type Refusal = Error<Infallible>;

const CALLS: u32 = 1_000;

#[tokio::test(start_paused = true)]
async fn a_measured_call_allocates_nothing_whether_it_is_answered_refused_or_dropped() {
    let (layer, handle) = MeasureLayer::new().with_handle();
    let limit = LimitLayer::new(1).queue(0);
    // Pending once.
    let answer = |n: u32| {
        let mut polled = false;
        poll_fn(move |_| match mem::replace(&mut polled, true) {
            true => Poll::Ready(Ok::<_, Refusal>(n)),
            false => Poll::Pending,
        })
    };
    let mut service = ServiceBuilder::new().layer(layer).layer(limit).service_fn(answer);
    let mut context = Context::from_waker(Waker::noop());
    let mut calls = |calls| {
        for n in 0..calls {
            {
                let mut answered = pin!(service.call(n));
                assert!(answered.as_mut().poll(&mut context).is_pending());
                let refused = pin!(service.call(n)).poll(&mut context);
                assert!(matches!(refused, Poll::Ready(Err(_))));
                assert_eq!(answered.poll(&mut context), Poll::Ready(Ok(n)));
            }
            assert!(pin!(service.call(n)).poll(&mut context).is_pending());
        }
    };
    calls(16);
    assert_eq!(allocation_counter::measure(|| calls(CALLS)).count_total, 0);
    let counted = handle.calls();
    let all = u64::from(CALLS) + 16;
    assert_eq!([counted.succeeded, counted.refused, counted.dropped], [all; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_call_allocates_nothing_for_its_metrics_and_a_scrape_does() {
    let (limit, limit_handle) = LimitLayer::new(8).with_handle();
    let (retry, retries) = RetryLayer::max_attempts(3).with_handle();
    let (breaker, handle) = BreakerLayer::new().with_handle();
    let metrics = Metrics::new();
    metrics.retry("it", retries).unwrap();
    metrics.breaker("it", handle).unwrap();
    metrics.limit("it", limit_handle).unwrap();
    let layers = ServiceBuilder::new().layer(retry).layer(breaker).layer(limit);
    let mut service = layers.service_fn(|n: u32| std::future::ready(Ok::<_, Refusal>(n)));
    let mut context = Context::from_waker(Waker::noop());
    let mut calls = |calls| {
        for n in 0..calls {
            assert!(service.poll_ready(&mut context).is_ready());
            assert_eq!(pin!(service.call(n)).poll(&mut context), Poll::Ready(Ok(n)));
        }
    };
    calls(16);
    assert!(allocation_counter::measure(|| drop(metrics.render())).count_total > 0);
    assert_eq!(allocation_counter::measure(|| calls(CALLS)).count_total, 0);
    let text = metrics.render();
    assert!(text.contains(r#"stockade_breaker_window_calls{name="it"} 100"#), "{text}");
}
