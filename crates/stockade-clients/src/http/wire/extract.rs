//! In: the deadline and the priority of a request, for all that its handler does.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, HeaderName, Request};
use pin_project_lite::pin_project;
use stockade_core::{
    LayerError, Reason, Rejected,
    config::{MAX_DURATION, MIN_DURATION, allow},
    deadline::{self, Deadline},
    internal::{Cold, Timer},
    priority::{self, Priority},
};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{priority as wire_priority, time::TimeHeader};
use crate::http::last_turn::LastTurn;

/// Reads how much time the caller has left, and how much the call matters, and holds the handler to it.
///
/// For servers of axum and tonic, right under `RespondLayer`. The time becomes the [deadline](stockade_core::deadline),
/// and the priority the ambient [priority](stockade_core::priority), of all that the handler does: its own calls have
/// what is left. Neither goes along into a task that the handler spawns, unless [`carry`](stockade_core::carry()) takes
/// them there.
///
/// - A request with no time left, or less than [`min`](Self::min), is refused at once with [`Expired`](Reason::Expired):
///   the handler is not called.
/// - When the time is up the handler is dropped, and the answer is [`Elapsed`](Reason::Elapsed). So no `TimeoutLayer` is
///   needed beside it.
/// - A client gets no more time than `max`, whatever it asks for, and has `max` if it asks for none. What is
///   negative or no number counts as none. Where the header is there twice, the shortest time counts.
/// - A client gets no priority above [`max_priority`](Self::max_priority), whether it claims one or none. Where the header
///   is there twice, the lowest priority counts.
///
/// The time counts from when the request comes to this layer. On a busy server a task for the request may have to wait for
/// its turn: if the time is up when it comes, the handler is not started. A request that waits in front of this layer, or a
/// body that streams after the handler has answered, is not covered.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use stockade_clients::http::{ExtractLayer, RespondLayer};
/// use stockade_core::Error;
/// use tower::ServiceBuilder;
///
/// let app: Router = Router::new().route("/", get("hello")).layer(
///     ServiceBuilder::new()
///         .layer(RespondLayer::new())
///         .layer(ExtractLayer::new(Duration::from_secs(10)))
///         .map_err(Error::Service),
/// );
/// ```
#[derive(Clone, Debug)]
pub struct ExtractLayer {
    rules: Rules,
}

/// Holds handlers to the deadline and the priority of their requests; made by [`ExtractLayer`].
///
/// - `poll_ready` is that of the service inside.
/// - `call` reads the headers, and calls the service inside unless too little time is left.
/// - A clone is not ready.
#[derive(Clone, Debug)]
pub struct Extract<S> {
    inner: S,
    rules: Rules,
}

stockade_core::accessors!(Extract<S>);

#[derive(Clone, Debug)]
struct Rules {
    min: Duration,
    max: Duration,
    max_priority: Priority,
    time: TimeHeader,
    priority: HeaderName,
}

pin_project! {
    /// The response future of an [`Extract`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call inside, and leaves no timer behind.
    pub struct ExtractFuture<F> {
        // None for a call that was refused, or whose time is up.
        #[pin]
        inner: Option<F>,
        limit: Duration,
        until: Instant,
        priority: Priority,
        // From the first pending poll on.
        timer: Cold<Timer>,
        last_turn: LastTurn,
    }
}

// === impl ExtractLayer ===

impl ExtractLayer {
    /// A request may take `max`, and less if `x-request-timeout-ms` says so. It has the priority that
    /// `x-request-priority` says, at most [`Priority::Default`].
    ///
    /// # Panics
    ///
    /// If `max` is not from a nanosecond to ten years.
    #[must_use]
    #[track_caller]
    pub fn new(max: Duration) -> Self {
        let rules = Rules {
            min: MIN_DURATION,
            max: allow("ExtractLayer::new", max, MIN_DURATION..=MAX_DURATION),
            max_priority: Priority::Default,
            time: TimeHeader::request_timeout(),
            priority: HeaderName::from_static(wire_priority::HEADER),
        };
        Self { rules }
    }

    /// The same with `grpc-timeout`: for gRPC.
    ///
    /// A server of tonic reads that header by itself, too, outside of all layers, and ends the call with `CANCELLED`. Right
    /// under `RespondLayer` this layer is asked first, so the answer is `DEADLINE_EXCEEDED`. tonic alone is not enough: it
    /// allows any time, and neither the handler nor its own calls know of it.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    #[track_caller]
    pub fn grpc(max: Duration) -> Self {
        Self::new(max).time_header(TimeHeader::grpc())
    }

    /// Refuses a request that leaves less time than `min` at once, with [`Expired`](Reason::Expired); by default only one
    /// that leaves none.
    ///
    /// Set it to the least time that the handler needs. A caller that allows less gets nothing of use, but its calls time out in
    /// the clients of the handler: their breakers count that against the servers behind, and open for all callers. A request
    /// without the header is not refused, whatever `max` is.
    ///
    /// # Panics
    ///
    /// If `min` is not from a nanosecond to ten years.
    #[must_use]
    #[track_caller]
    pub fn min(mut self, min: Duration) -> Self {
        self.rules.min = allow("ExtractLayer::min", min, MIN_DURATION..=MAX_DURATION);
        self
    }

    /// The header for the time that is left.
    #[must_use]
    pub fn time_header(mut self, header: TimeHeader) -> Self {
        self.rules.time = header;
        self
    }

    /// The header for the priority.
    #[must_use]
    pub fn priority_header(mut self, name: HeaderName) -> Self {
        self.rules.priority = name;
        self
    }

    /// The highest priority that a client may have; by default [`Priority::Default`]. Behind a gateway that sets the
    /// header itself, [`Priority::Critical`] trusts it. Below `Default` it also holds for a client that claims none.
    #[must_use]
    pub const fn max_priority(mut self, max: Priority) -> Self {
        self.rules.max_priority = max;
        self
    }
}

impl<S> Layer<S> for ExtractLayer {
    type Service = Extract<S>;

    fn layer(&self, inner: S) -> Extract<S> {
        Extract { inner, rules: self.rules.clone() }
    }
}

// === impl Extract ===

impl<S, B> Service<Request<B>> for Extract<S>
where
    S: Service<Request<B>>,
    S::Error: LayerError,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ExtractFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let rules = &self.rules;
        let asked = rules.time.read(request.headers());
        let limit = asked.map_or(rules.max, |asked| asked.min(rules.max));
        let priority = rules.priority_of(request.headers());
        let until = deadline::saturating_add(Instant::now(), limit);
        let enough = asked.is_none_or(|asked| asked >= rules.min);
        let inner = enough.then(|| {
            let _priority = priority.scope();
            Deadline::At(until).enter(|| self.inner.call(request))
        });
        let (timer, last_turn) = (Cold::none(), LastTurn::default());
        ExtractFuture { inner, limit, until, priority, timer, last_turn }
    }
}

// === impl Rules ===

impl Rules {
    /// The priority that a request claims. Without a claim it is the one that a layer outside has given it, or the default.
    fn priority_of(&self, headers: &HeaderMap) -> Priority {
        match (wire_priority::read(headers, &self.priority), priority::current()) {
            (None, given) if given > Priority::Default => given,
            (claimed, given) => claimed.unwrap_or(given).min(self.max_priority),
        }
    }
}

// === impl ExtractFuture ===

impl<F, T, E> Future for ExtractFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: LayerError,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let is_late = this.timer.is_taken() && *this.until <= Instant::now();
        let inner = if is_late { None } else { this.inner.as_mut().as_pin_mut() };
        let Some(inner) = inner else {
            this.inner.set(None);
            return Poll::Ready(Err(Rejected::new(&"extract", Reason::Expired).into_error()));
        };
        this.last_turn.begins();
        let polled = {
            let _priority = this.priority.scope();
            Deadline::At(*this.until).enter(|| inner.poll(cx))
        };
        if polled.is_ready() {
            this.timer.take();
            return polled;
        }
        let Some(timer) = this.timer.get_mut() else {
            this.timer.put(Timer::register(*this.until, cx));
            return Poll::Pending;
        };
        // A timer outside, as tonic has one for the same header, may wake the task before this one does.
        if timer.poll(cx).is_pending() && Instant::now() < *this.until {
            return Poll::Pending;
        }
        ready!(this.last_turn.poll(cx));
        this.inner.set(None);
        let elapsed = Rejected::new(&"extract", Reason::Elapsed).with_limit(*this.limit);
        Poll::Ready(Err(elapsed.into_error()))
    }
}

impl<F> fmt::Debug for ExtractFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtractFuture")
            .field("limit", &self.limit)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use stockade_breaker::{BreakerLayer, State};
    use stockade_core::{Error, priority::scope};
    use stockade_timeout::TimeoutLayer;
    use tower::{ServiceBuilder, ServiceExt};

    use super::*;
    use crate::http::InjectLayer;

    const SECOND: Duration = Duration::from_secs(1);

    type Seen = (Option<Duration>, Priority);

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let add = |request: http::request::Builder, (name, value): &(&str, &str)| {
            request.header(*name, *value)
        };
        headers.iter().fold(Request::builder(), add).body(()).unwrap()
    }

    /// What the handler sees at its second poll.
    async fn seen(
        layer: ExtractLayer,
        headers: &[(&str, &str)],
    ) -> Result<Seen, Error<Infallible>> {
        let handler = async |_: Request<()>| {
            tokio::task::yield_now().await;
            let left = deadline::current().map(|deadline| deadline - Instant::now());
            Ok::<_, Infallible>((left, priority::current()))
        };
        let stack = ServiceBuilder::new().layer(layer).map_err(Error::Service);
        stack.service_fn(handler).oneshot(request(headers)).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_handler_has_the_time_and_the_priority_of_its_caller() {
        let told = [("x-request-timeout-ms", "200"), ("x-request-priority", "background")];
        let expected = (Some(SECOND / 5), Priority::Background);
        assert_eq!(seen(ExtractLayer::new(SECOND), &told).await.unwrap(), expected);
        let told = [("grpc-timeout", "200000u"), ("x-request-priority", " Background ")];
        assert_eq!(seen(ExtractLayer::grpc(SECOND), &told).await.unwrap(), expected);
        let none = (Some(SECOND), Priority::Default);
        assert_eq!(seen(ExtractLayer::new(SECOND), &[]).await.unwrap(), none);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hostile_header_is_capped_by_what_the_server_allows() {
        let number = format!("1{}", "0".repeat(30));
        let too_large = u64::MAX.to_string();
        for time in ["-1", "1e30", &number, &too_large, "nonsense", "", "1000000", "9.9"] {
            let told = [("x-request-timeout-ms", time), ("x-request-priority", "critical")];
            let seen = seen(ExtractLayer::new(SECOND), &told).await.unwrap();
            assert_eq!(seen, (Some(SECOND), Priority::Default), "{time}");
        }
        let told = [("x-request-priority", "critical")];
        let trusting = ExtractLayer::new(SECOND).max_priority(Priority::Critical);
        assert_eq!(seen(trusting, &told).await.unwrap().1, Priority::Critical);
        let strict = ExtractLayer::new(SECOND).max_priority(Priority::Background);
        assert_eq!(seen(strict, &told).await.unwrap().1, Priority::Background);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_headers_the_shortest_time_and_the_lowest_priority_count() {
        let [long, short] = [("x-request-timeout-ms", "900"), ("x-request-timeout-ms", "100")];
        let [high, low] = ["default", "background"].map(|name| ("x-request-priority", name));
        let expected = (Some(SECOND / 10), Priority::Background);
        for told in [[long, short, high, low], [short, long, low, high]] {
            assert_eq!(seen(ExtractLayer::new(SECOND), &told).await.unwrap(), expected);
        }
        let told = [("x-request-timeout-ms", "soon"), short];
        assert_eq!(seen(ExtractLayer::new(SECOND), &told).await.unwrap().0, Some(SECOND / 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_claims_no_priority_has_none_above_the_highest() {
        let strict = ExtractLayer::new(SECOND).max_priority(Priority::Background);
        for told in [&[][..], &[("x-request-priority", "urgent")]] {
            assert_eq!(seen(strict.clone(), told).await.unwrap().1, Priority::Background);
            // What the server itself has said outside stays.
            let given = scope(Priority::Critical, seen(strict.clone(), told));
            assert_eq!(given.await.unwrap().1, Priority::Critical);
        }
        let claims = [("x-request-priority", "critical")];
        let given = scope(Priority::Critical, seen(strict, &claims));
        assert_eq!(given.await.unwrap().1, Priority::Background);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_gets_its_turn_too_late_is_not_started() {
        let never = async |_: Request<()>| -> Result<(), Infallible> { panic!("it is too late") };
        let layer = ExtractLayer::new(SECOND);
        let mut stack =
            ServiceBuilder::new().layer(layer).map_err(Error::Service).service_fn(never);
        let call = stack.ready().await.unwrap().call(request(&[("x-request-timeout-ms", "200")]));
        // As a task for the request that waits behind others.
        tokio::time::advance(SECOND / 5).await;
        assert_eq!(call.await.unwrap_err().rejected().unwrap().reason(), Reason::Expired);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_outside_holds() {
        let outside = Instant::now() + SECOND / 2;
        let seen = seen(ExtractLayer::new(SECOND), &[]);
        assert_eq!(deadline::scope(Some(outside), seen).await.unwrap().0, Some(SECOND / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_another_timer_wakes_at_that_instant_is_answered_here() {
        let hangs = async |_: Request<()>| std::future::pending::<Result<(), Infallible>>().await;
        let layer = ExtractLayer::new(SECOND);
        let mut stack =
            ServiceBuilder::new().layer(layer).map_err(Error::Service).service_fn(hangs);
        let mut call = tokio_test::task::spawn(stack.ready().await.unwrap().call(request(&[])));
        assert!(call.poll().is_pending());
        // The clock is moved without a turn of the runtime.
        let _ = tokio_test::task::spawn(tokio::time::advance(SECOND)).poll();
        let Poll::Ready(Err(error)) = call.poll() else { panic!("its time is up") };
        assert_eq!(error.rejected().unwrap().reason(), Reason::Elapsed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_without_cooperative_budget_has_one_more_turn() {
        let sleepy = async |_: Request<()>| {
            tokio::time::sleep(SECOND / 2).await;
            Ok::<_, Infallible>(())
        };
        let layer = ExtractLayer::new(SECOND);
        let mut stack =
            ServiceBuilder::new().layer(layer).map_err(Error::Service).service_fn(sleepy);
        let mut call = tokio_test::task::spawn(stack.ready().await.unwrap().call(request(&[])));
        assert!(call.poll().is_pending());
        tokio::time::sleep(2 * SECOND).await;
        std::future::poll_fn(|cx| {
            while let Poll::Ready(budget) = tokio::task::coop::poll_proceed(cx) {
                budget.made_progress();
            }
            assert!(call.poll().is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(call.is_woken());
        tokio::task::yield_now().await;
        assert!(matches!(call.poll(), Poll::Ready(Ok(()))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_has_expired_on_the_way_never_reaches_the_handler() {
        let never = async |_: Request<()>| -> Result<(), Infallible> { panic!("it has expired") };
        let layer = ExtractLayer::new(SECOND);
        let stack = ServiceBuilder::new().layer(layer).map_err(Error::Service).service_fn(never);
        let request = request(&[("x-request-timeout-ms", "0")]);
        let error = stack.oneshot(request).await.unwrap_err();
        assert_eq!(error.to_string(), "extract: deadline expired");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_leaves_less_than_the_least_time_is_refused_at_once() {
        let layer = ExtractLayer::new(SECOND).min(SECOND / 10);
        let start = Instant::now();
        for too_short in ["0", "1", "99"] {
            let told = [("x-request-timeout-ms", too_short)];
            let error = seen(layer.clone(), &told).await.unwrap_err();
            assert_eq!(error.rejected().unwrap().reason(), Reason::Expired, "{too_short}");
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let told = [("x-request-timeout-ms", "100")];
        assert_eq!(seen(layer.clone(), &told).await.unwrap().0, Some(SECOND / 10));
        assert_eq!(seen(layer, &[]).await.unwrap().0, Some(SECOND));
        let short = ExtractLayer::new(SECOND / 20).min(SECOND / 10);
        assert_eq!(seen(short.clone(), &[]).await.unwrap().0, Some(SECOND / 20));
        assert_eq!(seen(short, &told).await.unwrap().0, Some(SECOND / 20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_for_too_little_does_not_open_the_breaker_of_the_handler() {
        for (layer, state) in [
            (ExtractLayer::new(SECOND), State::Open),
            (ExtractLayer::new(SECOND).min(SECOND / 10), State::Closed),
        ] {
            let (breaker, handle) = BreakerLayer::new().consecutive(3).with_handle();
            let behind = ServiceBuilder::new()
                .layer(breaker)
                .layer(TimeoutLayer::new(SECOND / 2))
                .map_err(Error::Service)
                .service_fn(async |_: Request<()>| {
                    tokio::time::sleep(SECOND / 10).await;
                    Ok::<_, Infallible>(())
                });
            let stack = ServiceBuilder::new().layer(layer).service(behind);
            for _ in 0..5 {
                let hasty = request(&[("x-request-timeout-ms", "50")]);
                assert!(stack.clone().oneshot(hasty).await.is_err());
            }
            assert_eq!(handle.state(), state);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_whose_time_is_up_is_dropped() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let handler = move |_: Request<()>| {
            let held = Arc::clone(&held);
            async move {
                tokio::time::sleep(60 * SECOND).await;
                drop(held);
                Ok::<_, Infallible>(())
            }
        };
        let layer = ExtractLayer::new(SECOND);
        let mut stack =
            ServiceBuilder::new().layer(layer).map_err(Error::Service).service_fn(handler);
        let start = Instant::now();
        let request = request(&[("x-request-timeout-ms", "200")]);
        let mut call = std::pin::pin!(stack.ready().await.unwrap().call(request));
        let error = call.as_mut().await.unwrap_err();
        assert_eq!(error.to_string(), "extract: timed out after 200ms");
        assert_eq!(Arc::strong_count(&alive), 2, "one is the service's");
        assert!(start.elapsed() < SECOND / 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_of_the_handler_tells_what_is_left_also_from_a_task_that_carries_it() {
        let behind =
            ServiceBuilder::new().layer(InjectLayer::new()).map_err(Error::Service).service_fn(
                async |request: Request<()>| Ok::<_, Infallible>(request.headers().clone()),
            );
        let handler = move |_: Request<()>| {
            let behind = behind.clone();
            async move {
                tokio::time::sleep(SECOND / 10).await;
                let call = behind.oneshot(request(&[]));
                Ok::<_, Infallible>(tokio::spawn(stockade_core::carry(call)).await.unwrap())
            }
        };
        let layer = ExtractLayer::new(SECOND);
        let stack = ServiceBuilder::new().layer(layer).map_err(Error::Service);
        let told = [("x-request-timeout-ms", "200"), ("x-request-priority", "sheddable")];
        let sent = stack.service_fn(handler).oneshot(request(&told)).await.unwrap().unwrap();
        // Tokio's sleep ends in the millisecond after its time.
        let left: u64 = sent["x-request-timeout-ms"].to_str().unwrap().parse().unwrap();
        assert!((93..=95).contains(&left), "{left}");
        assert_eq!(sent["x-request-priority"], "sheddable");
    }

    /// Two processes: each has its own runtime, and clocks that are an hour apart.
    #[test]
    fn clocks_that_are_an_hour_apart_change_nothing() {
        let process = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_time().start_paused(true).build().unwrap()
        };
        let (caller, server) = (process(), process());
        server.block_on(tokio::time::advance(3_600 * SECOND));
        let told = caller.block_on(async {
            let echo = async |request: Request<()>| Ok::<_, Infallible>(request);
            let stack = ServiceBuilder::new().layer(InjectLayer::new()).map_err(Error::Service);
            let call = stack.service_fn(echo).oneshot(request(&[]));
            deadline::scope(Some(Instant::now() + SECOND / 5), call).await.unwrap()
        });
        let told = told.headers()["x-request-timeout-ms"].to_str().unwrap();
        assert_eq!(told, "195");
        let headers = [("x-request-timeout-ms", told)];
        let seen = server.block_on(seen(ExtractLayer::new(SECOND), &headers)).unwrap();
        assert_eq!(seen.0, Some(Duration::from_millis(195)));
    }
}
