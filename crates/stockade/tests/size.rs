//! How large the future of a call is: what the five layers add is bounded, because every task that calls holds it.

use std::{
    future::{Future, Ready, ready},
    task::{Context, Poll},
};

use stockade::{BreakerLayer, Error, LimitLayer, RateLayer, RetryLayer, TimeoutLayer};
use tower::{Layer, Service};

type Answer = Result<(), Error<()>>;

/// A client whose future is next to nothing, so that what is measured are the layers.
#[derive(Clone)]
struct Client;

impl<const N: usize> Service<[u8; N]> for Client {
    type Response = ();
    type Error = Error<()>;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error<()>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: [u8; N]) -> Self::Future {
        ready(Ok(()))
    }
}

/// The size of the future of a call with a request of `N` bytes.
fn future<const N: usize, S>(_: &S) -> usize
where
    S: Service<[u8; N]>,
    S::Future: Future,
{
    size_of::<S::Future>()
}

fn five_layers_add_at_most_twice_the_request_and_512_bytes<const N: usize>() {
    let client = Client;
    let timeout = TimeoutLayer::new(std::time::Duration::from_secs(1)).layer(client);
    let limit = LimitLayer::new(1).layer(timeout.clone());
    let rate = RateLayer::per_second(1).layer(limit.clone());
    let breaker = BreakerLayer::new().layer(rate.clone());
    let retry = RetryLayer::max_attempts(3).layer(breaker.clone());
    let sizes = [
        ("client", future::<N, _>(&Client)),
        ("timeout", future::<N, _>(&timeout)),
        ("limit", future::<N, _>(&limit)),
        ("rate", future::<N, _>(&rate)),
        ("breaker", future::<N, _>(&breaker)),
        ("retry", future::<N, _>(&retry)),
    ];
    let total = future::<N, _>(&retry);
    println!("request of {N} bytes, from the inside out: {sizes:?}");
    assert!(total <= sizes[0].1 + 2 * N + 512, "{total} bytes: {sizes:?}");
}

#[test]
fn five_layers_add_at_most_twice_a_small_request_and_512_bytes() {
    five_layers_add_at_most_twice_the_request_and_512_bytes::<8>();
}

#[test]
fn five_layers_add_at_most_twice_a_large_request_and_512_bytes() {
    five_layers_add_at_most_twice_the_request_and_512_bytes::<1024>();
}
