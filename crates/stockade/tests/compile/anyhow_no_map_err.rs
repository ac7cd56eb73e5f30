//! `anyhow::Error` cannot carry a refusal: `.map_err(stockade::boxed)` is missing.

use stockade::LimitLayer;
use tower::ServiceBuilder;

fn main() {
    let svc = ServiceBuilder::new()
        .layer(LimitLayer::new(8))
        .service_fn(async |n: u32| anyhow::Ok(n + 1));
    stockade::check::<u32>(&svc);
}
