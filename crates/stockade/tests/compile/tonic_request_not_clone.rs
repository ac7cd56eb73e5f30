//! The requests of tonic's clients are not `Clone`: `clone_request` is missing.

use stockade::{Error, RetryLayer};
use tonic::transport::Channel;
use tower::ServiceBuilder;

fn stack(channel: Channel) {
    let svc = ServiceBuilder::new()
        .layer(RetryLayer::max_attempts(3))
        .map_err(Error::Service)
        .service(channel);
    stockade::check::<http::Request<tonic::body::Body>>(&svc);
}

fn main() {}
