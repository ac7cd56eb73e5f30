//! A layer on an axum router: its error is `Infallible`, which cannot carry a refusal.

use std::time::Duration;

use axum::{Router, routing::get};
use stockade::TimeoutLayer;

fn main() {
    let _: Router = Router::new()
        .route("/", get(async || "hello"))
        .layer(TimeoutLayer::new(Duration::from_secs(1)));
}
