//! In `HandleErrorLayer` a retry of axum's requests needs `clone_request`; `check::layers` makes the compiler say so.

use axum::{
    Router, error_handling::HandleErrorLayer, extract::Request, http::StatusCode, routing::get,
};
use stockade::{BoxError, RetryLayer, check};
use tower::ServiceBuilder;

fn main() {
    let _: Router = Router::new().route("/", get(async || "hello")).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(async |_: BoxError| StatusCode::SERVICE_UNAVAILABLE))
            .layer(check::layers::<Request>())
            .layer(RetryLayer::max_attempts(3))
            .map_err(stockade::boxed),
    );
}
