//! A client of a language model that learns its quotas, of requests and of tokens, from the answers.
//!
//! The server allows 20 requests and 2,000 tokens a second, and says so in the headers that OpenAI has for it. The client
//! has been told far too much. Without learning it runs into the quotas again and again. With it, it asks as often as
//! it may; what it reserves for a request is the most that this may cost, and it gets back what was not used.

use std::{
    error::Error as StdError,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::future::join_all;
use stockade::rate::RateHandle;
use stockade::retry::{Backoff, Budget};
use stockade::{Error, RateLayer, RetryLayer};
use stockade_clients::http::{Http, QuotaHeaders, QuotaLayer};
use stockade_clients::reqwest::{clone_request, idempotent, read_to_end};
use tokio::{net::TcpListener, time::Instant};
use tower::{ServiceBuilder, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);
const REQUESTS: u32 = 20;
const TOKENS: u32 = 2_000;

/// How many requests the client has.
const ASKED: u32 = 60;

/// The most tokens that one may cost.
const MOST: u32 = 150;

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    println!("{ASKED} requests at {REQUESTS} and {TOKENS} tokens a second:");
    let blind = run(false).await?;
    let learning = run(true).await?;
    println!("  without learning {}", blind.report());
    println!("  with learning    {}", learning.report());
    for run in [&blind, &learning] {
        assert_eq!(run.answered, ASKED, "each was answered in the end");
        assert_eq!(run.served, u64::from(ASKED), "and served once");
        assert_eq!(run.used, run.spent, "both sides have counted the same tokens");
    }
    assert!(learning.refused < blind.refused, "who learns is refused less often");
    assert_eq!(learning.learned, (REQUESTS, TOKENS));
    Ok(())
}

/// What came of a run, as both sides have counted it.
struct Run {
    answered: u32,
    /// The tokens of the answers.
    used: u64,
    served: u64,
    refused: u64,
    /// The tokens that the server has charged.
    spent: u64,
    /// The limits that the client had in the end.
    learned: (u32, u32),
    took: Duration,
}

impl Run {
    fn report(&self) -> String {
        let Self { refused, used, took, .. } = self;
        format!("{refused:3} refused, {used} tokens used, {took:.1?}")
    }
}

async fn run(learns: bool) -> Result<Run, Box<dyn StdError>> {
    let model = Arc::new(Model::new());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let app = Router::new().route("/{prompt}", get(complete)).with_state(Arc::clone(&model));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    // What somebody has heard of the quotas.
    let (requests, requests_left) = RateLayer::new(1_000, SECOND).with_handle();
    let most = |_: &reqwest::Request| MOST;
    let (tokens, tokens_left) = RateLayer::new(100_000, SECOND).cost(most).with_handle();
    let mut quota = QuotaLayer::new();
    if learns {
        quota = quota
            .learn(QuotaHeaders::of("requests"), requests_left.clone())
            .learn(QuotaHeaders::of("tokens"), tokens_left.clone());
    }
    let retry = RetryLayer::max_attempts(100)
        .backoff(Backoff::constant(Duration::from_millis(50)))
        .budget(Budget::unlimited())
        .classify(Http::new())
        .idempotent(idempotent)
        .clone_request(clone_request);
    let client = reqwest::Client::builder()
        .no_proxy()
        .retry(reqwest::retry::never()) // the retry layer does that
        .redirect(reqwest::redirect::Policy::none()) // a redirected POST could be sent twice
        .build()?;
    let stack = ServiceBuilder::new()
        .layer(retry)
        .layer(requests)
        .layer(tokens)
        .layer(quota.settle(tokens_left.clone(), most, used))
        .map_err(Error::Service)
        .and_then(read_to_end) // the answer says what it has cost
        .service(client);

    let start = Instant::now();
    let ask = async |n: u32| {
        let request = reqwest::Request::new(reqwest::Method::GET, format!("{url}/{n}").parse()?);
        let answer = stack.clone().oneshot(request).await?;
        Ok::<_, Box<dyn StdError>>(used(&answer).unwrap_or_default())
    };
    let first = ask(0).await; // from which the others know
    let others = join_all((1..ASKED).map(&ask)).await;
    let took = start.elapsed();
    server.abort();

    let (mut answered, mut sum) = (0, 0);
    for tokens in others.into_iter().chain([first]) {
        answered += 1;
        sum += u64::from(tokens?);
    }
    let (served, refused, spent) = model.counts();
    let learned = (requests_left.config().calls, tokens_left.config().calls);
    Ok(Run { answered, used: sum, served, refused, spent, learned, took })
}

/// The tokens that an answer has cost, if it is one.
fn used(answer: &http::Response<Bytes>) -> Option<u32> {
    let text = str::from_utf8(answer.body()).ok()?;
    text.strip_prefix("total_tokens: ")?.parse().ok()
}

/// The server, which counts.
struct Model {
    requests: RateHandle,
    tokens: RateHandle,
    served: AtomicU64,
    refused: AtomicU64,
    spent: AtomicU64,
}

impl Model {
    fn new() -> Self {
        let (_, requests) = RateLayer::new(REQUESTS, SECOND).with_handle();
        let (_, tokens) = RateLayer::new(TOKENS, SECOND).with_handle();
        let (served, refused, spent) = Default::default();
        Self { requests, tokens, served, refused, spent }
    }

    /// Requests served and refused, and tokens charged.
    fn counts(&self) -> (u64, u64, u64) {
        (self.served.load(Relaxed), self.refused.load(Relaxed), self.spent.load(Relaxed))
    }

    fn headers(&self) -> HeaderMap {
        let tell = |what: &str, rate: &RateHandle, limit: u32| {
            let tell = |kind: &str, value: u32| {
                let name = HeaderName::try_from(format!("x-ratelimit-{kind}-{what}"));
                name.map(|name| (name, value.into()))
            };
            [tell("limit", limit), tell("remaining", rate.available())]
        };
        let requests = tell("requests", &self.requests, REQUESTS);
        let tokens = tell("tokens", &self.tokens, TOKENS);
        requests.into_iter().chain(tokens).flatten().collect()
    }
}

/// Answers, if there is enough left of both quotas.
async fn complete(State(model): State<Arc<Model>>, Path(prompt): Path<u32>) -> Response {
    let cost = 30 + prompt % 20;
    let taken = match model.tokens.try_take(cost) {
        Ok(()) => model.requests.try_take(1).inspect_err(|_| model.tokens.settle(-i64::from(cost))),
        Err(no) => Err(no),
    };
    let headers = model.headers();
    if taken.is_err() {
        model.refused.fetch_add(1, Relaxed);
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], headers).into_response();
    }
    model.served.fetch_add(1, Relaxed);
    model.spent.fetch_add(cost.into(), Relaxed);
    (headers, format!("total_tokens: {cost}")).into_response()
}
