//! The layer wants a type of request that the probe does not take.

use std::task::{Context, Poll};

use stockade_testkit::{Probe, contract};
use tower::{Layer, Service, layer::layer_fn};

#[derive(Clone)]
struct OfHttp<S>(S);

impl<S: Service<http::Request<B>>, B> Service<http::Request<B>> for OfHttp<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> S::Future {
        self.0.call(request)
    }
}

fn main() {
    let layer = layer_fn(OfHttp::<Probe>);
    let _ = contract(move |inner: Probe| layer.layer(inner));
}
