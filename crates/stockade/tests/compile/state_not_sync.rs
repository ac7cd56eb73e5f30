//! A stack in axum's `State` has to be `Sync`.

use stockade::{BoxError, LimitLayer};
use tower::{ServiceBuilder, service_fn, util::BoxCloneService};

fn main() {
    let client = BoxCloneService::new(service_fn(async |n: u32| Ok::<_, BoxError>(n + 1)));
    let svc = ServiceBuilder::new().layer(LimitLayer::new(8)).service(client);
    stockade::check::state::<u32>(&svc);
}
