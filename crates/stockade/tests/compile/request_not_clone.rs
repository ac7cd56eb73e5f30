//! The request is not `Clone`, so it could not be repeated.

use stockade::{Error, RetryLayer};
use tower::ServiceBuilder;

struct Order(u32);

fn main() {
    let svc = ServiceBuilder::new()
        .layer(RetryLayer::max_attempts(3))
        .map_err(Error::Service)
        .service_fn(async |order: Order| Ok::<_, std::io::Error>(order.0));
    stockade::check::<Order>(&svc);
}
