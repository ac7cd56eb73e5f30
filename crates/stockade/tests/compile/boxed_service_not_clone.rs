//! `BoxService` is not `Clone`.

use stockade::{BoxError, RateLayer};
use tower::{ServiceBuilder, service_fn, util::BoxService};

fn main() {
    let client = BoxService::new(service_fn(async |n: u32| Ok::<_, BoxError>(n + 1)));
    let svc = ServiceBuilder::new().layer(RateLayer::per_second(8)).service(client);
    stockade::check::<u32>(&svc);
}
