//! A page that shows every handle live.

mod board;
mod control;
mod hub;

use std::{fmt, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};

pub use hub::MAX_STREAMS;

use self::{control::Guard, hub::Hub};
use crate::Metrics;

/// A page that shows every handle of a [`Metrics`] live; made by [`dashboard`].
///
/// One page, without anything from elsewhere: the states of breakers, queues, limits, pools with the jobs that run,
/// durations, and refusals by reason, updated ten times a second. Handles that are added later show up.
///
/// Anybody who can reach the page sees the names and the numbers, so do not put it on the internet. Nothing can be changed on
/// it unless you turn [`control`](Self::control) on.
///
/// While nobody looks at it, nothing is read. However many viewers there are, the handles are read once for all of them, and
/// only what has changed is sent. There may be [`MAX_STREAMS`] browsers at once; a further one is told to come again.
///
/// A graceful shutdown of the server waits for browsers that are open, so give it a limit.
#[derive(Clone)]
#[must_use = "it is a page once it is a router"]
pub struct Dashboard {
    metrics: Metrics,
    token: Option<String>,
    origins: Vec<String>,
}

/// What the handlers share.
#[derive(Debug)]
struct Shared {
    hub: Arc<Hub>,
    /// If control is on.
    guard: Option<Guard>,
}

/// A page that shows every handle of `metrics` live.
///
/// # Example
///
/// ```no_run
/// use stockade_metrics::{Metrics, dashboard};
/// use tokio::net::TcpListener;
///
/// # async fn start(metrics: Metrics) -> std::io::Result<()> {
/// let app: axum::Router = dashboard(metrics).at("/stockade");
/// axum::serve(TcpListener::bind("127.0.0.1:3000").await?, app).await
/// # }
/// ```
pub fn dashboard(metrics: Metrics) -> Dashboard {
    Dashboard { metrics, token: None, origins: Vec::new() }
}

const PAGE: &str = include_str!("dashboard/page.html");

/// Nothing comes from elsewhere, and no other page may frame this one.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// The shortest token.
const SHORTEST: usize = 16;

// === impl Dashboard ===

impl Dashboard {
    /// Lets people who know `token` force breakers open, pause pools and change limits, by buttons on the page.
    ///
    /// The token is compared in constant time, and a request from a page of another origin is refused even with it. A
    /// breaker is held open until it is released on the page, or until the router is dropped.
    ///
    /// # Without the page
    ///
    /// The buttons send `POST …/control` with `Authorization: Bearer <token>` and a JSON body of at most 16 KiB, such as
    /// `{"kind":"limit","name":"search","order":"change","to":32}`. `kind` and `name` are those of the handle. The orders:
    ///
    /// | `order` | of a |
    /// |---|---|
    /// | `force_open`, `release` | `breaker` |
    /// | `pause`, `resume` | `pool` |
    /// | `change`, with a whole number in `to` | `limit` (its maximum), `rate` (its calls) |
    ///
    /// | status | means |
    /// |---|---|
    /// | 204 | it is done |
    /// | 400 | the body is no such order, or the kind cannot do that |
    /// | 401 | the token is missing or wrong |
    /// | 403 | the request comes from a page of another origin |
    /// | 404 | there is no such handle, or control is off |
    /// | 422 | the value is not allowed |
    ///
    /// All but 204 come with the reason as text.
    ///
    /// # Panics
    ///
    /// If the token has fewer than 16 bytes.
    #[track_caller]
    pub fn control(mut self, token: impl Into<String>) -> Self {
        let token = token.into();
        assert!(
            token.len() >= SHORTEST,
            "Dashboard::control: a token of {} bytes is not allowed, it has to have at least {SHORTEST}",
            token.len()
        );
        self.token = Some(token);
        self
    }

    /// The routes of the page at `path`, such as `/stockade`, also with a slash at the end. Merge them with those of your
    /// own. (`Router::nest` would not answer the path with a slash.)
    ///
    /// # Panics
    ///
    /// If the path is empty or `/`: there the [`Router`] itself is merged.
    #[track_caller]
    pub fn at<S: Clone + Send + Sync + 'static>(self, path: &str) -> Router<S> {
        Router::new().nest_service(path, Router::<()>::from(self))
    }

    /// Allows requests from pages of this origin too, such as `https://ops.example`: for a proxy in front that changes
    /// the header `Host`.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }
}

/// Without the token.
impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("metrics", &self.metrics)
            .field("control", &self.token.is_some())
            .field("origins", &self.origins)
            .finish()
    }
}

/// The routes of the page, to be nested anywhere.
impl<S: Clone + Send + Sync + 'static> From<Dashboard> for Router<S> {
    fn from(dashboard: Dashboard) -> Self {
        let Dashboard { metrics, token, origins } = dashboard;
        let guard = token.map(|token| Guard::new(token, origins));
        let hub = Arc::new(Hub::new(metrics, guard.is_some()));
        Router::new()
            .route("/", get(page))
            .route("/events", get(events))
            .route("/control", post(control::control))
            .with_state(Arc::new(Shared { hub, guard }))
    }
}

async fn page() -> Response {
    let html = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    ([html], HEADERS, PAGE).into_response()
}

async fn events(State(shared): State<Arc<Shared>>) -> Response {
    let Some(stream) = shared.hub.watch() else {
        let later = (header::RETRY_AFTER, "5");
        let full = format!("{MAX_STREAMS} browsers look already\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [later], full).into_response();
    };
    let events = (header::CONTENT_TYPE, "text/event-stream");
    // What proxies must not wait for more of.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    ([events, unbuffered], HEADERS, Body::from_stream(stream)).into_response()
}
