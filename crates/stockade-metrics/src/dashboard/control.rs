//! What may be changed on the page, and who may do it.

use std::{fmt, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::{Shared, hub::Hub};
use crate::family::Order;

/// Who may change something.
pub(crate) struct Guard {
    token: String,
    /// Beside the one that the request was sent to.
    origins: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug)]
struct Refused(StatusCode, String);

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    kind: String,
    name: String,
    /// `None`: let go of what is held.
    order: Option<Order>,
}

/// The longest request: a name and some words.
const LONGEST: usize = 16 * 1_024;

/// Answers `POST /control`.
pub(super) async fn control(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    match carry_out(&shared, request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(Refused(status, why)) => (status, why).into_response(),
    }
}

async fn carry_out(shared: &Shared, request: Request<Body>) -> Result<(), Refused> {
    let (head, body) = request.into_parts();
    let guard = shared.guard.as_ref().ok_or_else(|| {
        Refused(StatusCode::NOT_FOUND, "nothing can be changed here: control is off".to_owned())
    })?;
    guard.check(&head.uri, &head.headers)?;
    let body = to_bytes(body, LONGEST).await;
    let body = body.map_err(|_| bad(format!("a request has at most {LONGEST} bytes")))?;
    Wanted::read(&body).map_err(bad)?.carry_out(&shared.hub)
}

fn bad(why: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, why.into())
}

// === impl Guard ===

impl Guard {
    pub(crate) const fn new(token: String, origins: Vec<String>) -> Self {
        Self { token, origins }
    }

    /// Another origin first: such a page is told nothing about tokens.
    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or("?");
            if !self.is_own(origin, uri, headers) {
                let why = format!("a page of another origin, {origin}, may change nothing here");
                return Err(Refused(StatusCode::FORBIDDEN, why));
            }
        }
        let given = headers.get(header::AUTHORIZATION).map(|given| given.as_bytes());
        let Some(token) = given.and_then(|given| given.strip_prefix(b"Bearer ")) else {
            return Err(Refused(StatusCode::UNAUTHORIZED, "the token is missing".to_owned()));
        };
        // How long the token is may be learnt, and nothing else.
        if bool::from(token.ct_eq(self.token.as_bytes())) {
            Ok(())
        } else {
            Err(Refused(StatusCode::UNAUTHORIZED, "this is not the token".to_owned()))
        }
    }

    fn is_own(&self, origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
        let of_origin = origin.split_once("://").map(|(_, host)| host);
        (host.is_some() && of_origin == host) || self.origins.iter().any(|own| own == origin)
    }
}

/// Without the token.
impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("origins", &self.origins).finish_non_exhaustive()
    }
}

// === impl Wanted ===

impl Wanted {
    fn read(body: &[u8]) -> Result<Self, String> {
        let json: Value =
            serde_json::from_slice(body).map_err(|error| format!("this is no JSON: {error}"))?;
        let text = |field: &str| {
            let text = json[field].as_str().map(str::to_owned);
            text.ok_or_else(|| format!("`{field}` is missing, or no text"))
        };
        let order = match text("order")?.as_str() {
            "force_open" => Some(Order::ForceOpen),
            "release" => None,
            "pause" => Some(Order::Pause),
            "resume" => Some(Order::Resume),
            "change" => {
                let to =
                    json["to"].as_u64().ok_or("`to` is missing, or no whole number from 0 up")?;
                Some(Order::Change(to))
            }
            other => return Err(format!("there is no order {other:?}")),
        };
        Ok(Self { kind: text("kind")?, name: text("name")?, order })
    }

    fn carry_out(self, hub: &Hub) -> Result<(), Refused> {
        let Self { kind, name, order } = self;
        let Some(order) = order else {
            let held = hub.let_go(&kind, &name);
            return held
                .map(drop)
                .ok_or_else(|| bad(format!("the {kind} {name:?} is not held open from here")));
        };
        let action = hub.metrics().order(&kind, &name, order).ok_or_else(|| {
            Refused(StatusCode::NOT_FOUND, format!("there is no {kind} {name:?}"))
        })?;
        let action = action.ok_or_else(|| bad(format!("no {kind} can do that")))?;
        if let Some(held) =
            action().map_err(|why| Refused(StatusCode::UNPROCESSABLE_ENTITY, why))?
        {
            drop(hub.hold(&kind, &name, held));
        }
        Ok(())
    }
}
