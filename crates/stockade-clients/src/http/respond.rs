//! Refusals as answers, for all requests of a server.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use pin_project_lite::pin_project;
use stockade_core::{LayerError, Rejected};
use tower_layer::Layer;
use tower_service::Service;

use super::refusal::Answers;

/// Makes every refusal of the layers inside an answer, so that no error is left: axum takes a stack under it as it is.
///
/// The answers are those of [`refusal`](super::refusal()), whose table is on the [module's](super) page. An error of the
/// service itself becomes a 500 that says nothing about it: log it inside.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use stockade_clients::http::RespondLayer;
/// use stockade_core::Error;
/// use stockade_limit::LimitLayer;
/// use tower::ServiceBuilder;
///
/// let app: Router = Router::new().route("/", get("hello")).layer(
///     ServiceBuilder::new()
///         .layer(RespondLayer::new())
///         .layer(LimitLayer::new(64).queue(0))
///         .map_err(Error::Service),
/// );
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RespondLayer {
    answers: Answers,
}

/// Answers what the layers inside refuse; made by [`RespondLayer`].
///
/// - `poll_ready` is that of the service inside. If that fails, the next call is answered with that error.
/// - `call` passes the request on.
/// - A clone is not ready.
#[derive(Debug)]
pub struct Respond<S, A = Answers> {
    inner: S,
    answers: A,
    failed: Option<Failed>,
}

stockade_core::accessors!(Respond<S, A>);

/// How refusals are answered: as HTTP says it, or as gRPC does. It is public so that bounds can name it.
pub trait AnswerRefusal<T>: Clone {
    /// The answer to a refusal; to any other error if there is none.
    #[doc(hidden)]
    fn answer(&self, refusal: Option<&Rejected>) -> T;
}

/// What `poll_ready` failed with: the refusal, if it was one.
type Failed = Option<Rejected>;

pin_project! {
    /// The answer of a [`Respond`], which is never an error.
    pub struct RespondFuture<F, A = Answers> {
        #[pin]
        inner: Option<F>,
        answers: A,
        failed: Failed,
    }
}

// === impl RespondLayer ===

impl RespondLayer {
    /// With a `Retry-After` of [`DEFAULT_RETRY_AFTER`](super::DEFAULT_RETRY_AFTER) where the layer names no time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// When to come back where the layer that refused does not know: whole seconds, rounded up.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.answers.retry_after = after;
        self
    }

    /// Tells clients that are over their rate what it is: `n` requests in the time `per`, in `RateLimit-Limit` and
    /// `RateLimit-Policy`.
    #[must_use]
    pub const fn quota(mut self, n: u32, per: Duration) -> Self {
        self.answers.quota = Some((n, per));
        self
    }
}

impl<S> Layer<S> for RespondLayer {
    type Service = Respond<S>;

    fn layer(&self, inner: S) -> Respond<S> {
        Respond::new(inner, self.answers)
    }
}

impl<B: From<&'static str>> AnswerRefusal<Response<B>> for Answers {
    fn answer(&self, refusal: Option<&Rejected>) -> Response<B> {
        self.respond(refusal)
    }
}

// === impl Respond ===

impl<S, A> Respond<S, A> {
    pub(crate) const fn new(inner: S, answers: A) -> Self {
        Self { inner, answers, failed: None }
    }
}

impl<S, A, Req> Service<Req> for Respond<S, A>
where
    S: Service<Req>,
    S::Error: LayerError,
    A: AnswerRefusal<S::Response>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = RespondFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.failed.is_none()
            && let Err(error) = ready!(self.inner.poll_ready(cx))
        {
            self.failed = Some(error.rejected().copied());
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let (inner, failed) = match self.failed.take() {
            Some(failed) => (None, failed),
            None => (Some(self.inner.call(request)), None),
        };
        RespondFuture { inner, answers: self.answers.clone(), failed }
    }
}

impl<S: Clone, A: Clone> Clone for Respond<S, A> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.answers.clone())
    }
}

// === impl RespondFuture ===

impl<F, A, T, E> Future for RespondFuture<F, A>
where
    F: Future<Output = Result<T, E>>,
    E: LayerError,
    A: AnswerRefusal<T>,
{
    type Output = Result<T, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.inner.as_pin_mut() {
            Some(inner) => match ready!(inner.poll(cx)) {
                Ok(response) => response,
                Err(error) => this.answers.answer(error.rejected()),
            },
            None => this.answers.answer(this.failed.as_ref()),
        };
        Poll::Ready(Ok(answer))
    }
}

impl<F, A> fmt::Debug for RespondFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::{Router, body::Body, routing::get};
    use http::Request;
    use stockade_core::{Error, Reason};
    use stockade_limit::LimitLayer;
    use stockade_timeout::TimeoutLayer;
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    use super::*;
    use crate::http::refusal;

    const SECOND: Duration = Duration::from_secs(1);

    fn app(layer: RespondLayer) -> Router {
        let stack = ServiceBuilder::new()
            .layer(layer)
            .layer(TimeoutLayer::new(SECOND))
            .layer(LimitLayer::new(1).queue(0))
            .map_err(Error::Service);
        let slow = async || tokio::time::sleep(60 * SECOND).await;
        Router::new().route("/", get("hello")).route("/slow", get(slow)).layer(stack)
    }

    async fn ask(app: &Router, path: &str) -> Response<Body> {
        app.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn axum_takes_the_stack_as_it_is_and_clients_get_answers() {
        let app = app(RespondLayer::new());
        assert_eq!(ask(&app, "/").await.status(), 200);
        let (slow, refused) = tokio::join!(ask(&app, "/slow"), ask(&app, "/"));
        assert_eq!((slow.status().as_u16(), refused.status().as_u16()), (504, 503));
        assert_eq!(refused.headers()["retry-after"], "1");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_to_come_back_can_be_set() {
        let app = app(RespondLayer::new().retry_after(Duration::from_millis(4_200)));
        let (_, refused) = tokio::join!(ask(&app, "/slow"), ask(&app, "/"));
        assert_eq!(refused.headers()["retry-after"], "5");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_does_not_get_ready_is_an_answer_too() {
        struct NotReady;
        impl Service<()> for NotReady {
            type Response = Response<String>;
            type Error = Error<io::Error>;
            type Future = std::future::Pending<Result<Response<String>, Error<io::Error>>>;
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
                Poll::Ready(Err(Rejected::new(&"breaker", Reason::BreakerOpen).into()))
            }
            fn call(&mut self, (): ()) -> Self::Future {
                panic!("it is not ready")
            }
        }
        let mut svc = RespondLayer::new().layer(NotReady);
        let answer = svc.ready().await.unwrap().call(()).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (503, "circuit open"));
    }

    #[tokio::test]
    async fn of_each_reason_the_refusal_of_a_layer_inside_is_the_answer_of_the_table() {
        for reason in Reason::ALL {
            let rejected = Rejected::new(&"any", reason).with_retry_after(3 * SECOND);
            let refuse = async |()| Err::<Response<String>, _>(Error::<io::Error>::from(rejected));
            let stack = ServiceBuilder::new().layer(RespondLayer::new());
            let answer = stack.service_fn(refuse).oneshot(()).await.unwrap();
            let expected: Response<String> = refusal(&Error::<io::Error>::from(rejected));
            assert_eq!(answer.status(), expected.status());
            assert_eq!((answer.headers(), answer.body()), (expected.headers(), expected.body()));
        }
    }

    #[tokio::test]
    async fn an_error_of_the_service_is_a_500_that_does_not_tell_it() {
        let failing = async |()| Err::<Response<String>, _>(io::Error::other("hunter2"));
        let stack = ServiceBuilder::new().layer(RespondLayer::new()).map_err(Error::Service);
        let answer = stack.service(service_fn(failing)).oneshot(()).await.unwrap();
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.body(), "internal server error");
    }
}
