//! The layer that reads a server's quotas into rate limits.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, StatusCode};
use pin_project_lite::pin_project;
use stockade_rate::RateHandle;
use tower_layer::Layer;
use tower_service::Service;

use super::{Estimate, NoCost, QuotaHeaders, Settle, Settled, headers::Told};
use crate::{
    MAX_RETRY_AFTER,
    http::{Answer, DEFAULT_RETRY_AFTER, retry_after},
};

/// Has rate limits learn from the answers of the server: its quotas, what is left of them, and when to come back.
///
/// The rate limits are layers outside of this one, one for each quota: requests a minute and tokens a minute, say. This
/// layer takes their handles. It limits nothing by itself. Put it inside the retry, so that it sees each answer.
///
/// | the answer says | the rate limit |
/// |---|---|
/// | a limit that is not its own | has that limit from now on, in the period that is told, or else its own |
/// | that less remains than it has | takes the difference: somebody else draws on the quota, too |
/// | that nothing remains of a [window](QuotaHeaders::window) | pauses until the reset |
/// | `Retry-After` | pauses for so long |
/// | 429 without it | pauses until the reset, or for a second if that is not told or has passed |
/// | its real cost | takes what was charged too little, or gives back what was charged too much |
///
/// A pause is for the quotas of which nothing remains, and for all if the answer does not say which. It is at most
/// [`MAX_RETRY_AFTER`]. Set no burst on rates that learn: it stays, whatever limit is learned.
///
/// # Example
///
/// A language model behind a service of one's own that asks for completions:
///
/// ```
/// use std::time::Duration;
/// use http::{Request, Response};
/// use stockade_clients::http::{QuotaHeaders, QuotaLayer};
/// use stockade_core::Error;
/// use stockade_rate::RateLayer;
/// use tower::ServiceBuilder;
///
/// /// The most tokens that a request may cost.
/// fn most(request: &Request<String>) -> u32 {
///     request.body().len() as u32 / 4 + 1_000
/// }
///
/// /// What the answer says that it has cost.
/// fn used(response: &Response<String>) -> Option<u32> {
///     response.headers().get("x-tokens-used")?.to_str().ok()?.parse().ok()
/// }
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// let (requests, requests_handle) = RateLayer::new(500, MINUTE).with_handle();
/// let (tokens, tokens_handle) = RateLayer::new(30_000, MINUTE).cost(most).with_handle();
/// let client = ServiceBuilder::new()
///     .layer(requests)
///     .layer(tokens)
///     .layer(
///         QuotaLayer::new()
///             .learn(QuotaHeaders::of("requests"), requests_handle)
///             .learn(QuotaHeaders::of("tokens"), tokens_handle.clone())
///             .settle(tokens_handle, most, used),
///     )
///     .map_err(Error::Service)
///     .service_fn(async |request: Request<String>| Ok::<_, std::io::Error>(Response::new(request.into_body())));
/// # fn check(_: &impl tower::Service<Request<String>>) {}
/// # check(&client);
/// ```
#[derive(Clone, Debug)]
pub struct QuotaLayer<C = NoCost> {
    learned: Vec<Learned>,
    cost: C,
}

/// Has rate limits learn from answers; made by [`QuotaLayer`].
///
/// - `poll_ready` and `call` are those of the service inside.
/// - A clone is not ready.
#[derive(Clone, Debug)]
pub struct Quota<S, C = NoCost> {
    inner: S,
    learned: Arc<[Learned]>,
    cost: C,
}

stockade_core::accessors!(Quota<S, C>);

/// A rate limit, and where the server tells its quota.
#[derive(Clone, Debug)]
struct Learned {
    headers: QuotaHeaders,
    rate: RateHandle,
}

pin_project! {
    /// The response future of a [`Quota`].
    pub struct QuotaFuture<F, C> {
        #[pin]
        inner: F,
        learned: Arc<[Learned]>,
        cost: C,
        estimate: u32,
    }
}

// === impl QuotaLayer ===

impl QuotaLayer {
    /// Has no rate limit learn anything yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { learned: Vec::new(), cost: NoCost }
    }
}

impl Default for QuotaLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> QuotaLayer<C> {
    /// Has the rate limit behind `rate` learn from the quota that the server tells in these headers.
    #[must_use]
    pub fn learn(mut self, headers: QuotaHeaders, rate: RateHandle) -> Self {
        self.learned.push(Learned { headers, rate });
        self
    }

    /// Charges the rate limit behind `rate` the real cost of a call, once its answer says what it is. `estimate` is what
    /// was charged before: give `RateLayer::cost` the same function. Without an `actual` cost the estimate stays.
    ///
    /// An answer that streams says only at its end what it has cost. Give the difference to
    /// [`RateHandle::settle`](stockade_rate::RateHandle::settle) there, without this.
    #[must_use]
    pub fn settle<Req, T, E, A>(
        self,
        rate: RateHandle,
        estimate: E,
        actual: A,
    ) -> QuotaLayer<Settled<E, A>>
    where
        E: Fn(&Req) -> u32,
        A: Fn(&T) -> Option<u32>,
    {
        QuotaLayer { learned: self.learned, cost: Settled { rate, estimate, actual } }
    }
}

impl<S, C: Clone> Layer<S> for QuotaLayer<C> {
    type Service = Quota<S, C>;

    fn layer(&self, inner: S) -> Quota<S, C> {
        Quota { inner, learned: self.learned.clone().into(), cost: self.cost.clone() }
    }
}

// === impl Quota ===

impl<S, C, Req> Service<Req> for Quota<S, C>
where
    S: Service<Req, Response: Answer>,
    C: Estimate<Req> + Settle<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = QuotaFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let estimate = self.cost.estimate(&request);
        let (learned, cost) = (Arc::clone(&self.learned), self.cost.clone());
        QuotaFuture { inner: self.inner.call(request), learned, cost, estimate }
    }
}

// === impl QuotaFuture ===

impl<F, C, T, E> Future for QuotaFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    T: Answer,
    C: Settle<T>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        if let Ok(answer) = &answer {
            this.cost.settle(*this.estimate, answer);
            learn(this.learned, answer.status(), answer.headers());
        }
        Poll::Ready(answer)
    }
}

impl<F, C> fmt::Debug for QuotaFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaFuture").field("estimate", &self.estimate).finish_non_exhaustive()
    }
}

// === impl Learned ===

fn learn(all: &[Learned], status: StatusCode, headers: &HeaderMap) {
    let told = || all.iter().map(|learned| (learned, learned.headers.read(headers)));
    let hint = retry_after(headers, SystemTime::now());
    let is_refused = status == StatusCode::TOO_MANY_REQUESTS || hint.is_some();
    let is_known = told().any(|(_, told)| told.remaining == Some(0));
    for (learned, told) in told() {
        learned.adopt(&told);
        if is_refused && (!is_known || told.remaining == Some(0)) {
            let reset = told.reset.filter(|reset| !reset.is_zero());
            learned.pause(hint.or(reset).unwrap_or(DEFAULT_RETRY_AFTER));
        } else if let Some(pause) = told.pause {
            learned.pause(pause);
        }
    }
}

impl Learned {
    fn adopt(&self, told: &Told) {
        let own = self.rate.config();
        let limit = told.limit.filter(|limit| *limit > 0).unwrap_or(own.calls);
        let per = told.per.unwrap_or(own.per);
        if (limit, per) != (own.calls, own.per) {
            // A quota that a rate limit cannot have is not adopted.
            let _ = self.rate.set_rate(limit, per);
        }
        if let Some(remaining) = told.remaining {
            let more = self.rate.available().saturating_sub(remaining);
            if more > 0 {
                self.rate.settle(more.into());
            }
        }
    }

    fn pause(&self, pause: Duration) {
        self.rate.penalize(pause.min(MAX_RETRY_AFTER));
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use http::{Request, Response};
    use stockade_rate::RateLayer;
    use tokio::time::Instant;
    use tower::{ServiceBuilder, ServiceExt};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    type Headers<'a> = &'a [(&'a str, &'a str)];

    /// An answer of a server.
    fn answer(status: u16, headers: Headers<'_>) -> Response<()> {
        let answer = Response::builder().status(status);
        let add = |answer: http::response::Builder, (name, value): &(&str, &str)| {
            answer.header(*name, *value)
        };
        headers.iter().fold(answer, add).body(()).unwrap()
    }

    /// Has a rate limit learn from one answer.
    async fn tell(layer: &QuotaLayer, answer: Response<()>) {
        let stack = ServiceBuilder::new().layer(layer.clone());
        let stack = stack.service_fn(async |answer| Ok::<_, Infallible>(answer));
        stack.oneshot(answer).await.unwrap();
    }

    /// What two rate limits, of 100 requests and 10,000 tokens a minute, have after an answer.
    async fn after(status: u16, headers: Headers<'_>) -> (RateHandle, RateHandle) {
        let (_, requests) = RateLayer::new(100, MINUTE).with_handle();
        let (_, tokens) = RateLayer::new(10_000, MINUTE).with_handle();
        let layer = QuotaLayer::new()
            .learn(QuotaHeaders::of("requests"), requests.clone())
            .learn(QuotaHeaders::of("tokens"), tokens.clone());
        tell(&layer, answer(status, headers)).await;
        (requests, tokens)
    }

    /// The time until there is a token.
    fn wait(rate: &RateHandle) -> Duration {
        rate.try_take(1).map_or_else(|no| no.retry_after().unwrap(), |()| Duration::ZERO)
    }

    #[tokio::test(start_paused = true)]
    async fn limits_are_adopted_each_from_its_own_headers() {
        let told = [("x-ratelimit-limit-requests", "40"), ("x-ratelimit-limit-tokens", "90000")];
        let (requests, tokens) = after(200, &told).await;
        assert_eq!((requests.config().calls, tokens.config().calls), (40, 90_000));
        assert_eq!(requests.available(), 40, "what does not fit is gone");
        let (requests, _) = after(200, &[("x-ratelimit-limit-requests", "40;w=1")]).await;
        assert_eq!((requests.config().calls, requests.config().per.as_secs()), (40, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_have_used_is_taken_and_what_seems_left_over_is_not_given() {
        let told =
            [("x-ratelimit-remaining-requests", "7"), ("x-ratelimit-remaining-tokens", "99999")];
        let (requests, tokens) = after(200, &told).await;
        assert_eq!((requests.available(), tokens.available()), (7, 10_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_pauses_what_nothing_remains_of_and_all_if_that_is_not_told() {
        let five = ("retry-after", "5");
        let (requests, tokens) = after(429, &[five]).await;
        assert_eq!((wait(&requests).as_secs(), wait(&tokens).as_secs()), (5, 5));
        let (requests, tokens) = after(429, &[five, ("x-ratelimit-remaining-tokens", "0")]).await;
        assert_eq!((wait(&requests).as_secs(), wait(&tokens).as_secs()), (0, 5));
        let (requests, _) = after(429, &[("x-ratelimit-reset-requests", "1m30s")]).await;
        assert_eq!(wait(&requests).as_secs(), 90);
        let (requests, _) = after(429, &[]).await;
        assert_eq!(wait(&requests).as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn limits_that_change_are_followed_up_and_down_and_what_was_used_stays_used() {
        let (_, rate) = RateLayer::new(100, MINUTE).with_handle();
        let layer = QuotaLayer::new().learn(QuotaHeaders::github(), rate.clone());
        rate.try_take(50).unwrap();
        for (limit, left) in [("60", 50), ("20", 20), ("1000", 20), ("1000", 20)] {
            tell(&layer, answer(200, &[("x-ratelimit-limit", limit)])).await;
            assert_eq!((rate.config().calls.to_string().as_str(), rate.available()), (limit, left));
        }
        // Of a thousand a minute.
        tokio::time::advance(MINUTE / 10).await;
        assert_eq!(rate.available(), 120);
        tell(&layer, answer(200, &[("x-ratelimit-remaining", "30")])).await;
        assert_eq!(rate.available(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_pauses_until_the_reset_as_each_server_tells_it() {
        let date = ("date", "Tue, 27 Jan 2026 02:30:00 GMT");
        let minute = "2026-01-27T02:31:00Z";
        for (headers, told) in [
            (QuotaHeaders::of("tokens"), ("x-ratelimit-reset-tokens", "1m0s")),
            (QuotaHeaders::anthropic("tokens"), ("anthropic-ratelimit-tokens-reset", minute)),
            (QuotaHeaders::github(), ("x-ratelimit-reset", "1769481060")),
            (QuotaHeaders::standard(), ("ratelimit-reset", "60")),
            (QuotaHeaders::standard(), ("ratelimit", "limit=9, remaining=0, reset=60")),
            (QuotaHeaders::standard(), ("ratelimit", r#""default";r=0;t=60"#)),
        ] {
            let (_, rate) = RateLayer::new(100, MINUTE).with_handle();
            let layer = QuotaLayer::new().learn(headers, rate.clone());
            tell(&layer, answer(429, &[date, told])).await;
            assert_eq!(wait(&rate), MINUTE, "{told:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_whose_reset_has_passed_does_not_have_callers_come_back_at_once() {
        let date = ("date", "Tue, 27 Jan 2026 02:30:00 GMT");
        for reset in ["0", "0s", "2026-01-27T02:30:00Z", "1769480999"] {
            let (requests, _) = after(429, &[date, ("x-ratelimit-reset-requests", reset)]).await;
            assert_eq!(wait(&requests), DEFAULT_RETRY_AFTER, "{reset}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_time_gets_it_but_not_for_ever() {
        let (requests, _) = after(503, &[("retry-after", "5")]).await;
        assert_eq!(wait(&requests).as_secs(), 5);
        let (requests, _) = after(429, &[("retry-after", "99999999999")]).await;
        assert_eq!(wait(&requests), MAX_RETRY_AFTER);
        let (requests, _) = after(500, &[]).await;
        assert_eq!(wait(&requests).as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hostile_answer_does_no_more_than_stop_a_rate_for_a_while() {
        let told = [("x-ratelimit-limit-requests", "0"), ("x-ratelimit-limit-tokens", "-5")];
        let (requests, tokens) = after(200, &told).await;
        assert_eq!((requests.config().calls, tokens.config().calls), (100, 10_000));
        let told = [("x-ratelimit-limit-requests", "99999999999;w=99999999999")];
        let (requests, _) = after(200, &told).await;
        assert_eq!(requests.config().calls, 100, "such a rate cannot be had");
    }

    #[tokio::test(start_paused = true)]
    async fn the_real_cost_is_charged_in_place_of_the_estimate() {
        for (actual, left) in [(Some(30), 9_970), (Some(250), 9_750), (None, 9_900)] {
            let estimate = |_: &Request<()>| 100;
            let (tokens, handle) = RateLayer::new(10_000, MINUTE).cost(estimate).with_handle();
            let used = |answer: &Response<Option<u32>>| *answer.body();
            let stack = ServiceBuilder::new()
                .layer(tokens)
                .layer(QuotaLayer::new().settle(handle.clone(), estimate, used))
                .map_err(stockade_core::Error::Service)
                .service_fn(move |_: Request<()>| {
                    std::future::ready(Ok::<_, Infallible>(Response::new(actual)))
                });
            stack.oneshot(Request::new(())).await.unwrap();
            assert_eq!(handle.available(), left);
        }
    }

    /// A server of two quotas, which counts what it refuses.
    struct Model {
        requests: RateHandle,
        tokens: RateHandle,
        refused: Cell<u32>,
        /// Whether its 429 says when to come back.
        hints: bool,
    }

    impl Model {
        fn new(hints: bool) -> Self {
            let (_, requests) = RateLayer::new(60, MINUTE).with_handle();
            let (_, tokens) = RateLayer::new(6_000, MINUTE).with_handle();
            Self { requests, tokens, refused: Cell::new(0), hints }
        }

        /// The body is what it has cost.
        fn answer(&self, cost: u32) -> Response<u32> {
            let is_enough = self.tokens.available() >= cost && self.requests.try_take(1).is_ok();
            if is_enough {
                self.tokens.try_take(cost).unwrap();
            } else {
                self.refused.set(self.refused.get() + 1);
            }
            let answer = Response::builder()
                .status(if is_enough { 200 } else { 429 })
                .header("x-ratelimit-limit-requests", self.requests.config().calls)
                .header("x-ratelimit-limit-tokens", self.tokens.config().calls)
                .header("x-ratelimit-remaining-requests", self.requests.available())
                .header("x-ratelimit-remaining-tokens", self.tokens.available());
            let hint = self.hints && !is_enough;
            let answer = if hint { answer.header("retry-after", 2) } else { answer };
            answer.body(cost).unwrap()
        }
    }

    /// A client that has been told far too much is refused a few times, and then asks as often as it may, also once the
    /// server allows half as much.
    #[tokio::test(start_paused = true)]
    async fn quotas_of_requests_and_of_tokens_are_kept_to_together_also_when_they_change() {
        for hints in [true, false] {
            let model = Model::new(hints);
            let (requests, requests_left) = RateLayer::new(10_000, MINUTE).with_handle();
            let most = |_: &Request<u32>| 150;
            let (tokens, tokens_left) = RateLayer::new(1_000_000, MINUTE).cost(most).with_handle();
            let quota = QuotaLayer::new()
                .learn(QuotaHeaders::of("requests"), requests_left)
                .learn(QuotaHeaders::of("tokens"), tokens_left.clone())
                .settle(tokens_left, most, |answer: &Response<u32>| Some(*answer.body()));
            let stack = ServiceBuilder::new()
                .layer(requests)
                .layer(tokens)
                .layer(quota)
                .map_err(stockade_core::Error::Service)
                .service_fn(async |request: Request<u32>| {
                    Ok::<_, Infallible>(model.answer(*request.body()))
                });
            // How many are answered in five minutes, and how many are refused.
            let ask = async || {
                let (start, before) = (Instant::now(), model.refused.get());
                let (mut served, mut cost) = (0, 50);
                while start.elapsed() < 5 * MINUTE {
                    cost = 50 + (cost * 7 + 13) % 100;
                    let answer = stack.clone().oneshot(Request::new(cost)).await.unwrap();
                    served += u32::from(answer.status() == 200);
                }
                (served, model.refused.get() - before)
            };
            let (served, refused) = ask().await;
            assert!(served > 250 && refused <= 3, "hints {hints}: {served} and {refused}");
            model.requests.set_rate(30, MINUTE).unwrap();
            model.tokens.set_rate(3_000, MINUTE).unwrap();
            let (served, refused) = ask().await;
            assert!(served > 125 && refused <= 3, "hints {hints}: {served} and {refused}");
        }
    }
}
