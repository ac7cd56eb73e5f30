//! The dashboard, spoken to as a browser does.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

#[expect(dead_code, reason = "a part of it is for other tests")]
mod common;

use std::{panic, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
    response::Response,
};
use common::{Refusal, one_of_each};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use stockade_breaker::{BreakerLayer, State};
use stockade_limit::LimitLayer;
use stockade_metrics::{MAX_STREAMS, Metrics, dashboard};
use stockade_pool::Pool;
use stockade_rate::RateLayer;
use tower::{ServiceExt, service_fn};

const TOKEN: &str = "a token of some length";

async fn ask(app: &Router, request: Request<Body>) -> Response {
    app.clone().oneshot(request).await.unwrap()
}

async fn get(app: &Router, path: &str) -> Response {
    ask(app, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The next event of a stream.
async fn event(events: &mut Body) -> Value {
    let frame = events.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = str::from_utf8(&frame).unwrap();
    let data = text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
    assert!(!data.contains('\n'), "an event is one line: {data}");
    serde_json::from_str(data).unwrap()
}

/// A request to `/control`, with these headers beside `Host`.
async fn control(app: &Router, headers: &[(&str, &str)], body: &Value) -> (StatusCode, String) {
    let mut request = Request::post("/control").header("host", "shop:3000");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = ask(app, request.body(body.to_string().into()).unwrap()).await;
    (response.status(), text(response).await)
}

/// The same with the token.
async fn order(app: &Router, kind: &str, order: &str, to: Option<u64>) -> (StatusCode, String) {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", &*bearer), ("origin", "http://shop:3000")];
    control(app, &headers, &json!({ "kind": kind, "name": "it", "order": order, "to": to })).await
}

const DONE: (StatusCode, String) = (StatusCode::NO_CONTENT, String::new());

#[tokio::test(start_paused = true)]
async fn the_page_needs_nothing_from_elsewhere() {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let response = get(&dashboard(metrics).into(), "/").await;
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("connect-src 'self'"));
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let page = text(response).await;
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(!page.contains("innerHTML") && !page.contains("insertAdjacentHTML"));
}

#[tokio::test(start_paused = true)]
async fn the_page_is_there_with_and_without_a_slash_at_the_end_and_nothing_beside_it() {
    let app: Router = dashboard(Metrics::new()).at("/stockade");
    for (path, status) in [
        ("/stockade", StatusCode::OK),
        ("/stockade/", StatusCode::OK),
        ("/stockade/page", StatusCode::NOT_FOUND),
        ("/", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(get(&app, path).await.status(), status, "{path}");
    }
    let nested = Router::new().nest("/stockade", dashboard(Metrics::new()).into());
    assert_eq!(get(&nested, "/stockade").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn the_first_events_tell_the_time_and_all_handles_of_every_kind() {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let app = dashboard(metrics).at("/stockade");
    let response = get(&app, "/stockade/events").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut events = response.into_body();
    assert_eq!(event(&mut events).await, json!({ "now": 0, "control": false }));
    let all = event(&mut events).await;
    let mut rows: Vec<_> = all["rows"].as_array().unwrap().iter().collect();
    rows.sort_by_key(|row| row[0].as_str().unwrap());
    let kinds: Vec<_> = rows.iter().map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "breaker",
            "keyed rate",
            "limit",
            "measure",
            "pool",
            "rate",
            "retry",
            "stack per key",
            "timeout"
        ]
    );
    assert!(rows.iter().all(|row| row[1] == "it"));
    assert_eq!(rows[0][2]["breaker_state"], json!({ "closed": 1 }));
    assert_eq!(rows[2][2]["limit_max"], 64);
    assert_eq!((&rows[5][2]["calls"], &rows[5][2]["per"]), (&json!(10), &json!(1.0)));
    let page = include_str!("../src/dashboard/page.html");
    for row in rows {
        for metric in row[2].as_object().unwrap().keys() {
            let known = ["keyed_refused", "pool_oldest", "pool_workers_idle", "_peak_", "rebuilt"];
            let is_left_out = known.iter().any(|part| metric.contains(part))
                || metric == "pool_accepted"
                || metric == "breaker_window_calls";
            assert!(page.contains(metric) || is_left_out, "{metric} is on the page");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_there_a_tenth_of_a_second_later_and_nothing_else() {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let (_layer, handle) = LimitLayer::new(3).with_handle();
    metrics.limit("mine", handle.clone()).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut events = get(&dashboard(metrics).into(), "/events").await.into_body();
    event(&mut events).await;
    event(&mut events).await;
    // What comes after some silence is a sign of life.
    let alive = events.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&alive[..], b":\n\n");
    handle.set_max(7).unwrap();
    let changed = event(&mut events).await;
    assert_eq!(changed["rows"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&changed["rows"][0][1], &changed["rows"][0][2]["limit_max"]),
        (&json!("mine"), &json!(7))
    );
}

#[tokio::test(start_paused = true)]
async fn a_pool_shows_its_jobs_by_name_and_since_when_they_run() {
    let pool = Pool::builder().workers(2).job_name(|n: &u64| format!("<b>{n}</b>"));
    let pool = pool.build(service_fn(async |_: u64| {
        std::future::pending::<()>().await;
        Ok::<_, Refusal>(())
    }));
    let metrics = Metrics::new();
    metrics.pool("it", pool.handle()).unwrap();
    let app = dashboard(metrics).into();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let _jobs = (pool.submit(1), pool.submit(2));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut events = get(&app, "/events").await.into_body();
    assert_eq!(event(&mut events).await["now"], 80);
    let all = event(&mut events).await;
    let jobs = all["rows"][0][2]["jobs"].as_array().unwrap();
    let mut named: Vec<_> =
        jobs.iter().map(|job| (job[1].as_str().unwrap(), job[2].as_i64())).collect();
    named.sort();
    assert_eq!(named, [("<b>1</b>", Some(30)), ("<b>2</b>", Some(30))]);
    let alive = events.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&alive[..], b":\n\n", "that they get older is no change");
}

#[tokio::test(start_paused = true)]
async fn a_browser_above_the_maximum_gets_503_and_is_told_when_to_come_again() {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let app: Router = dashboard(metrics).into();
    let mut open = Vec::new();
    for _ in 0..MAX_STREAMS {
        let response = get(&app, "/events").await;
        assert_eq!(response.status(), StatusCode::OK);
        open.push(response);
    }
    let refused = get(&app, "/events").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    open.pop();
    assert_eq!(get(&app, "/events").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn without_control_nothing_can_be_changed() {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let (status, why) = order(&dashboard(metrics).into(), "limit", "change", Some(1)).await;
    assert_eq!(
        (status, &*why),
        (StatusCode::NOT_FOUND, "nothing can be changed here: control is off")
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_needs_the_token_and_must_not_come_from_another_origin() {
    let (layer, handle) = LimitLayer::new(5).with_handle();
    let metrics = Metrics::new();
    metrics.limit("it", handle.clone()).unwrap();
    let app: Router = dashboard(metrics).control(TOKEN).origin("https://ops.example").into();
    let wanted = json!({ "kind": "limit", "name": "it", "order": "change", "to": 1 });
    let bearer = format!("Bearer {TOKEN}");
    let longer = format!("Bearer {TOKEN}s");
    let right = ("authorization", &*bearer);
    let unauthorized: [&[(&str, &str)]; 6] = [
        &[],
        &[("authorization", "Bearer ")],
        &[("authorization", TOKEN)],
        &[("authorization", "Bearer another one of a length")],
        &[("authorization", &longer)],
        &[("authorization", &bearer[..bearer.len() - 1])],
    ];
    for headers in unauthorized {
        let (status, why) = control(&app, headers, &wanted).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{headers:?}");
        assert!(why.contains("token"), "{why}");
    }
    for origin in [
        "http://evil.example",
        "null",
        "http://shop:3001",
        "http://shop:3000.evil.example",
        "shop:3000",
    ] {
        let (status, why) = control(&app, &[right, ("origin", origin)], &wanted).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{origin}");
        assert!(why.contains(origin) && why.contains("another origin"), "{why}");
    }
    assert_eq!(handle.max(), 5);
    for origin in ["http://shop:3000", "https://shop:3000", "https://ops.example"] {
        assert_eq!(control(&app, &[right, ("origin", origin)], &wanted).await, DONE, "{origin}");
    }
    assert_eq!(control(&app, &[right], &wanted).await, DONE, "a program says no origin");
    assert_eq!(handle.max(), 1);
    drop(layer);
}

#[tokio::test(start_paused = true)]
async fn buttons_force_open_release_pause_resume_and_change() {
    let metrics = Metrics::new();
    let (_breaker, breaker) = BreakerLayer::new().with_handle();
    let (_limit, limit) = LimitLayer::new(5).with_handle();
    let (_rate, rate) = RateLayer::new(100, Duration::from_secs(60)).with_handle();
    let pool = Pool::builder().workers(1).build(service_fn(async |n: u32| Ok::<_, Refusal>(n)));
    metrics.breaker("it", breaker.clone()).unwrap();
    metrics.limit("it", limit.clone()).unwrap();
    metrics.rate("it", rate.clone()).unwrap();
    metrics.pool("it", pool.handle()).unwrap();
    let app: Router = dashboard(metrics).control(TOKEN).into();

    assert_eq!(order(&app, "breaker", "force_open", None).await, DONE);
    assert_eq!(order(&app, "breaker", "force_open", None).await, DONE, "it stays open");
    assert_eq!(breaker.state(), State::ForcedOpen);
    assert_eq!(order(&app, "breaker", "release", None).await, DONE);
    assert_eq!(breaker.state(), State::Closed);
    let (status, why) = order(&app, "breaker", "release", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(why, "the breaker \"it\" is not held open from here");

    assert_eq!(order(&app, "pool", "pause", None).await, DONE);
    assert!(pool.handle().is_paused());
    let mut events = get(&app, "/events").await.into_body();
    event(&mut events).await;
    let all = event(&mut events).await;
    let of_pool = all["rows"].as_array().unwrap().iter().find(|row| row[0] == "pool").unwrap();
    assert_eq!(of_pool[2]["pool_paused"], 1);
    drop(events);
    let job = pool.submit(7);
    assert!(tokio::time::timeout(Duration::from_secs(1), job).await.is_err());
    assert_eq!(order(&app, "pool", "resume", None).await, DONE);
    assert_eq!(pool.submit(8).await.unwrap(), 8);

    assert_eq!(order(&app, "limit", "change", Some(9)).await, DONE);
    assert_eq!(order(&app, "rate", "change", Some(50)).await, DONE);
    assert_eq!((limit.max(), rate.config().calls, rate.config().per.as_secs()), (9, 50, 60));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_held_says_so_and_is_released_with_the_router() {
    let metrics = Metrics::new();
    let (_breaker, breaker) = BreakerLayer::new().with_handle();
    metrics.breaker("it", breaker.clone()).unwrap();
    let app: Router = dashboard(metrics).control(TOKEN).into();
    order(&app, "breaker", "force_open", None).await;
    let mut events = get(&app, "/events").await.into_body();
    assert_eq!(event(&mut events).await["control"], true);
    let all = event(&mut events).await;
    assert_eq!(all["rows"][0][2]["held"], true);
    assert_eq!(all["rows"][0][2]["breaker_state"], json!({ "forced_open": 1 }));
    drop((events, app));
    // The task that reads finds that nobody looks.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_cannot_be_followed_is_answered_with_why() {
    let (metrics, _pool) = one_of_each("it").unwrap();
    let app: Router = dashboard(metrics).control(TOKEN).into();
    let cases = [
        (
            "limit",
            "change",
            Some(0),
            StatusCode::UNPROCESSABLE_ENTITY,
            "0 is not allowed, it has to be from 1 to 2147483647",
        ),
        ("limit", "change", None, StatusCode::BAD_REQUEST, "`to` is missing"),
        ("limit", "pause", None, StatusCode::BAD_REQUEST, "no limit can do that"),
        ("retry", "force_open", None, StatusCode::BAD_REQUEST, "no retry can do that"),
        ("cache", "pause", None, StatusCode::NOT_FOUND, "there is no cache \"it\""),
        ("pool", "explode", None, StatusCode::BAD_REQUEST, "there is no order \"explode\""),
    ];
    for (kind, what, to, expected, part) in cases {
        let (status, why) = order(&app, kind, what, to).await;
        assert_eq!(status, expected, "{kind} {what}: {why}");
        assert!(why.contains(part), "{why}");
    }
    let bearer = format!("Bearer {TOKEN}");
    for (body, part) in
        [("{", "this is no JSON"), ("{}", "`order` is missing"), ("[1]", "`order` is missing")]
    {
        let request = Request::post("/control").header("authorization", &bearer);
        let response = ask(&app, request.body(body.into()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(text(response).await.contains(part));
    }
    let large = Request::post("/control").header("authorization", &bearer);
    let response = ask(&app, large.body("x".repeat(1 << 20).into()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[test]
fn a_token_that_is_too_short_panics_and_is_not_told() {
    let short = panic::catch_unwind(|| dashboard(Metrics::new()).control("hunter2")).unwrap_err();
    let told = short.downcast::<String>().unwrap();
    assert!(told.contains("7 bytes") && told.contains("at least 16") && !told.contains("hunter2"));
    let page = dashboard(Metrics::new()).control(TOKEN);
    assert!(!format!("{page:?}").contains(TOKEN));
}
