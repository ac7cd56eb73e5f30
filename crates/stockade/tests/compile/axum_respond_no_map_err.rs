//! Under `RespondLayer` the router's error needs `.map_err` too, and the compiler says so by itself.

use std::time::Duration;

use axum::{Router, routing::get};
use stockade::TimeoutLayer;
use stockade_clients::http::RespondLayer;
use tower::ServiceBuilder;

fn main() {
    let _: Router = Router::new().route("/", get(async || "hello")).layer(
        ServiceBuilder::new()
            .layer(RespondLayer::new())
            .layer(TimeoutLayer::new(Duration::from_secs(1))),
    );
}
