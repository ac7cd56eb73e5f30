//! What to write when a stack does not compile.
//!
//! At `svc.ready()` and `svc.oneshot(..)` the compiler only says that a method "exists but its trait bounds were not
//! satisfied". A line of this module above it makes the compiler name the bound, and what to write:
//!
//! - [`check::<Request>(&svc)`](check()) for a finished stack;
//! - [`.layer(check::layers::<Request>())`](layers), above the layers, where something else finishes the stack, as axum
//!   does;
//! - [`check::state::<Request>(&svc)`](state) for a stack that tasks or handlers share, as in axum's `State`.
//!
//! They do nothing when the program runs.
//!
//! | the compiler says | write |
//! |---|---|
//! | a layer cannot put its refusal into the error type … | `.map_err(Error::Service)` right above the client; `.map_err(stockade::boxed)` for errors of many types, or of `anyhow`, and then, for `?` in a function that fails with `anyhow::Error`, `.map_err(anyhow::Error::from_boxed)` first in the `ServiceBuilder`; or implement [`LayerError`](crate::LayerError) |
//! | … into the error type `Infallible` (a layer on a router of axum) | `.map_err(Error::Service)` last in the `ServiceBuilder`, and first `.layer(RespondLayer::new())` of `stockade_clients::http`; under axum's `HandleErrorLayer`, `.layer(stockade::check::layers::<Request>())` shows the advice |
//! | `Infallible: From<stockade::Error<Infallible>>` is not satisfied (axum) | `.layer(RespondLayer::new())` of `stockade_clients::http` first in the `ServiceBuilder`: it makes refusals answers |
//! | a layer calls clones of the service inside it, and … is not `Clone` | `.buffer(n)` right above the service that is named, which may be a layer such as tower's `rate_limit` |
//! | `RetryLayer` cannot repeat the request … | `#[derive(Clone)]` on the request; for requests of reqwest, http and tonic `reqwest::retry(n)`, `http::retry(n)` or `grpc::retry(n)` of `stockade-clients`; or `.clone_request(..)`, and `.idempotent(..)` with it: without that a POST is sent again, too |
//! | implementation of `Fn` or `FnOnce` is not general enough; type annotations needed; type mismatch in closure arguments, expected closure signature … | the type of the classifier's parameter, `\|result: Result<&Response, &Error>\| …`, or a function in its place |
//! | async closure does not implement `FnMut` because it captures state from its environment | `move \|request\| { let db = db.clone(); async move { … } }` in place of `async move \|request\| …` |
//! | lifetime may not live long enough, at the closure that reads a key, such as `.keyed(\|request: &Request\| …, n)` | `.cloned()`, or `.map(str::to_owned)` for a `&str`, at the end of the closure: a key is not borrowed from the request |
//! | one type is more general than the other; expected reference `&str`, found reference `&str` | `\|request: &Request\| Share::of(tenant(request))` in place of `tenant` in `fair_by(..)`: a share is not borrowed from the request |
//! | `Http`, or another classifier of `stockade-clients`, cannot judge results of this stack | `.map_err(Error::Service)` above a client with an error type of its own, `.map_err(stockade::boxed)` above one whose errors are boxed |
//! | implementation of `Cause` is not general enough (in a task or a handler, with boxed errors) | `BoxCloneSyncService::new(stack)` outside of the task |
//! | no method named `name`, or another setter, found for struct `Configured<L>`, or `PerService<L>` | the setters before `.with_handle()` and `.per_service()`, which end them |
//! | no method named `keyed` found for struct `RateLayer<Costly<…>>` | `.keyed(..)` before `.cost(..)` and `.bypass(..)` |
//! | a pool cannot run … | `tower::service_fn(..)` around an async function |
//! | no function or associated item named `new` found for struct `Pool<Req, T, E>` | `Pool::builder()` |
//! | another version of a client's crate: `expected fn(reqwest::Request), found fn(reqwest::async_impl::request::Request)` | the version that the table on the first page of `stockade-clients` names |
//! | `reqwest::Error: From<stockade::Error<…>>` is not satisfied | `.map_err(..)` above `.and_then(read_to_end)`, and not below it, because reading the body fails with an error of reqwest, too |
//! | `?` couldn't convert the error: `dyn Error + Send + Sync: Sized` is not satisfied | `stockade::BoxError` as the error of your function, in place of `Box<dyn Error>`; with `anyhow`, `.map_err(anyhow::Error::from_boxed)` first in the `ServiceBuilder` |
//! | `?` couldn't convert the error: `anyhow::Error: std::error::Error` is not satisfied | `.map_err(stockade::boxed)` in place of `.map_err(Error::Service)`, and `.map_err(anyhow::Error::from_boxed)` first in the `ServiceBuilder` |
//! | tasks cannot share … (axum's `State`; `stockade::check::state` shows it) | `BoxCloneSyncService` in place of `BoxCloneService` |
//!
//! Where a program uses `anyhow`, its errors go in at the bottom and come out at the top, and `?` works:
//!
//! ```
//! use stockade::LimitLayer;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let mut svc = ServiceBuilder::new()
//!     .map_err(anyhow::Error::from_boxed) // a stack that fails with `anyhow::Error`
//!     .layer(LimitLayer::new(8))
//!     .map_err(stockade::boxed)           // a client that fails with `anyhow::Error`
//!     .service_fn(async |n: u32| anyhow::Ok(n + 1));
//! let answer = svc.ready().await?.call(1).await?;
//! # assert_eq!(answer, 2);
//! # Ok(())
//! # }
//! ```
//!
//! A refusal is found again in the chain: `error.chain().find_map(|e| e.downcast_ref::<Rejected>())`. A stack whose
//! client has an error type of its own needs neither line: `?` turns an [`Error<E>`](crate::Error) into `anyhow::Error`.

use std::{fmt, marker::PhantomData};

use tower_layer::Layer;
use tower_service::Service;

/// Compiles only if `service` is a `Service<Req>`; if it is not, the compiler says what to write.
///
/// # Example
///
/// ```
/// use stockade::Error;
/// use tower::ServiceBuilder;
///
/// let svc = ServiceBuilder::new()
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// stockade::check::<u32>(&svc);
/// ```
pub const fn check<Req>(service: &impl Service<Req>) {
    let _ = service;
}

/// Compiles only if `service` is a `Service<Req>` that tasks and handlers can share: `Clone`, `Send`, `Sync` and
/// `'static`, as axum's `State` wants it.
///
/// # Example
///
/// ```
/// use stockade::{BoxError, LimitLayer};
/// use tower::{ServiceBuilder, util::BoxCloneSyncService};
///
/// let client = BoxCloneSyncService::new(tower::service_fn(async |n: u32| Ok::<_, BoxError>(n + 1)));
/// let svc = ServiceBuilder::new().layer(LimitLayer::new(8)).service(client);
/// stockade::check::state::<u32>(&svc);
/// ```
pub const fn state<Req>(service: &(impl Service<Req> + Shareable)) {
    let _ = service;
}

/// A layer that changes nothing. It can be put above other layers only if these make a `Service<Req>`; if they do not,
/// the compiler says what to write.
///
/// # Example
///
/// ```
/// use stockade::{Error, LimitLayer, check};
/// use tower::ServiceBuilder;
///
/// let svc = ServiceBuilder::new()
///     .layer(check::layers::<u32>())
///     .layer(LimitLayer::new(8))
///     .map_err(Error::Service)
///     .service_fn(async |n: u32| Ok::<_, std::io::Error>(n + 1));
/// ```
pub const fn layers<Req>() -> CheckLayer<Req> {
    CheckLayer(PhantomData)
}

/// A layer that changes nothing; made by [`layers`].
pub struct CheckLayer<Req>(PhantomData<fn(Req)>);

/// What tasks and handlers can share.
#[diagnostic::on_unimplemented(
    message = "tasks cannot share `{Self}`",
    label = "it has to be `Clone`, `Send`, `Sync` and `'static`",
    note = "`BoxCloneService` is not `Sync`: use `tower::util::BoxCloneSyncService`",
    note = "or put a `stockade::Pool` around it: its handles are all of these"
)]
pub trait Shareable: Clone + Send + Sync + 'static {}

// === impl CheckLayer ===

impl<Req, S: Service<Req>> Layer<S> for CheckLayer<Req> {
    type Service = S;

    fn layer(&self, inner: S) -> S {
        inner
    }
}

impl<Req> Clone for CheckLayer<Req> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Req> Copy for CheckLayer<Req> {}

impl<Req> fmt::Debug for CheckLayer<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckLayer")
    }
}

// === impl Shareable ===

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Shareable for T {}
