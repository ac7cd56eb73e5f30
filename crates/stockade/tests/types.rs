//! Stacks with the error types and the clients that real programs have: boxed errors, `anyhow`, axum, tonic, what is not
//! `Clone`. That this file compiles is most of the test. The compiler knows less about the types that a spawned task
//! or a handler holds across an `.await`, so each stack is called in one.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    error_handling::HandleErrorLayer,
    extract::State,
    http::{Request, StatusCode},
    routing::get,
};
use stockade::{
    BoxError, BreakerLayer, Class, Error, LayerError, LimitLayer, Pool, RateLayer, Reason,
    Rejected, RetryLayer, TimeoutLayer, check,
};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    discover::ServiceList,
    load::Constant,
    service_fn,
    util::{BoxCloneService, BoxCloneSyncService, BoxService},
};

const SECOND: Duration = Duration::from_secs(1);

async fn client(n: u32) -> io::Result<u32> {
    if n == 0 { Err(io::Error::other("zero")) } else { Ok(n + 1) }
}

async fn boxed_client(n: u32) -> Result<u32, BoxError> {
    Ok(client(n).await?)
}

/// The layers of the README.
macro_rules! six {
    () => {
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(SECOND))
            .layer(RetryLayer::max_attempts(3))
            .layer(BreakerLayer::new())
            .layer(RateLayer::per_second(500))
            .layer(LimitLayer::new(64))
            .layer(TimeoutLayer::new(SECOND))
    };
}

/// Calls a stack in a spawned task: by `ready` and `call`, and by `oneshot`.
macro_rules! call_in_a_task {
    ($stack:expr) => {{
        let stack = $stack;
        check::<u32>(&stack);
        let answer = tokio::spawn(async move {
            let mut stack = stack;
            let first: u32 = stack.ready().await?.call(1).await?;
            let second: u32 = stack.oneshot(1).await?;
            Ok::<_, BoxError>(first + second)
        });
        assert_eq!(answer.await.unwrap().unwrap(), 4);
    }};
}

/// Calls each layer alone, all of them, and the pool, over the client that `$client` makes.
macro_rules! call_each_layer_in_a_task {
    ($client:expr) => {{
        let client = || $client;
        call_in_a_task!(TimeoutLayer::new(SECOND).layer(client()));
        call_in_a_task!(LimitLayer::new(8).layer(client()));
        call_in_a_task!(LimitLayer::new(8).backpressure().layer(client()));
        call_in_a_task!(RateLayer::per_second(8).layer(client()));
        call_in_a_task!(RateLayer::per_second(8).backpressure().layer(client()));
        call_in_a_task!(RetryLayer::max_attempts(3).layer(client()));
        call_in_a_task!(BreakerLayer::new().layer(client()));
        call_in_a_task!(BreakerLayer::new().backpressure().layer(client()));
        call_in_a_task!(six!().service(client()));
        call_in_a_task!(Pool::builder().workers(2).build(client()));
        call_in_a_task!(Pool::builder().workers(2).build(six!().service(client())));
    }};
}

#[tokio::test(start_paused = true)]
async fn a_stack_is_called_in_a_task_however_its_errors_were_boxed() {
    macro_rules! boxed_by {
        ($map_err:expr) => {
            call_each_layer_in_a_task!(ServiceBuilder::new().map_err($map_err).service_fn(client));
        };
    }
    boxed_by!(BoxError::from);
    boxed_by!(Into::<BoxError>::into);
    boxed_by!(stockade::boxed);
    boxed_by!(|error: io::Error| BoxError::from(error));
    boxed_by!(|error| -> BoxError { Box::new(error) });
    boxed_by!(BoxError::from as fn(io::Error) -> BoxError);
}

#[tokio::test(start_paused = true)]
async fn a_stack_over_a_boxed_service_is_called_in_a_task() {
    call_each_layer_in_a_task!(BoxCloneService::new(service_fn(boxed_client)));
    call_each_layer_in_a_task!(BoxCloneSyncService::new(service_fn(boxed_client)));
    let pool = Pool::builder().workers(2).build(service_fn(boxed_client));
    call_each_layer_in_a_task!(pool.clone());
}

#[tokio::test(start_paused = true)]
async fn a_function_that_judges_boxed_errors_runs_in_a_task() {
    fn judge(result: Result<&u32, &BoxError>) -> Class {
        if result.is_ok() { Class::Success } else { Class::TRANSIENT }
    }
    let client = || ServiceBuilder::new().map_err(stockade::boxed).service_fn(client);
    call_in_a_task!(RetryLayer::max_attempts(3).classify(judge).layer(client()));
    call_in_a_task!(BreakerLayer::new().classify(judge).layer(client()));
}

#[tokio::test(start_paused = true)]
async fn a_pool_and_a_boxed_stack_of_boxed_errors_are_called_in_axums_handlers() {
    type Shared = BoxCloneSyncService<u32, u32, BoxError>;

    async fn answer<S>(State(stack): State<S>) -> Result<String, (StatusCode, String)>
    where
        S: Service<u32, Response = u32, Error = BoxError>,
    {
        let refused = |error: BoxError| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
        let answer = stack.oneshot(1).await.map_err(refused)?;
        Ok(answer.to_string())
    }

    let pool: Pool<u32, u32, BoxError> = Pool::builder().workers(2).build(service_fn(boxed_client));
    let shared = || Shared::new(service_fn(boxed_client));
    let around_the_pool = six!().service(pool.clone());
    let around_a_box = six!().service(shared());
    check::state::<u32>(&around_the_pool);
    check::state::<u32>(&around_a_box);

    // The types are written out by the compiler, and each handler is a closure that names none of them.
    let handler = {
        let (around_the_pool, around_a_box) = (around_the_pool.clone(), around_a_box.clone());
        move || {
            let (mut one, mut other) = (around_the_pool.clone(), around_a_box.clone());
            async move {
                let refused =
                    |error: BoxError| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
                let first = one.ready().await.map_err(refused)?.call(1).await.map_err(refused)?;
                let second = other.ready().await.map_err(refused)?.call(1).await;
                Ok::<_, (StatusCode, String)>((first + second.map_err(refused)?).to_string())
            }
        }
    };
    let routes: [Router; 5] = [
        Router::new().route("/", get(answer::<Pool<u32, u32, BoxError>>)).with_state(pool),
        Router::new().route("/", get(answer::<Shared>)).with_state(shared()),
        Router::new().route("/", get(answer::<Shared>)).with_state(Shared::new(around_the_pool)),
        Router::new().route("/", get(answer::<Shared>)).with_state(Shared::new(around_a_box)),
        Router::new().route("/", get(handler)),
    ];
    for route in routes {
        let response = route.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn all_layers_guard_an_axum_route_under_handle_error_layer() {
    let refusal = async |error: BoxError| {
        let refused = error.rejected().map(Rejected::reason);
        (StatusCode::SERVICE_UNAVAILABLE, refused.map_or("", Reason::as_str))
    };
    let layers = || {
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(refusal))
            .layer(check::layers::<Request<Body>>())
            .layer(TimeoutLayer::new(SECOND))
            .layer(
                RetryLayer::max_attempts(2)
                    .clone_request(stockade_clients::http::clone_request::<Body>),
            )
            .layer(BreakerLayer::new())
            .layer(RateLayer::per_second(500))
            .layer(LimitLayer::new(1).queue(0))
    };
    let hangs = get(async || std::future::pending::<()>().await);
    let app: [Router; 2] = [
        Router::new().route("/", hangs.clone()).layer(layers().map_err(stockade::boxed)),
        Router::new().route("/", hangs.layer(layers().map_err(stockade::boxed))),
    ];
    for app in app {
        let first = tokio::spawn(app.clone().oneshot(Request::new(Body::empty())));
        tokio::task::yield_now().await;
        let second = app.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test(start_paused = true)]
async fn all_layers_around_a_channel_of_tonic_are_called_in_a_task() {
    type Call = Request<tonic::body::Body>;

    macro_rules! boxed_by {
        ($map_err:expr) => {{
            // Port 1 answers nobody.
            let channel =
                tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
            let retry = RetryLayer::max_attempts(2)
                .clone_request(stockade_clients::http::clone_request::<tonic::body::Body>);
            let stack = ServiceBuilder::new()
                .layer(TimeoutLayer::new(SECOND))
                .layer(retry)
                .layer(BreakerLayer::new())
                .layer(RateLayer::per_second(500))
                .layer(LimitLayer::new(64))
                .map_err($map_err)
                .service(channel);
            check::state::<Call>(&stack);
            let answer = tokio::spawn(async move {
                let mut stack = stack;
                stack.ready().await?.call(Call::default()).await?;
                Ok::<_, BoxError>(())
            });
            assert!(answer.await.unwrap().is_err());
        }};
    }
    boxed_by!(BoxError::from);
    boxed_by!(stockade::boxed);
    boxed_by!(|error: tonic::transport::Error| BoxError::from(error));
    boxed_by!(Into::<BoxError>::into);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_clone_gets_layers_above_a_buffer() {
    struct NotClone;

    impl Service<u32> for NotClone {
        type Response = u32;
        type Error = io::Error;
        type Future = Ready<io::Result<u32>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, n: u32) -> Self::Future {
            ready(Ok(n + 1))
        }
    }

    call_each_layer_in_a_task!(ServiceBuilder::new().buffer(8).service(NotClone));

    let balance = || {
        let endpoint = || Constant::new(service_fn(boxed_client), 1);
        Balance::new(ServiceList::new::<u32>([endpoint(), endpoint()]))
    };
    let boxed = || BoxService::new(service_fn(boxed_client));
    let mut stack = six!().buffer(8).service(balance());
    assert_eq!(stack.ready().await.unwrap().call(1).await.unwrap(), 2);
    let mut stack = six!().buffer(8).service(boxed());
    assert_eq!(stack.ready().await.unwrap().call(1).await.unwrap(), 2);

    // A task that spells out `ready` and `call` can hold them too. `oneshot` it cannot, and neither over tower's layers.
    macro_rules! call_in_a_task_by_ready {
        ($layer:expr) => {{
            let client = BoxService::new(service_fn(client));
            let mut stack = ServiceBuilder::new().layer($layer).buffer(8).service(client);
            let answer = tokio::spawn(async move { stack.ready().await?.call(1).await });
            assert_eq!(answer.await.unwrap().unwrap(), 2);
        }};
    }
    call_in_a_task_by_ready!(TimeoutLayer::new(SECOND));
    call_in_a_task_by_ready!(LimitLayer::new(8));
    call_in_a_task_by_ready!(LimitLayer::new(8).backpressure());
    call_in_a_task_by_ready!(BreakerLayer::new());
    call_in_a_task_by_ready!(BreakerLayer::new().backpressure());
    call_in_a_task_by_ready!(RateLayer::per_second(8));
    call_in_a_task_by_ready!(RateLayer::per_second(8).backpressure());
    call_in_a_task_by_ready!(RetryLayer::max_attempts(3));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_and_the_layers_with_backpressure_need_no_client_that_is_clone() {
    let client = || BoxService::new(service_fn(boxed_client));
    call_in_a_task!(TimeoutLayer::new(SECOND).layer(client()));
    call_in_a_task!(LimitLayer::new(8).backpressure().layer(client()));
    call_in_a_task!(RateLayer::per_second(8).backpressure().layer(client()));
    call_in_a_task!(BreakerLayer::new().backpressure().layer(client()));
    let all = ServiceBuilder::new()
        .layer(TimeoutLayer::new(SECOND))
        .layer(BreakerLayer::new().backpressure())
        .layer(RateLayer::per_second(8).backpressure())
        .layer(LimitLayer::new(8).backpressure());
    call_in_a_task!(all.service(client()));
}

#[tokio::test(start_paused = true)]
async fn a_stack_takes_errors_of_anyhow_and_gives_them_back_to_the_question_mark() {
    async fn fails(n: u32) -> anyhow::Result<u32> {
        anyhow::ensure!(n > 0, "zero");
        Ok(client(n).await?)
    }

    let stack = || {
        ServiceBuilder::new()
            .map_err(anyhow::Error::from_boxed)
            .layer(TimeoutLayer::new(SECOND))
            .layer(RetryLayer::max_attempts(3))
            .layer(BreakerLayer::new())
            .layer(RateLayer::per_second(500))
            .layer(LimitLayer::new(64).queue(0))
            .map_err(stockade::boxed)
            .service_fn(fails)
    };
    for (n, expected) in [(1, "2"), (0, "zero")] {
        let mut stack = stack();
        let call = tokio::spawn(async move { anyhow::Ok(stack.ready().await?.call(n).await?) });
        let answer = call.await.unwrap();
        assert_eq!(answer.map_or_else(|error| error.to_string(), |n| n.to_string()), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_question_mark_keeps_a_refusal_findable_in_anyhow() {
    fn refusal(error: &anyhow::Error) -> Option<Reason> {
        Some(error.chain().find_map(|cause| cause.downcast_ref::<Rejected>())?.reason())
    }
    let hangs = |_: u32| std::future::pending::<io::Result<u32>>();

    let typed = ServiceBuilder::new()
        .layer(TimeoutLayer::new(SECOND))
        .map_err(Error::Service)
        .service_fn(hangs);
    let typed = tokio::spawn(async move { anyhow::Ok(typed.oneshot(1).await?) });
    assert_eq!(refusal(&typed.await.unwrap().unwrap_err()), Some(Reason::Elapsed));

    let boxed = ServiceBuilder::new()
        .map_err(anyhow::Error::from_boxed)
        .layer(TimeoutLayer::new(SECOND))
        .map_err(stockade::boxed)
        .service_fn(hangs);
    let boxed = tokio::spawn(async move { anyhow::Ok(boxed.oneshot(1).await?) });
    assert_eq!(refusal(&boxed.await.unwrap().unwrap_err()), Some(Reason::Elapsed));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_fail_is_called_in_a_task() {
    let never_fails = || service_fn(async |n: u32| Ok::<_, Infallible>(n + 1));
    call_each_layer_in_a_task!(
        ServiceBuilder::new().map_err(Error::Service).service(never_fails())
    );
    call_each_layer_in_a_task!(
        ServiceBuilder::new().map_err(stockade::boxed).service(never_fails())
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_is_taken_from_a_request_as_the_table_of_advice_says() {
    let rate = || RateLayer::new(1, SECOND).queue(0);
    let of_header = rate().keyed(|request: &Request<()>| request.headers().get("x").cloned(), 9);
    let of_text = rate().keyed(
        |request: &Request<()>| request.headers().get("x")?.to_str().ok().map(str::to_owned),
        9,
    );
    let answer = service_fn(async |_: Request<()>| Ok::<_, BoxError>(()));
    let (by_header, by_text) = (of_header.layer(answer), of_text.layer(answer));
    for key in ["a", "b"] {
        let request = || Request::builder().header("x", key).body(()).unwrap();
        by_header.clone().oneshot(request()).await.unwrap();
        by_header.clone().oneshot(request()).await.unwrap_err();
        by_text.clone().oneshot(request()).await.unwrap();
        by_text.clone().oneshot(request()).await.unwrap_err();
    }
}
