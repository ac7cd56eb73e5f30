//! What reads the answer fails with the client's own error, as `read_to_end` of reqwest does, and stands above the line that
//! wraps that error.

use http::{Request, Response};
use stockade::{BreakerLayer, Error, LimitLayer};
use stockade_clients::http::Http;
use tower::ServiceBuilder;

#[derive(Debug)]
struct ClientError;

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for ClientError {}

async fn read_to_end(answer: Response<()>) -> Result<Response<String>, ClientError> {
    Ok(answer.map(|()| String::new()))
}

fn main() {
    let svc = ServiceBuilder::new()
        .layer(BreakerLayer::new().classify(Http::new()))
        .layer(LimitLayer::new(8))
        .and_then(read_to_end)
        .map_err(Error::Service)
        .service_fn(async |_: Request<()>| Ok::<_, ClientError>(Response::new(())));
    stockade::check::<Request<()>>(&svc);
}
