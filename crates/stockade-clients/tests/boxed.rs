//! The error of each client in all that people put around it: the class is that of the client's error.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{error::Error as StdError, fmt, io, sync::Arc};

use anyhow::Context as _;
use http::{Request, Response};
use stockade_clients::{
    Failure,
    grpc::{self, Grpc},
    http::Http,
    redis::Redis,
    reqwest as requests,
    sql::{Sqlx, TokioPostgres},
};
use stockade_core::{BoxError, Class, Classify, Error};
use stockade_retry::RetryLayer;
use tonic::Status;
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

/// An error of a program, which adds words of its own.
#[derive(Debug)]
struct Told<E>(E);

impl<E> fmt::Display for Told<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call failed")
    }
}

impl<E: StdError + 'static> StdError for Told<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

/// What `classify` makes of an error in each of the wrappers that hide nothing.
fn all_ways<C, E>(classify: C, make: impl Fn() -> E) -> Vec<Class>
where
    E: StdError + Send + Sync + 'static,
    C: Classify<Response<()>, Error<E>>
        + Classify<Response<()>, Error<Failure<E>>>
        + Classify<Response<()>, Error<Told<E>>>
        + Classify<Response<()>, Error<Box<E>>>
        + Classify<Response<()>, Error<Arc<E>>>
        + Classify<Response<()>, BoxError>,
{
    fn judge<E>(classify: &impl Classify<Response<()>, E>, error: &E) -> Class {
        classify.classify(Err(error))
    }
    let boxed = |error: BoxError| judge(&classify, &error);
    let anyhow =
        |error: anyhow::Error| boxed(error.reallocate_into_boxed_dyn_error_without_backtrace());
    vec![
        judge(&classify, &Error::Service(make())),
        judge(&classify, &Error::Service(Failure::at("host:1", make()))),
        judge(&classify, &Error::Service(Told(make()))),
        judge(&classify, &Error::Service(Box::new(make()))),
        judge(&classify, &Error::Service(Arc::new(make()))),
        boxed(make().into()),
        boxed(Error::Service(make()).into()),
        boxed(Failure::at("host:1", make()).into()),
        boxed(Error::Service(Failure::at("host:1", make())).into()),
        boxed(Told(make()).into()),
        boxed(Error::Service(Told(make())).into()),
        boxed(Box::<E>::from(make()).into()),
        boxed(Arc::new(make()).into()),
        boxed(Told(Box::new(make())).into()),
        boxed(io::Error::other(make()).into()),
        anyhow(make().into()),
        anyhow(Err::<(), _>(make()).context("the call failed").unwrap_err()),
        anyhow(anyhow::Error::from(make()).context("the call failed").context("again")),
        // With a context it is seen also where `stockade::boxed` has made the box.
        boxed(stockade_core::boxed(anyhow::Error::from(make()).context("the call failed"))),
    ]
}

fn all_are<C, E>(expected: Class, classify: C, make: impl Fn() -> E)
where
    E: StdError + Send + Sync + 'static,
    C: Classify<Response<()>, Error<E>>
        + Classify<Response<()>, Error<Failure<E>>>
        + Classify<Response<()>, Error<Told<E>>>
        + Classify<Response<()>, Error<Box<E>>>
        + Classify<Response<()>, Error<Arc<E>>>
        + Classify<Response<()>, BoxError>,
{
    for (way, class) in all_ways(classify, &make).into_iter().enumerate() {
        assert_eq!(class, expected, "way {way} of {:?}", make());
    }
}

#[test]
fn an_error_of_reqwest_is_known_in_all_that_is_around_it() {
    // A URL that is none, which is known by nothing but its own error.
    let client = reqwest::Client::new();
    all_are(Class::Permanent, Http::new(), || client.get("nonsense").build().unwrap_err());
}

#[test]
fn a_status_of_tonic_is_known_in_all_that_is_around_it() {
    all_are(Class::Permanent, Grpc::new(), || Status::not_found("no such book"));
    let after = Some(std::time::Duration::from_secs(1));
    let hinted = || {
        let mut status = Status::resource_exhausted("");
        status.metadata_mut().insert("grpc-retry-pushback-ms", "1000".parse().unwrap());
        status
    };
    all_are(Class::Overload { after, processed: true }, Grpc::new(), hinted);
}

#[test]
fn an_error_of_sqlx_is_known_in_all_that_is_around_it() {
    all_are(Class::OVERLOAD, Sqlx::new(), || sqlx::Error::PoolTimedOut);
    all_are(Class::Permanent, Sqlx::new().gated(), || sqlx::Error::RowNotFound);
}

#[test]
fn an_error_of_tokio_postgres_and_of_its_pools_is_known_in_all_that_is_around_it() {
    let wrong = || "no_such_option=1".parse::<tokio_postgres::Config>().unwrap_err();
    all_are(Class::Permanent, TokioPostgres::new(), wrong);
    all_are(Class::Permanent, TokioPostgres::new(), || {
        deadpool::managed::PoolError::Backend(wrong())
    });
    all_are(Class::OVERLOAD, TokioPostgres::new(), || {
        deadpool::managed::PoolError::<tokio_postgres::Error>::Timeout(
            deadpool::managed::TimeoutType::Wait,
        )
    });
    all_are(Class::Permanent, TokioPostgres::new(), || bb8::RunError::User(wrong()));
    all_are(Class::OVERLOAD, TokioPostgres::new(), || {
        bb8::RunError::<tokio_postgres::Error>::TimedOut
    });
}

#[test]
fn an_error_of_redis_and_of_its_pool_is_known_in_all_that_is_around_it() {
    let wrong = || redis::RedisError::from((redis::ErrorKind::Client, "told by the test"));
    all_are(Class::Permanent, Redis::new(), wrong);
    all_are(Class::Permanent, Redis::new(), || bb8::RunError::User(wrong()));
    all_are(Class::OVERLOAD, Redis::new(), || bb8::RunError::<redis::RedisError>::TimedOut);
}

/// What hides the error that it holds, as `#[error(transparent)]` of thiserror does.
#[derive(Debug)]
struct Transparent(Status);

impl fmt::Display for Transparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Transparent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

#[test]
fn what_hides_the_error_that_it_holds_is_judged_by_the_default() {
    let judge = |error: BoxError| Grpc::new().classify(Err::<&Response<()>, _>(&error));
    let status = || Status::not_found("no such book");
    assert_eq!(judge(Transparent(status()).into()), Class::Transient { after: None });
    let hidden = stockade_core::boxed(anyhow::Error::from(status()));
    assert_eq!(judge(hidden), Class::Transient { after: None }, "as `Cause` says");
}

async fn refused<Req>(_: Req) -> Result<Response<()>, BoxError> {
    Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
}

#[tokio::test(start_paused = true)]
async fn boxed_errors_are_judged_in_tasks_by_all_of_them() {
    macro_rules! in_a_task {
        ($layer:expr, $request:expr) => {
            let layers = ServiceBuilder::new().layer($layer);
            let boxed = layers.clone().service(BoxCloneSyncService::new(service_fn(refused)));
            let stack = layers.service_fn(refused);
            for stack in [BoxCloneSyncService::new(stack), BoxCloneSyncService::new(boxed)] {
                let call = tokio::spawn(async move { stack.oneshot($request).await });
                let error = call.await.unwrap().unwrap_err();
                assert!(error.is::<io::Error>(), "{error}");
            }
        };
    }
    in_a_task!(stockade_clients::http::retry(3), Request::new(String::new()));
    in_a_task!(
        requests::retry(3),
        reqwest::Request::new(http::Method::POST, "http://a.example".parse().unwrap())
    );
    in_a_task!(grpc::retry(3), tonic::Request::new(1));
    in_a_task!(RetryLayer::max_attempts(3).classify(Sqlx::new()), 1);
    in_a_task!(RetryLayer::max_attempts(3).classify(TokioPostgres::new()), 1);
    in_a_task!(RetryLayer::max_attempts(3).classify(Redis::new()), 1);
}
