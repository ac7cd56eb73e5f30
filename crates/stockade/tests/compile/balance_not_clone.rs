//! `Balance` is not `Clone`.

use stockade::{BoxError, RetryLayer};
use tower::{ServiceBuilder, balance::p2c::Balance, discover::ServiceList, load::Constant, service_fn};

fn main() {
    let endpoint = Constant::new(service_fn(async |n: u32| Ok::<_, BoxError>(n + 1)), 1);
    let balance = Balance::new(ServiceList::new::<u32>([endpoint]));
    let svc = ServiceBuilder::new().layer(RetryLayer::max_attempts(3)).service(balance);
    stockade::check::<u32>(&svc);
}
