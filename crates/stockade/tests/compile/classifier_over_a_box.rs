//! A classifier of `stockade-clients` wants the error of its client, and not a box around it.

use stockade::{BoxError, Error, RetryLayer};
use stockade_clients::http::Http;
use tower::ServiceBuilder;

fn main() {
    let svc = ServiceBuilder::new()
        .layer(RetryLayer::max_attempts(3).classify(Http::new()))
        .map_err(Error::Service)
        .service_fn(async |_: u32| Ok::<_, BoxError>(http::Response::new(())));
    stockade::check::<u32>(&svc);
}
