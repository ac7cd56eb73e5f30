//! A key that is borrowed from the request cannot be kept.

use std::time::Duration;

use http::Request;
use stockade::{Error, RateLayer};
use tower::ServiceBuilder;

fn main() {
    let rate = RateLayer::new(5, Duration::from_secs(1)).keyed(
        |request: &Request<()>| request.headers().get("x-tenant")?.to_str().ok(),
        1_000,
    );
    let svc = ServiceBuilder::new()
        .layer(rate)
        .map_err(Error::Service)
        .service_fn(async |request: Request<()>| Ok::<_, std::io::Error>(request));
    stockade::check::<Request<()>>(&svc);
}
