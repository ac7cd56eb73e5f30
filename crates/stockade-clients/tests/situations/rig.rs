//! One client in one situation.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use stockade_breaker::{BreakerLayer, State};
use stockade_clients::Cause;
use stockade_core::{Class, Classify, Error, LayerError};
use stockade_retry::{Backoff, Budget, RetryLayer};
use stockade_timeout::TimeoutLayer;
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

/// What an attempt may take: longer than it does on a machine that is busy.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(2);

/// What a client is asked to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) id: i64,
    /// The server can tell a repetition, so it does nothing then.
    pub(crate) repeatable: bool,
}

pub(crate) type Client<T, E> = BoxCloneSyncService<Write, T, Error<E>>;

/// A client whose errors are told from refusals.
pub(crate) fn boxed<T, E: 'static, S>(client: S) -> Client<T, E>
where
    S: tower::Service<Write, Response = T, Error = E, Future: Send> + Clone + Send + Sync + 'static,
{
    BoxCloneSyncService::new(ServiceBuilder::new().map_err(Error::Service).service(client))
}

/// What is around a client.
pub(crate) trait World: Send + Sync + 'static {
    /// Brings the situation about.
    fn break_it(&self) -> impl Future<Output = ()> + Send;

    /// All is well again.
    fn mend(&self) -> impl Future<Output = ()> + Send;

    /// How often this was written.
    fn written(&self, id: i64) -> impl Future<Output = i64> + Send;
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) client: &'static str,
    pub(crate) situation: &'static str,
    pub(crate) class: &'static str,
    pub(crate) once: &'static str,
    pub(crate) again: &'static str,
    pub(crate) breaker: &'static str,
}

static NEXT: AtomicI64 = AtomicI64::new(0);

fn write(repeatable: bool) -> Write {
    Write { id: NEXT.fetch_add(1, SeqCst), repeatable }
}

/// What `client` makes of the situation.
pub(crate) async fn measure<T, E, C>(
    (name, situation): (&'static str, &'static str),
    client: Client<T, E>,
    classify: C,
    world: &Arc<impl World>,
) -> Row
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
    Error<E>: Cause + LayerError,
    C: Classify<T, Error<E>> + Copy + Send + Sync + 'static,
{
    let mut ids = Vec::new();
    let mut calls = [const { None }; 2];
    for (call, repeatable) in calls.iter_mut().zip([false, true]) {
        let write = write(repeatable);
        ids.push(write.id);
        warm(&client, classify).await;
        world.break_it().await;
        *call = Some(attempts(&client, classify, world, write).await);
    }
    let [Some((class, once)), Some((same, again))] = calls else { unreachable!() };
    assert_eq!(class, same, "{name}, {situation}");

    warm(&client, classify).await;
    world.break_it().await;
    let breaker = breaker(&client, classify, &mut ids).await;
    world.mend().await;
    // What was still under way has arrived by now, or never does.
    warm(&client, classify).await;
    for id in ids {
        let written = world.written(id).await;
        assert!(written <= 1, "{name}, {situation}: {written} times");
    }
    Row { client: name, situation, class, once, again, breaker }
}

/// All is well: a call succeeds, perhaps after some that meet what is left of the situation.
async fn warm<T, E, C>(client: &Client<T, E>, classify: C)
where
    C: Classify<T, Error<E>>,
{
    for _ in 0..200 {
        let result = client.clone().oneshot(write(true)).await;
        if classify.classify(result.as_ref()) == Class::Success {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not get well");
}

/// A call with retries: all is mended after the first attempt. Its class, and whether there was another.
async fn attempts<T, E, C>(
    client: &Client<T, E>,
    classify: C,
    world: &Arc<impl World>,
    write: Write,
) -> (&'static str, &'static str)
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
    Error<E>: Cause + LayerError,
    C: Classify<T, Error<E>> + Copy + Send + Sync + 'static,
{
    let retry = RetryLayer::max_attempts(200)
        .backoff(Backoff::constant(Duration::from_millis(10)))
        .budget(Budget::unlimited())
        .classify(classify)
        .idempotent(|write: &Write| write.repeatable);
    let (retry, retries) = retry.with_handle();
    let classes = Arc::<Mutex<Vec<Class>>>::default();
    let (seen, world) = (Arc::clone(&classes), Arc::clone(world));
    let stack = ServiceBuilder::new()
        .layer(retry)
        .then(move |result: Result<T, Error<E>>| async move {
            let is_first = {
                let mut seen = seen.lock().unwrap();
                seen.push(classify.classify(result.as_ref()));
                seen.len() == 1
            };
            if is_first {
                world.mend().await;
            }
            result
        })
        .layer(TimeoutLayer::new(ATTEMPT))
        .service(client.clone());
    // What it comes to is known by its class.
    let _ = stack.oneshot(write).await;
    let classes = classes.lock().unwrap();
    let outcome = match (classes[0], retries.stats().retried) {
        (Class::Success, _) => "done",
        (_, 0) => "not repeated",
        _ => {
            assert_eq!(*classes.last().unwrap(), Class::Success, "{classes:?}");
            "repeated"
        }
    };
    (name(classes[0]), outcome)
}

/// What a breaker that opens for two failures in a row does after two calls.
async fn breaker<T, E, C>(client: &Client<T, E>, classify: C, ids: &mut Vec<i64>) -> &'static str
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
    Error<E>: Cause + LayerError,
    C: Classify<T, Error<E>> + Copy + Send + Sync + 'static,
{
    let breaker = BreakerLayer::new().consecutive(2).classify(classify);
    let (breaker, state) = breaker.with_handle();
    let stack = ServiceBuilder::new()
        .layer(breaker)
        .layer(TimeoutLayer::new(ATTEMPT))
        .service(client.clone());
    for _ in 0..2 {
        let write = write(false);
        ids.push(write.id);
        let _ = stack.clone().oneshot(write).await;
    }
    if state.state() == State::Open { "opens" } else { "stays closed" }
}

fn name(class: Class) -> &'static str {
    match class {
        Class::Success => "`Success`",
        Class::Permanent => "`Permanent`",
        Class::Transient { .. } => "`Transient`",
        Class::Overload { processed: true, .. } => "`Overload`",
        Class::Overload { processed: false, .. } => "`Overload`, unprocessed",
        Class::NoEffect { .. } => "`NoEffect`",
        Class::Ignored => "`Ignored`",
    }
}
