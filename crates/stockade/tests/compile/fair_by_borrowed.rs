//! A function that borrows its answer from the request cannot say whose a call is.

use stockade::{Error, LimitLayer};
use tower::ServiceBuilder;

#[derive(Clone)]
struct Request {
    tenant: String,
}

fn tenant(request: &Request) -> &str {
    &request.tenant
}

fn main() {
    let svc = ServiceBuilder::new()
        .layer(LimitLayer::new(8).fair_by(tenant))
        .map_err(Error::Service)
        .service_fn(async |request: Request| Ok::<_, std::io::Error>(request));
    stockade::check::<Request>(&svc);
}
