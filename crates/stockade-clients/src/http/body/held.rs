//! A body that keeps something, such as a permit, until it has ended.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A body that keeps a permit until it has ended, has failed, or is dropped; made by [`hold_body`] and
    /// [`hold_body_until`].
    pub struct HeldBody<B, P, F = Release> {
        #[pin]
        body: B,
        held: Option<(P, F)>,
    }
}

/// What is done with a permit once its body has ended or failed: [`Release`], or a closure.
///
/// It is public so that bounds can name it.
pub trait BodyEnd<P, E> {
    /// The body has ended, or has failed with this error.
    #[doc(hidden)]
    fn ended(self, held: P, end: Result<(), &E>);
}

/// The permit is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Release;

/// Keeps `permit` until the body of `response` has ended or is dropped. For `LimitLayer::hold`.
///
/// Without it a call has ended, and its place is free, when the headers of its answer are there. A body that is empty
/// keeps nothing.
///
/// In a server a client that does not read keeps the permit for as long as its connection is open. A
/// [`BodyTimeoutLayer`](crate::http::BodyTimeoutLayer) outside of the limit bounds that.
///
/// # Example
///
/// ```
/// use axum::body::Body;
/// use http::{Request, Response};
/// use stockade_clients::http::hold_body;
/// use stockade_core::Error;
/// use stockade_limit::LimitLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (limit, handle) = LimitLayer::new(8).hold(hold_body).with_handle();
/// let stack = ServiceBuilder::new()
///     .layer(limit)
///     .map_err(Error::Service)
///     .service_fn(async |_: Request<Body>| Ok::<_, std::io::Error>(Response::new(Body::from("a story"))));
/// let answer = stack.oneshot(Request::default()).await.unwrap();
/// assert_eq!(handle.in_flight(), 1, "it has not been read");
/// drop(answer);
/// assert_eq!(handle.in_flight(), 0);
/// # }
/// ```
pub fn hold_body<B: Body, P>(response: Response<B>, permit: P) -> Response<HeldBody<B, P>> {
    response.map(|body| HeldBody::new(body, permit, Release))
}

/// Keeps `permit` until the body of `response` has ended, and then gives it to `end`, with the error if the body has
/// failed. If the body is dropped, so is the permit, and `end` is not called. The status in the trailers of a gRPC stream is no
/// error of the body.
///
/// A breaker has judged the call when the headers are there, and sees nothing of a body that breaks. With a guard of its
/// handle for the body it does. Such a call counts twice then, as a success and as a failure: where every body breaks, half of
/// what the breaker counts has failed. By default it opens for that. `consecutive` above 1 does not see it.
///
/// ```
/// use axum::body::Body;
/// use http::Response;
/// use stockade_breaker::BreakerLayer;
/// use stockade_clients::http::{Http, hold_body_until};
/// use stockade_limit::LimitLayer;
///
/// let (breaker, handle) = BreakerLayer::new().classify(Http::new()).with_handle();
/// let limit = LimitLayer::new(8).hold(move |response: Response<Body>, permit| {
///     let counted = handle.admit().ok();
///     hold_body_until(response, (permit, counted), |(_permit, counted), end| match (counted, end) {
///         (Some(counted), Ok(())) => counted.ignore(), // the call has counted as a success
///         (Some(counted), Err(_)) => counted.failure(),
///         (None, _) => {}
///     })
/// });
/// # drop((breaker, limit));
/// ```
pub fn hold_body_until<B, P, F>(
    response: Response<B>,
    permit: P,
    end: F,
) -> Response<HeldBody<B, P, F>>
where
    B: Body,
    F: FnOnce(P, Result<(), &B::Error>),
{
    response.map(|body| HeldBody::new(body, permit, end))
}

fn release<P, F: BodyEnd<P, E>, E>(held: &mut Option<(P, F)>, end: Result<(), &E>) {
    if let Some((permit, ended)) = held.take() {
        ended.ended(permit, end);
    }
}

// === impl BodyEnd ===

impl<P, E> BodyEnd<P, E> for Release {
    fn ended(self, _: P, _: Result<(), &E>) {}
}

impl<P, E, F> BodyEnd<P, E> for F
where
    F: FnOnce(P, Result<(), &E>),
{
    fn ended(self, held: P, end: Result<(), &E>) {
        self(held, end);
    }
}

// === impl HeldBody ===

impl<B, P, F> HeldBody<B, P, F>
where
    B: Body,
    F: BodyEnd<P, B::Error>,
{
    fn new(body: B, permit: P, end: F) -> Self {
        let mut held = Some((permit, end));
        if body.is_end_stream() {
            release(&mut held, Ok(()));
        }
        Self { body, held }
    }
}

impl<B, P, F> Body for HeldBody<B, P, F>
where
    B: Body,
    F: BodyEnd<P, B::Error>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(_)) if !this.body.is_end_stream() => {}
            Some(Err(error)) => release(this.held, Err(error)),
            _ => release(this.held, Ok(())),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A text that keeps nothing, as the answer to a refusal is.
impl<B: From<&'static str>, P, F> From<&'static str> for HeldBody<B, P, F> {
    fn from(text: &'static str) -> Self {
        Self { body: text.into(), held: None }
    }
}

/// An empty body that keeps nothing.
impl<B: Default, P, F> Default for HeldBody<B, P, F> {
    fn default() -> Self {
        Self { body: B::default(), held: None }
    }
}

impl<B: fmt::Debug, P, F> fmt::Debug for HeldBody<B, P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldBody")
            .field("body", &self.body)
            .field("held", &self.held.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use axum::body::Body as AxumBody;
    use futures_util::stream;
    use http_body_util::BodyExt;
    use stockade_breaker::{BreakerLayer, State};
    use stockade_core::Error;
    use stockade_limit::LimitLayer;
    use tower::{Service, ServiceBuilder, ServiceExt};

    use super::*;

    /// Two pieces and, if so, an error.
    fn story(fails: bool) -> AxumBody {
        let end = fails.then(|| Err(io::Error::other("cut")));
        AxumBody::from_stream(stream::iter([Ok("once "), Ok("upon")].into_iter().chain(end)))
    }

    #[tokio::test]
    async fn the_permit_is_free_when_the_body_has_ended_or_failed() {
        for fails in [false, true] {
            let permit = Arc::new(());
            let mut body = hold_body(Response::new(story(fails)), Arc::clone(&permit)).into_body();
            for _ in 0..2 {
                body.frame().await.unwrap().unwrap();
                assert_eq!(Arc::strong_count(&permit), 2);
            }
            assert_eq!(body.frame().await.is_some_and(|end| end.is_err()), fails);
            assert_eq!(Arc::strong_count(&permit), 1, "the body is there, and keeps nothing");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_or_empty_keeps_nothing() {
        let permit = Arc::new(());
        let mut body = hold_body(Response::new(story(false)), Arc::clone(&permit)).into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(Arc::strong_count(&permit), 1);
        let empty = hold_body(Response::new(AxumBody::empty()), Arc::clone(&permit));
        assert_eq!(Arc::strong_count(&permit), 1);
        drop(empty);
    }

    #[tokio::test]
    async fn how_a_body_ended_is_told_once_and_never_of_one_that_was_dropped() {
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        for (fails, frames) in [(false, 9), (true, 9), (false, 1)] {
            let told = Arc::clone(&told);
            let end = move |(), end: Result<(), &axum::Error>| {
                told.lock().unwrap().push(end.map_err(ToString::to_string));
            };
            let mut body = hold_body_until(Response::new(story(fails)), (), end).into_body();
            for _ in 0..frames {
                let _ = body.frame().await;
            }
        }
        assert_eq!(*told.lock().unwrap(), [Ok(()), Err("cut".to_owned())]);
    }

    #[tokio::test]
    async fn a_body_that_breaks_opens_the_breaker_whose_calls_all_had_good_headers() {
        let (breaker, handle) = BreakerLayer::new().consecutive(1).with_handle();
        let counted = handle.clone();
        let limit = LimitLayer::new(8).hold(move |response, permit| {
            let held = (permit, counted.admit().ok());
            hold_body_until(response, held, |(_, counted), end: Result<(), &axum::Error>| {
                match (counted, end) {
                    (Some(counted), Ok(())) => counted.ignore(),
                    (Some(counted), Err(_)) => counted.failure(),
                    (None, _) => {}
                }
            })
        });
        let mut stack = ServiceBuilder::new()
            .layer(breaker)
            .layer(limit)
            .map_err(Error::Service)
            .service_fn(async |fails| Ok::<_, io::Error>(Response::new(story(fails))));
        for (fails, after) in [(false, State::Closed), (true, State::Open)] {
            let answer = stack.ready().await.unwrap().call(fails).await.unwrap();
            assert_eq!(handle.state(), State::Closed);
            assert_eq!(answer.into_body().collect().await.is_err(), fails);
            assert_eq!(handle.state(), after);
        }
    }
}
