//! The client's error cannot carry a refusal: `.map_err(Error::Service)` is missing.

use stockade::LimitLayer;
use tower::ServiceBuilder;

fn main() {
    let svc = ServiceBuilder::new()
        .layer(LimitLayer::new(8))
        .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
    stockade::check::<u32>(&svc);
}
