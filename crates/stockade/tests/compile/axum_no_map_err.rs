//! In `HandleErrorLayer` the router's error needs `.map_err` too; `check::layers` makes the compiler say so.

use std::time::Duration;

use axum::{
    Router, error_handling::HandleErrorLayer, extract::Request, http::StatusCode, routing::get,
};
use stockade::{BoxError, TimeoutLayer, check};
use tower::ServiceBuilder;

fn main() {
    let _: Router = Router::new().route("/", get(async || "hello")).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(async |_: BoxError| StatusCode::SERVICE_UNAVAILABLE))
            .layer(check::layers::<Request>())
            .layer(TimeoutLayer::new(Duration::from_secs(1))),
    );
}
