//! What is asked and what is answered, and the adapter between that and `reqwest`.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use reqwest::{Method, Request, Response, StatusCode, Url, header::RETRY_AFTER};
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
    /// Its number, under which the audit knows it.
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

/// The error of the whole stack.
pub(crate) type HttpError = Error<reqwest::Error>;

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

    fn request(&self, attempt: Attempt) -> Request {
        let mut url = Url::parse("http://localhost").expect("it is a URL");
        url.set_ip_host(self.server.ip()).expect("an http URL has a host");
        url.set_port(Some(self.server.port())).expect("an http URL has a port");
        url.set_path(&format!("/items/{}", attempt.get.id));
        let mut request = Request::new(Method::GET, url);
        request.headers_mut().insert(CALL, attempt.number.into());
        request
    }
}

impl<S> Service<Attempt> for Exchange<S>
where
    S: Service<Request, Response = Response, Error = reqwest::Error>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = reqwest::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, reqwest::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> Self::Future {
        let part = self.audit.send(attempt.number);
        let sent = self.client.call(self.request(attempt));
        Box::pin(async move {
            let response = sent.await?;
            let (status, retry_after) = (response.status(), retry_after(&response));
            let body = response.text().await?;
            drop(part);
            Ok(Answer { status, retry_after, body, number: attempt.number })
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

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
