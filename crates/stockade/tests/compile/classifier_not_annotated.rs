//! The compiler cannot infer that a classifier takes references of any lifetime.

use stockade::{Class, Error, RetryLayer};
use tower::ServiceBuilder;

fn main() {
    let svc = ServiceBuilder::new()
        .layer(RetryLayer::max_attempts(3).classify(|_| Class::Success))
        .map_err(Error::Service)
        .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
    stockade::check::<u32>(&svc);
}
