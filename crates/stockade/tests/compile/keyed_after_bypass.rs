//! `keyed` comes before `cost` and `bypass`.

use stockade::RateLayer;

fn main() {
    let _ = RateLayer::per_second(5)
        .bypass(|request: &u32| *request == 0)
        .keyed(|request: &u32| *request, 1_000);
}
