//! A body that may take only so long.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use stockade_core::{
    Error, Reason, Rejected,
    config::{MAX_DURATION, MIN_DURATION, allow},
    deadline,
    internal::{Timer, lock},
};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::http::last_turn::LastTurn;

/// Bounds the time that bodies take, which a timeout around the call does not: that ends with the headers.
///
/// Around a client it bounds the answers that are read, around the handlers of a server those that are sent. A body whose
/// time is up ends with [`Elapsed`](Reason::Elapsed), as the error of the body, and what it comes from is dropped. A stream of
/// gRPC ends with the status `DEADLINE_EXCEEDED` in place of an error. By default nothing is bounded.
///
/// A server does not ask a body for its next part while its client reads nothing. The bounds [`whole`](Self::whole) and
/// [`by_deadline`](Self::by_deadline) also end such a body. So put this layer outside of a limit whose permits
/// [bodies keep](crate::http::hold_body): a client that has stopped reading keeps none of them for longer. A bounded body
/// costs two allocations and a timer.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use axum::body::{Body, to_bytes};
/// use http::{Request, Response};
/// use stockade_clients::http::BodyTimeoutLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let stack = ServiceBuilder::new()
///     .layer(BodyTimeoutLayer::new().between_frames(Duration::from_secs(5)))
///     .service_fn(async |_: Request<()>| {
///         let never = futures_util::stream::pending::<Result<&str, std::io::Error>>();
///         Ok::<_, std::io::Error>(Response::new(Body::from_stream(never)))
///     });
/// let answer = stack.oneshot(Request::new(())).await.unwrap();
/// assert!(to_bytes(Body::new(answer.into_body()), 100).await.is_err());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyTimeoutLayer {
    limits: Limits,
}

/// Bounds the time that bodies take; made by [`BodyTimeoutLayer`].
///
/// - `poll_ready` and `call` are those of the service inside.
/// - A clone is not ready.
#[derive(Clone, Copy, Debug)]
pub struct BodyTimeout<S> {
    inner: S,
    limits: Limits,
}

stockade_core::accessors!(BodyTimeout<S>);

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    between_frames: Option<Duration>,
    whole: Option<Duration>,
    by_deadline: bool,
}

pin_project! {
    /// The response future of a [`BodyTimeout`].
    pub struct BodyTimeoutFuture<F> {
        #[pin]
        inner: F,
        limits: Limits,
    }
}

/// A body that may take only so long; made by [`BodyTimeoutLayer`].
pub struct TimedBody<B> {
    shared: Arc<Shared<B>>,
    between_frames: Option<Duration>,
    /// There while a frame is waited for: wakes the reader.
    timer: Option<Timer>,
    /// There while the body as a whole is bounded: drops what it comes from.
    end: Option<Timer>,
    last_turn: LastTurn,
    /// Its trailers have a status.
    is_grpc: bool,
    has_ended: bool,
}

/// The body inside. It is dropped when its time is up, even if nobody asks for the next part.
///
/// It is boxed because it is taken out while it is polled: no foreign code runs under the lock.
#[derive(Debug)]
struct Shared<B> {
    until: Option<Instant>,
    /// None while it is polled, once its time is up, and once it has ended.
    body: Mutex<Option<Pin<Box<B>>>>,
}

// === impl BodyTimeoutLayer ===

impl BodyTimeoutLayer {
    /// Bounds nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The longest wait for the next part of a body. It counts only while somebody waits: a reader that takes its time
    /// is no fault of the body.
    ///
    /// # Panics
    ///
    /// If `limit` is not from a nanosecond to ten years.
    #[must_use]
    #[track_caller]
    pub fn between_frames(mut self, limit: Duration) -> Self {
        let limits = MIN_DURATION..=MAX_DURATION;
        self.limits.between_frames = Some(allow("BodyTimeoutLayer::between_frames", limit, limits));
        self
    }

    /// The longest time from the headers to the end of the body, also for a reader that takes its time, or has stopped.
    ///
    /// # Panics
    ///
    /// If `limit` is not from a nanosecond to ten years.
    #[must_use]
    #[track_caller]
    pub fn whole(mut self, limit: Duration) -> Self {
        let limits = MIN_DURATION..=MAX_DURATION;
        self.limits.whole = Some(allow("BodyTimeoutLayer::whole", limit, limits));
        self
    }

    /// Ends bodies at the [deadline](stockade_core::deadline) of their call, as gRPC does.
    #[must_use]
    pub const fn by_deadline(mut self) -> Self {
        self.limits.by_deadline = true;
        self
    }
}

impl<S> Layer<S> for BodyTimeoutLayer {
    type Service = BodyTimeout<S>;

    fn layer(&self, inner: S) -> BodyTimeout<S> {
        BodyTimeout { inner, limits: self.limits }
    }
}

// === impl BodyTimeout ===

impl<S, Req, B> Service<Req> for BodyTimeout<S>
where
    S: Service<Req, Response = Response<B>>,
    B: Body + Send + 'static,
{
    type Response = Response<TimedBody<B>>;
    type Error = S::Error;
    type Future = BodyTimeoutFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        BodyTimeoutFuture { inner: self.inner.call(request), limits: self.limits }
    }
}

// === impl BodyTimeoutFuture ===

impl<F, B, E> Future for BodyTimeoutFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body + Send + 'static,
{
    type Output = Result<Response<TimedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        Poll::Ready(answer.map(|response| {
            let is_grpc = is_grpc(response.headers());
            response.map(|body| TimedBody { is_grpc, ..this.limits.bound(body) })
        }))
    }
}

impl<F> fmt::Debug for BodyTimeoutFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyTimeoutFuture").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Whether it is a stream with a status in its trailers. `grpc-web` has that in the body.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.starts_with(b"application/grpc") && !kind.starts_with(b"application/grpc-web")
}

// === impl Limits ===

impl Limits {
    fn bound<B: Body + Send + 'static>(self, body: B) -> TimedBody<B> {
        let whole = self.whole.map(|whole| deadline::saturating_add(Instant::now(), whole));
        let deadline = if self.by_deadline { deadline::current() } else { None };
        let until = whole.into_iter().chain(deadline).min();
        let until = until.filter(|_| !body.is_end_stream());
        let mut timed = TimedBody::new(body, self.between_frames, until);
        timed.end = until.map(|until| {
            let waker = Waker::from(Arc::clone(&timed.shared));
            Timer::register(until, &mut Context::from_waker(&waker))
        });
        timed
    }
}

// === impl Shared ===

impl<B> Shared<B> {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    fn take(&self) -> Option<Pin<Box<B>>> {
        lock(&self.body).take()
    }

    /// It goes if its time has passed since it was taken.
    fn put_back(&self, body: Pin<Box<B>>) {
        if !self.is_over() {
            *lock(&self.body) = Some(body);
        }
    }

    /// Shows it to `f`, which is foreign and so not called under the lock.
    fn look<T>(&self, f: impl FnOnce(&B) -> T) -> Option<T> {
        let body = self.take()?;
        let seen = f(&body);
        self.put_back(body);
        Some(seen)
    }
}

impl<B: Send + 'static> Wake for Shared<B> {
    fn wake(self: Arc<Self>) {
        // A runtime that shuts down wakes before that.
        if self.is_over() {
            drop(self.take());
        }
    }
}

// === impl TimedBody ===

impl<B> TimedBody<B> {
    fn new(body: B, between_frames: Option<Duration>, until: Option<Instant>) -> Self {
        let shared = Arc::new(Shared { until, body: Mutex::new(Some(Box::pin(body))) });
        Self {
            shared,
            between_frames,
            timer: None,
            end: None,
            last_turn: LastTurn::default(),
            is_grpc: false,
            has_ended: false,
        }
    }

    /// Nothing comes any more.
    fn end(&mut self) {
        self.has_ended = true;
        (self.timer, self.end) = (None, None);
        drop(self.shared.take());
    }
}

impl<B: Body> Body for TimedBody<B> {
    type Data = B::Data;
    type Error = Error<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(None);
        }
        let body = if this.shared.is_over() { None } else { this.shared.take() };
        if let Some(mut body) = body {
            this.last_turn.begins();
            let polled = body.as_mut().poll_frame(cx);
            let is_last = body.is_end_stream();
            this.shared.put_back(body);
            if let Poll::Ready(frame) = polled {
                this.timer = None;
                this.last_turn = LastTurn::default();
                if is_last || !matches!(frame, Some(Ok(_))) {
                    this.end();
                }
                return Poll::Ready(frame.map(|frame| frame.map_err(Error::Service)));
            }
            let Some(timer) = &mut this.timer else {
                let wait = this.between_frames;
                let wait = wait.map(|wait| deadline::saturating_add(Instant::now(), wait));
                let first = wait.into_iter().chain(this.shared.until).min();
                this.timer = first.map(|first| Timer::register(first, cx));
                return Poll::Pending;
            };
            ready!(timer.poll(cx));
            ready!(this.last_turn.poll(cx));
        }
        this.end();
        let elapsed = Rejected::new(&"body", Reason::Elapsed);
        if !this.is_grpc {
            return Poll::Ready(Some(Err(elapsed.into_error())));
        }
        elapsed.tell();
        Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter([
            // `DEADLINE_EXCEEDED`
            (HeaderName::from_static("grpc-status"), HeaderValue::from_static("4")),
            (
                HeaderName::from_static("grpc-message"),
                HeaderValue::from_static(elapsed.reason().as_str()),
            ),
        ])))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.shared.look(Body::is_end_stream).unwrap_or(false)
    }

    fn size_hint(&self) -> SizeHint {
        if self.has_ended {
            return SizeHint::with_exact(0);
        }
        self.shared.look(Body::size_hint).unwrap_or_default()
    }
}

/// A text that may take any time, as the answer to a refusal.
impl<B: From<&'static str>> From<&'static str> for TimedBody<B> {
    fn from(text: &'static str) -> Self {
        Self::new(B::from(text), None, None)
    }
}

/// An empty body.
impl<B: Default> Default for TimedBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None, None)
    }
}

impl<B> fmt::Debug for TimedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedBody")
            .field("until", &self.shared.until)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body as AxumBody;
    use futures_util::{StreamExt, stream};
    use http_body_util::BodyExt;
    use tokio::time::sleep;
    use tower::{ServiceBuilder, ServiceExt};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Four parts, each after so long.
    async fn answer(layer: BodyTimeoutLayer, each: Duration) -> TimedBody<AxumBody> {
        let parts = stream::iter(["a", "b", "c", "d"]).then(move |part| async move {
            sleep(each).await;
            Ok::<_, Infallible>(part)
        });
        let body = AxumBody::from_stream(parts);
        let stack = ServiceBuilder::new()
            .layer(layer)
            .service_fn(async |body| Ok::<_, Infallible>(Response::new(body)));
        stack.oneshot(body).await.unwrap().into_body()
    }

    /// The parts that came, and whether all did.
    async fn read<B>(body: &mut TimedBody<B>) -> (usize, Option<String>)
    where
        B: Body<Error = axum::Error>,
    {
        let mut parts = 0;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(_) => parts += 1,
                Err(error) => return (parts, Some(error.to_string())),
            }
        }
        (parts, None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_in_time_is_whole() {
        let layer = BodyTimeoutLayer::new().between_frames(2 * SECOND).whole(5 * SECOND);
        assert_eq!(read(&mut answer(layer, SECOND).await).await, (4, None));
        let unbounded = BodyTimeoutLayer::new();
        assert_eq!(read(&mut answer(unbounded, 3_600 * SECOND).await).await, (4, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_takes_too_long_ends_the_body() {
        let layer = BodyTimeoutLayer::new().between_frames(SECOND);
        let (mut body, start) = (answer(layer, 2 * SECOND).await, Instant::now());
        assert_eq!(read(&mut body).await, (0, Some("body: timed out".into())));
        assert!(start.elapsed() < SECOND * 11 / 10);
        assert!(body.is_end_stream() && body.frame().await.is_none(), "and that was all");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_as_a_whole_that_takes_too_long_ends() {
        let layer = BodyTimeoutLayer::new().between_frames(2 * SECOND).whole(SECOND * 5 / 2);
        let mut body = answer(layer, SECOND).await;
        assert_eq!(read(&mut body).await, (2, Some("body: timed out".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_its_time_counts_for_the_whole_only() {
        let between = BodyTimeoutLayer::new().between_frames(SECOND);
        let mut body = answer(between, SECOND / 2).await;
        sleep(60 * SECOND).await;
        assert_eq!(read(&mut body).await, (4, None));
        let mut body = answer(between.whole(SECOND), SECOND / 2).await;
        sleep(60 * SECOND).await;
        assert_eq!(read(&mut body).await, (0, Some("body: timed out".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_reads_lets_go_of_what_it_holds_when_its_time_is_up() {
        use stockade_limit::LimitLayer;

        let (limit, handle) = LimitLayer::new(8).hold(crate::http::hold_body).with_handle();
        let stack = ServiceBuilder::new()
            .layer(BodyTimeoutLayer::new().whole(SECOND))
            .layer(limit)
            .map_err(Error::Service)
            .service_fn(async |text| Ok::<_, Infallible>(Response::new(AxumBody::from(text))));
        // One that is never asked for a part, and one that is asked no more.
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(stack.clone().oneshot("once upon a time").await.unwrap().into_body());
        }
        assert_eq!(handle.in_flight(), 2);
        sleep(SECOND * 11 / 10).await;
        assert_eq!(handle.in_flight(), 0);
        assert!(answers.iter().all(|body| !body.is_end_stream()), "it was not read to its end");
        for mut body in answers {
            assert_eq!(read(&mut body).await, (0, Some("body: timed out".into())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_was_read_to_its_end_in_time_ends_well_also_later() {
        let layer = BodyTimeoutLayer::new().whole(SECOND);
        let stack = ServiceBuilder::new()
            .layer(layer)
            .service_fn(async |text| Ok::<_, Infallible>(Response::new(AxumBody::from(text))));
        let mut body = stack.oneshot("once").await.unwrap().into_body();
        assert_eq!(body.size_hint().exact(), Some(4));
        assert!(body.frame().await.unwrap().is_ok() && body.is_end_stream());
        sleep(2 * SECOND).await;
        assert!(body.is_end_stream() && body.frame().await.is_none());
        assert_eq!(body.size_hint().exact(), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_there_is_not_late_because_its_task_has_no_cooperative_budget() {
        let layer = BodyTimeoutLayer::new().between_frames(SECOND);
        let mut body = answer(layer, SECOND / 2).await;
        let mut frame = tokio_test::task::spawn(body.frame());
        assert!(frame.poll().is_pending());
        sleep(2 * SECOND).await;
        std::future::poll_fn(|cx| {
            while let Poll::Ready(budget) = tokio::task::coop::poll_proceed(cx) {
                budget.made_progress();
            }
            assert!(frame.poll().is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(frame.is_woken());
        tokio::task::yield_now().await;
        assert!(matches!(frame.poll(), Poll::Ready(Some(Ok(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_ends_at_the_deadline_of_its_call_where_that_is_asked_for() {
        let until = Some(Instant::now() + SECOND * 5 / 2);
        let layer = BodyTimeoutLayer::new();
        for (layer, expected) in
            [(layer, (4, None)), (layer.by_deadline(), (2, Some("body: timed out".into())))]
        {
            let until = until.map(|until| until.max(Instant::now() + SECOND * 5 / 2));
            let mut body = deadline::scope(until, answer(layer, SECOND)).await;
            assert_eq!(read(&mut body).await, expected);
        }
    }
}
