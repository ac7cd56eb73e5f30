//! What a limit keeps after a peak.

use std::task::{Context, Poll, Waker};

use stockade_limit::LimitLayer;
use tower::{Layer, Service};

#[test]
fn after_a_million_waiters_the_memory_is_given_back() {
    const WAITERS: usize = 1_000_000;
    let layer = LimitLayer::new(1).queue(WAITERS);
    let mut svc = layer.layer(tower::service_fn(async |()| {
        Ok::<_, stockade_core::Error<std::convert::Infallible>>(())
    }));
    let handle = svc.handle();
    let cx = &mut Context::from_waker(Waker::noop());
    let permit = handle.try_acquire().unwrap();
    let mut peak = |cancel: bool| {
        allocation_counter::measure(|| {
            let mut calls: Vec<_> = (0..WAITERS).map(|_| Box::pin(svc.call(()))).collect();
            assert!(calls.iter_mut().all(|call| call.as_mut().poll(cx).is_pending()));
            assert_eq!(handle.waiting(), WAITERS);
            if cancel {
                return;
            }
            handle.set_enabled(false);
            assert!(
                calls.into_iter().all(|mut call| call.as_mut().poll(cx) == Poll::Ready(Ok(())))
            );
            handle.set_enabled(true);
        })
    };
    for cancel in [true, false] {
        let kept = peak(cancel);
        assert!(kept.bytes_current < kept.bytes_max as i64 / 1_000, "{kept:?}");
    }
    drop(permit);
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
}
