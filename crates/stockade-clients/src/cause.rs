//! Where in a stack's error the client's own error is.

use std::error::Error as StdError;

use stockade_core::{BoxError, Error, LayerError};

/// An error of a stack, in which the client's own error can be found.
///
/// The classifiers of this crate take any such error type. It is implemented for
/// [`Error<E>`](stockade_core::Error) and for [`BoxError`], and in a few lines by an enum of your own.
///
/// The client's error is found in what this says and in all of its sources, also in a `Box`, an `Arc` or an `io::Error`. It
/// is not found in an error that prints as the one that it holds, and so leaves it out of its sources: in an enum with
/// `#[error(transparent)]` of thiserror, say, or where an `anyhow::Error` without a context was made a box. Such an
/// error is judged by the default, as `Transient`. Implement this trait for the enum, as below; for a client that fails with
/// `anyhow::Error` write `.map_err(anyhow::Error::reallocate_into_boxed_dyn_error_without_backtrace)`.
///
/// In a spawned task or a handler of axum the compiler forgets for how long a `BoxError` lives, and finds "implementation of
/// `Cause` is not general enough". There, call a stack that was made a `BoxCloneSyncService` beforehand:
///
/// ```
/// use stockade_core::BoxError;
/// # #[cfg(feature = "http")]
/// use stockade_clients::http::retry;
/// use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
///
/// # #[cfg(feature = "http")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let stack = ServiceBuilder::new()
///     .layer(retry(3))
///     .service_fn(async |_: http::Request<String>| Ok::<_, BoxError>(http::Response::new("hello")));
/// let stack = BoxCloneSyncService::new(stack);
/// let call = tokio::spawn(async move { stack.oneshot(http::Request::default()).await });
/// assert_eq!(*call.await.unwrap().unwrap().body(), "hello");
/// # }
/// # #[cfg(not(feature = "http"))]
/// # fn main() {}
/// ```
///
/// # Example
///
/// ```
/// use std::error::Error;
/// use stockade_clients::Cause;
/// use stockade_core::{LayerError, Rejected};
///
/// #[derive(Debug)]
/// enum AppError {
///     Refused(Rejected),
///     Database(std::io::Error),
/// }
///
/// impl From<Rejected> for AppError {
///     fn from(rejected: Rejected) -> Self {
///         Self::Refused(rejected)
///     }
/// }
///
/// impl LayerError for AppError {
///     fn rejected(&self) -> Option<&Rejected> {
///         match self {
///             Self::Refused(rejected) => Some(rejected),
///             Self::Database(_) => None,
///         }
///     }
/// }
///
/// impl Cause for AppError {
///     fn cause(&self) -> Option<&(dyn Error + 'static)> {
///         match self {
///             Self::Refused(_) => None,
///             Self::Database(error) => Some(error),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a classifier cannot look for the client's error in `{Self}`",
    label = "`{Self}` does not implement `Cause`",
    note = "put `.map_err(stockade::Error::Service)` into the `ServiceBuilder`, right above the client, to wrap its error",
    note = "if an `.and_then(..)` reads the client's answer, that line goes above the `.and_then(..)`",
    note = "where the client's error is boxed already, write `.map_err(stockade::boxed)` in its place",
    note = "or implement `LayerError` and `Cause` for an error enum of your own"
)]
pub trait Cause: LayerError {
    /// The error of the client, if this is one. It is looked for in the sources of what this returns, too.
    fn cause(&self) -> Option<&(dyn StdError + 'static)>;
}

#[diagnostic::do_not_recommend]
impl<E: StdError + 'static> Cause for Error<E> {
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Service(error) => Some(error),
            Self::Rejected(_) => None,
        }
    }
}

/// The error in the box, which may be any wrapper of the client's.
impl Cause for BoxError {
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.as_ref())
    }
}
