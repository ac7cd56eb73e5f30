//! Nothing makes the refusals of the layers on a router answers.

use std::time::Duration;

use axum::{Router, routing::get};
use stockade::{Error, TimeoutLayer};
use tower::ServiceBuilder;

fn main() {
    let _: Router = Router::new().route("/", get(async || "hello")).layer(
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(Duration::from_secs(1)))
            .map_err(Error::Service),
    );
}
