//! `with_handle` ends the setters.

use stockade::LimitLayer;

fn main() {
    let (limit, _handle) = LimitLayer::new(8).with_handle();
    let _ = limit.name("search");
}
