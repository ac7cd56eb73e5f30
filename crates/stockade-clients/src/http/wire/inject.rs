//! Out: the deadline and the priority of a call, written onto its request.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, Request};
use pin_project_lite::pin_project;
use stockade_core::{LayerError, Reason, Rejected, deadline, priority};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{priority as wire_priority, time::TimeHeader};

/// Writes the time that is left until the [deadline](stockade_core::deadline), and the [priority](stockade_core::priority),
/// into headers of each request, for the server to keep to.
///
/// It takes requests of `http` (hyper, a tonic `Channel`, any other), of reqwest, and of tonic around a generated
/// client. Put it inside the retry, right above the `map_err` over the client: each attempt then sends the time left by then.
///
/// - A call without a deadline gets no header for it, and one with the default priority none for that: it then reads no
///   clock and allocates nothing. A priority that was there goes, so a server's handler passes on no more than its own.
/// - The header has the time that is left less a [margin](Self::margin) for the way, rounded down. If nothing is left then, the
///   call is refused with [`Expired`](Reason::Expired), and nothing is sent.
/// - That is the time when the call is made. If the client inside takes time to connect, or has the request wait in a queue of
///   its own, the server does not know: it may work for that much longer, unless it learns that the caller has gone.
/// - If the request has the header already, as from `tonic::Request::set_timeout`, the shorter time counts.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_clients::http::InjectLayer;
/// use stockade_core::Error;
/// use stockade_timeout::TimeoutLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// type Request = http::Request<String>;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let client = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_millis(200)))
///     .layer(InjectLayer::new())
///     .map_err(Error::Service)
///     .service_fn(async |request: Request| {
///         Ok::<_, std::io::Error>(request.headers()["x-request-timeout-ms"].clone())
///     });
/// let told = client.oneshot(Request::default()).await.unwrap();
/// assert_eq!(told, "195");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct InjectLayer {
    headers: Headers,
}

/// Writes deadline and priority onto requests; made by [`InjectLayer`].
///
/// - `poll_ready` is that of the service inside.
/// - `call` writes the headers and passes the request on, or refuses it.
/// - A clone is not ready.
#[derive(Clone, Debug)]
pub struct Inject<S> {
    inner: S,
    headers: Headers,
}

stockade_core::accessors!(Inject<S>);

/// A request that has headers for what travels with it.
///
/// Implement it for a request type of your own to have [`InjectLayer`] write onto it.
pub trait Carrier {
    /// Its headers.
    fn headers_mut(&mut self) -> &mut HeaderMap;
}

#[derive(Clone, Debug)]
struct Headers {
    time: TimeHeader,
    priority: Option<HeaderName>,
    margin: Duration,
}

pin_project! {
    /// The response future of an [`Inject`].
    pub struct InjectFuture<F> {
        // None for a call that was refused.
        #[pin]
        inner: Option<F>,
    }
}

// === impl InjectLayer ===

impl InjectLayer {
    /// Writes `x-request-timeout-ms` and `x-request-priority`, with a margin of 5 ms.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_time(TimeHeader::request_timeout())
    }

    /// Writes `grpc-timeout` and `x-request-priority`, with a margin of 5 ms: for gRPC.
    ///
    /// A `Channel` of tonic reads that header, too. It gives up a call when the time in the header is over, which is the margin
    /// before the deadline, and says `CANCELLED`. `grpc::into_status` passes that on as
    /// `DEADLINE_EXCEEDED`.
    #[must_use]
    pub const fn grpc() -> Self {
        Self::with_time(TimeHeader::grpc())
    }

    const fn with_time(time: TimeHeader) -> Self {
        let priority = Some(HeaderName::from_static(wire_priority::HEADER));
        Self { headers: Headers { time, priority, margin: Duration::from_millis(5) } }
    }

    /// The header for the time that is left.
    #[must_use]
    pub fn time_header(mut self, header: TimeHeader) -> Self {
        self.headers.time = header;
        self
    }

    /// The header for the priority.
    #[must_use]
    pub fn priority_header(mut self, name: HeaderName) -> Self {
        self.headers.priority = Some(name);
        self
    }

    /// Does not write the priority: for servers of others. One that is on the request already stays.
    #[must_use]
    pub fn without_priority(mut self) -> Self {
        self.headers.priority = None;
        self
    }

    /// What the way there and back takes (default 5 ms). The server has so much less time, so that its answer, which may
    /// be that time was up, is here before the deadline.
    #[must_use]
    pub const fn margin(mut self, margin: Duration) -> Self {
        self.headers.margin = margin;
        self
    }
}

impl Default for InjectLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for InjectLayer {
    type Service = Inject<S>;

    fn layer(&self, inner: S) -> Inject<S> {
        Inject { inner, headers: self.headers.clone() }
    }
}

// === impl Headers ===

impl Headers {
    /// Whether there is time left to tell.
    fn write(&self, request: &mut impl Carrier) -> bool {
        if let Some(name) = &self.priority {
            let priority = priority::current();
            wire_priority::write(request.headers_mut(), name, priority);
        }
        let Some(deadline) = deadline::current() else { return true };
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(self.margin);
        let Some(value) = self.time.value(left) else { return false };
        let headers = request.headers_mut();
        if self.time.read(headers).is_none_or(|told| left < told) {
            headers.insert(self.time.name(), value);
        }
        true
    }
}

// === impl Inject ===

impl<S, Req> Service<Req> for Inject<S>
where
    S: Service<Req>,
    S::Error: LayerError,
    Req: Carrier,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = InjectFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Req) -> Self::Future {
        let has_time = self.headers.write(&mut request);
        InjectFuture { inner: has_time.then(|| self.inner.call(request)) }
    }
}

// === impl Carrier ===

impl<B> Carrier for Request<B> {
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }
}

#[cfg(feature = "reqwest")]
impl Carrier for reqwest::Request {
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }
}

#[cfg(feature = "tonic")]
impl<T> Carrier for tonic::Request<T> {
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.metadata_mut().as_mut()
    }
}

// === impl InjectFuture ===

impl<F, T, E> Future for InjectFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: LayerError,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => inner.poll(cx),
            None => Poll::Ready(Err(Rejected::new(&"inject", Reason::Expired).into_error())),
        }
    }
}

impl<F> fmt::Debug for InjectFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InjectFuture").field("refused", &self.inner.is_none()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use stockade_core::{
        Error,
        deadline::Deadline,
        priority::{Priority, scope},
    };
    use tower::{ServiceBuilder, ServiceExt};

    use super::*;
    use crate::http::Unit;

    const PRIORITY: &str = "x-request-priority";

    /// The headers as they are sent.
    async fn sent(layer: InjectLayer, request: Request<()>) -> Result<HeaderMap, Error<io::Error>> {
        let echo = async |request: Request<()>| Ok::<_, io::Error>(request.headers().clone());
        let stack = ServiceBuilder::new().layer(layer).map_err(Error::Service);
        stack.service_fn(echo).oneshot(request).await
    }

    async fn sent_within(
        millis: u64,
        layer: InjectLayer,
        request: Request<()>,
    ) -> Result<HeaderMap, Error<io::Error>> {
        let deadline = Instant::now() + Duration::from_millis(millis);
        deadline::scope(Some(deadline), sent(layer, request)).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_is_left_is_told_in_the_header_that_was_chosen() {
        let grpc = sent_within(200, InjectLayer::grpc(), Request::default()).await.unwrap();
        assert_eq!(grpc["grpc-timeout"], "195000u");
        let envoy = InjectLayer::new().time_header(TimeHeader::envoy()).margin(Duration::ZERO);
        let envoy = sent_within(200, envoy, Request::default()).await.unwrap();
        assert_eq!(envoy["x-envoy-expected-rq-timeout-ms"], "200");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_and_with_the_default_priority_nothing_is_written() {
        assert_eq!(sent(InjectLayer::new(), Request::default()).await.unwrap().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_time_left_is_not_sent() {
        for millis in [0, 1, 5] {
            let error = sent_within(millis, InjectLayer::new(), Request::default()).await;
            assert_eq!(error.unwrap_err().to_string(), "inject: deadline expired");
        }
        assert!(sent_within(6, InjectLayer::new(), Request::default()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_time_that_is_told_already_stays() {
        for (own, told) in [("100", "100"), ("900", "195"), ("nonsense", "195")] {
            let request = Request::builder().header("x-request-timeout-ms", own).body(()).unwrap();
            let headers = sent_within(200, InjectLayer::new(), request).await.unwrap();
            assert_eq!(headers["x-request-timeout-ms"], told);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_attempt_tells_what_is_left_by_then_and_none_is_made_without_time() {
        let told = std::sync::Mutex::new(Vec::new());
        let stack = ServiceBuilder::new()
            .layer(stockade_retry::RetryLayer::max_attempts(9))
            .layer(InjectLayer::new())
            .map_err(Error::Service)
            .service_fn(async |request: Request<()>| {
                let left = request.headers()["x-request-timeout-ms"].to_str().unwrap();
                told.lock().unwrap().push(left.parse::<u64>().unwrap());
                tokio::time::sleep(Duration::from_millis(60)).await;
                Err::<(), _>(io::Error::other("no"))
            });
        let until = Instant::now() + Duration::from_millis(200);
        assert!(deadline::scope(Some(until), stack.oneshot(Request::default())).await.is_err());
        let told = told.into_inner().unwrap();
        assert!(told[0] == 195 && told.len() > 1, "{told:?}");
        assert!(told.windows(2).all(|pair| pair[1] + 60 <= pair[0]), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_header_that_is_there_twice_one_with_the_time_left_remains() {
        let request = Request::builder().header("x-request-timeout-ms", "900");
        let request = request.header("x-request-timeout-ms", "800").body(()).unwrap();
        let headers = sent_within(200, InjectLayer::new(), request).await.unwrap();
        assert!(headers.get_all("x-request-timeout-ms").iter().eq(["195"]));
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_coarse_unit_a_call_with_less_than_one_left_is_not_sent() {
        let seconds = TimeHeader::new(HeaderName::from_static("x-timeout"), Unit::Seconds);
        let layer = InjectLayer::new().time_header(seconds);
        let error = sent_within(999, layer.clone(), Request::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "inject: deadline expired");
        let headers = sent_within(2_004, layer, Request::default()).await.unwrap();
        assert_eq!(headers["x-timeout"], "1", "less 5 ms for the way");
    }

    #[cfg(feature = "tonic")]
    #[tokio::test(start_paused = true)]
    async fn a_time_that_was_set_on_a_request_of_tonic_stays_if_it_is_shorter() {
        let headers = InjectLayer::grpc().headers;
        for (own, told) in [(100, "100000u"), (900, "195000u")] {
            let mut request = tonic::Request::new(());
            request.set_timeout(Duration::from_millis(own));
            let mut deadline = Deadline::after(Duration::from_millis(200));
            assert!(deadline.enter(|| headers.write(&mut request)));
            assert_eq!(request.metadata().get("grpc-timeout").unwrap(), told);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_priority_is_told_unless_it_is_the_default() {
        let priority = async |priority| {
            let claimed = Request::builder().header(PRIORITY, "critical").body(()).unwrap();
            scope(priority, sent(InjectLayer::new(), claimed)).await.unwrap()
        };
        assert_eq!(priority(Priority::Background).await[PRIORITY], "background");
        assert!(!priority(Priority::Default).await.contains_key(PRIORITY));
        let silent = sent(InjectLayer::new().without_priority(), Request::default());
        assert_eq!(scope(Priority::Sheddable, silent).await.unwrap().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_all_clients_carry_it() {
        let mut deadline = Deadline::after(Duration::from_secs(2));
        let headers = InjectLayer::grpc().headers;
        let mut write = |request: &mut dyn FnMut() -> bool| assert!(deadline.enter(request));
        let mut request = Request::new(());
        write(&mut || headers.write(&mut request));
        assert_eq!(request.headers()["grpc-timeout"], "1995000u");
        #[cfg(feature = "tonic")]
        {
            let mut request = tonic::Request::new(());
            write(&mut || headers.write(&mut request));
            assert_eq!(request.metadata().get("grpc-timeout").unwrap(), "1995000u");
        }
        #[cfg(feature = "reqwest")]
        {
            let url = "http://host/".parse().unwrap();
            let mut request = reqwest::Request::new(reqwest::Method::GET, url);
            write(&mut || headers.write(&mut request));
            assert_eq!(request.headers()["grpc-timeout"], "1995000u");
        }
    }
}
