//! The client is not `Clone`, so nobody could wait and call it later.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use stockade::{Error, LimitLayer};
use tower::{Service, ServiceBuilder};

struct Client;

impl Service<u32> for Client {
    type Response = u32;
    type Error = std::io::Error;
    type Future = Ready<Result<u32, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        ready(Ok(n))
    }
}

fn main() {
    let svc = ServiceBuilder::new()
        .layer(LimitLayer::new(8))
        .map_err(Error::Service)
        .service(Client);
    stockade::check::<u32>(&svc);
}
