//! Requests and answers, and the adapter between them and the HTTP client.

use std::{
    error::Error as StdError,
    fmt,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use stockade::{Class, Classify, DefaultClassify, Error};
use tower::Service;

use crate::{audit::Audit, server::CALL};

/// A request: the item to get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Get {
    pub(crate) id: u64,
}

/// One attempt at a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) get: Get,
    /// The audit knows it by this number.
    pub(crate) number: usize,
}

/// What the server answered, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: String,
    /// The number of the attempt that got it.
    pub(crate) number: usize,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// The request could not be sent, or nothing came back.
    Send(legacy::Error),
    /// The answer broke off.
    Read(hyper::Error),
}

/// The error of the whole stack.
pub(crate) type HttpError = Error<ExchangeError>;

/// Sends attempts through an HTTP client, and reads the answers to their end.
#[derive(Clone, Debug)]
pub(crate) struct Exchange<S> {
    client: S,
    server: SocketAddr,
    audit: Audit,
}

// === impl Exchange ===

impl<S> Exchange<S> {
    pub(crate) const fn new(client: S, server: SocketAddr, audit: Audit) -> Self {
        Self { client, server, audit }
    }

    fn request(&self, attempt: Attempt) -> Request<Empty<Bytes>> {
        let uri = format!("http://{}/items/{}", self.server, attempt.get.id);
        let request = Request::get(uri).header(CALL, attempt.number);
        request.body(Empty::new()).expect("an address and a number make a URI")
    }
}

impl<S> Service<Attempt> for Exchange<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<Incoming>, Error = legacy::Error>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = ExchangeError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, ExchangeError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        self.client.poll_ready(cx).map_err(ExchangeError::Send)
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        let part = self.audit.send(attempt.number);
        let sent = self.client.call(self.request(attempt));
        Box::pin(async move {
            let response = sent.await.map_err(ExchangeError::Send)?;
            let (status, retry_after) = (response.status(), retry_after(&response));
            let body = response.into_body().collect().await.map_err(ExchangeError::Read)?;
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            drop(part);
            Ok(Answer { status, retry_after, body, number: attempt.number })
        })
    }
}

// === impl ExchangeError ===

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(_) => "no answer came",
            Self::Read(_) => "the answer broke off",
        })
    }
}

impl StdError for ExchangeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(match self {
            Self::Send(error) => error,
            Self::Read(error) => error,
        })
    }
}

/// What an answer means to the retry layer and to the breaker.
pub(crate) fn judge(result: Result<&Answer, &HttpError>) -> Class {
    let Ok(answer) = result else { return DefaultClassify.classify(result) };
    match answer.status.as_u16() {
        429 | 503 => Class::Overload { after: answer.retry_after, processed: true },
        500.. => Class::Transient { after: answer.retry_after },
        400.. => Class::Permanent,
        _ => Class::Success,
    }
}

fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
