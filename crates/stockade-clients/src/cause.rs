//! Where in a stack's error the client's own error is.

use std::error::Error as StdError;

use stockade_core::{BoxError, Error, LayerError};

/// An error of a stack, in which the client's own error can be found.
///
/// The classifiers of this crate take any such error type. It is implemented for
/// [`Error<E>`](stockade_core::Error) and for [`BoxError`], and in a few lines by an enum of your own.
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
