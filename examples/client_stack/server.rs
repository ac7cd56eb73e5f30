//! A real HTTP server that does what the plan says, and reports to the audit.

use std::{io, net::SocketAddr};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use tokio::{net::TcpListener, time::sleep};

use crate::{
    audit::Audit,
    plan::{Behaviour, Plan},
};

/// The header with the number of the call.
pub(crate) const CALL: &str = "x-call";

#[derive(Clone, Debug)]
struct Site {
    plan: Plan,
    audit: Audit,
}

/// Starts the server on a free port of the loopback interface.
pub(crate) async fn start(plan: Plan, audit: Audit) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let app = Router::new().route("/items/{id}", get(item)).with_state(Site { plan, audit });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            eprintln!("the server has stopped: {error}");
        }
    });
    Ok(address)
}

async fn item(State(site): State<Site>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let number = headers.get(CALL).and_then(|value| value.to_str().ok()?.parse().ok());
    let (Ok(id), Some(number)) = (id.parse(), number) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    // Dropped when the answer is ready, or together with this future when the client closes the connection.
    let Some((_part, attempt)) = site.audit.arrive(number) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let behaviour = site.plan.behaviour(id, attempt);
    site.audit.note(id, behaviour);
    match behaviour {
        Behaviour::Answer(time) | Behaviour::Stall(time) => {
            sleep(time).await;
            format!("item {id}, asked for {attempt} times").into_response()
        }
        Behaviour::Missing => StatusCode::NOT_FOUND.into_response(),
        Behaviour::Fail => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Behaviour::Busy => (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response(),
        Behaviour::Cut => Response::new(half_an_answer()),
    }
}

/// A body that breaks off, which makes the server drop the connection.
fn half_an_answer() -> Body {
    let parts = [Ok(Bytes::from_static(b"item ")), Err(io::ErrorKind::BrokenPipe)];
    Body::from_stream(stream::iter(parts.map(|part| part.map_err(io::Error::from))))
}
