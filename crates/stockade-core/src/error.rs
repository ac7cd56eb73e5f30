//! Error types that can carry a refusal, and a ready-made one.

use std::{convert::Infallible, error::Error as StdError, fmt};

use crate::Rejected;

/// A boxed error, the same type that tower's own layers use.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// An error type that can carry a layer's refusal.
///
/// A layer never wraps the error of the service inside it. It only needs a way to say no in the same type. So the
/// order of the layers never changes the error type, and errors do not nest.
///
/// [`Error`] and [`BoxError`] implement it; an enum of your own does in a few lines, which the crate's first page
/// shows.
#[diagnostic::on_unimplemented(
    message = "a layer cannot put its refusal into the error type `{Self}`",
    label = "`{Self}` does not implement `LayerError`",
    note = "put `.map_err(stockade::Error::Service)` into the `ServiceBuilder`, right above the client, to wrap its error",
    note = "if an `.and_then(..)` reads the client's answer, that line goes above the `.and_then(..)`",
    note = "for errors of many types, or of `anyhow`, put `.map_err(stockade::boxed)` there",
    note = "on a router of axum, whose error is `Infallible`, that line goes last into the `ServiceBuilder`, and first goes `RespondLayer` of `stockade-clients`, to make a refusal an answer",
    note = "or implement `From<Rejected>` and `LayerError` for an error enum of your own"
)]
pub trait LayerError: From<Rejected> {
    /// The refusal, if this error is one.
    fn rejected(&self) -> Option<&Rejected>;

    /// The error that carries `rejected`, so that [`rejected`](Self::rejected) finds it again.
    fn from_rejected(rejected: Rejected) -> Self {
        Self::from(rejected)
    }
}

/// A ready-made error of a stack: the service's own error, or a layer's refusal.
///
/// # Example
///
/// ```
/// use stockade_core::{Error, LayerError, Reason, Rejected};
///
/// let error: Error<std::io::Error> = Rejected::new(&"limit", Reason::QueueFull).into();
/// match &error {
///     Error::Service(io) => println!("the client failed: {io}"),
///     Error::Rejected(no) => assert_eq!(no.reason(), Reason::QueueFull),
/// }
/// assert!(error.rejected().is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The service's own error.
    Service(E),
    /// A layer refused the call, or ended it.
    Rejected(Rejected),
}

// === impl Error ===

impl<E> Error<E> {
    /// The service's own error, if this is one.
    pub fn into_service(self) -> Option<E> {
        match self {
            Self::Service(error) => Some(error),
            Self::Rejected(_) => None,
        }
    }
}

impl<E> From<Rejected> for Error<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

#[diagnostic::do_not_recommend]
impl<E> LayerError for Error<E> {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Service(_) => None,
            Self::Rejected(rejected) => Some(rejected),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Rejected(rejected) => rejected.fmt(f),
        }
    }
}

/// Each variant prints as what it holds. The source of `Service` is the source of its error. The source of `Rejected`
/// is the refusal itself, so that it can be found in a chain of boxed errors.
impl<E: StdError> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Service(error) => error.source(),
            Self::Rejected(rejected) => Some(rejected),
        }
    }
}

// === impl LayerError for BoxError ===

/// The refusal is found among the sources of the error. The error itself is not looked at, because an error that may
/// borrow has no type that could be asked for; so a refusal is boxed as an [`Error`], whose source it is. This holds
/// for every lifetime, because inside a spawned task the compiler does not know that the lifetime is `'static`.
#[diagnostic::do_not_recommend]
impl<'a> LayerError for Box<dyn StdError + Send + Sync + 'a> {
    fn rejected(&self) -> Option<&Rejected> {
        let mut error = self.source();
        while let Some(source) = error {
            if let Some(rejected) = source.downcast_ref() {
                return Some(rejected);
            }
            error = source.source();
        }
        None
    }

    fn from_rejected(rejected: Rejected) -> Self {
        Error::<Infallible>::Rejected(rejected).into()
    }
}

/// Boxes an error: for `.map_err(stockade::boxed)` above a client with errors of many types, or of `anyhow`.
///
/// # Example
///
/// ```
/// use stockade_core::{BoxError, boxed};
///
/// let error: BoxError = boxed(std::io::Error::other("gone"));
/// assert_eq!(error.to_string(), "gone");
/// ```
pub fn boxed<E: Into<BoxError>>(error: E) -> BoxError {
    error.into()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::Reason;

    #[test]
    fn a_refusal_is_found_through_the_source_chain() {
        #[derive(Debug)]
        struct Outer(BoxError);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }
        impl StdError for Outer {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(self.0.as_ref())
            }
        }

        let inner: Error<io::Error> = Rejected::new(&"rate", Reason::RateLimited).into();
        let boxed: BoxError = Box::new(Outer(Box::new(inner)));
        assert_eq!(boxed.rejected().unwrap().layer(), "rate");
        let plain: BoxError = Box::new(io::Error::other("no"));
        assert!(plain.rejected().is_none());
    }

    #[test]
    fn the_service_error_is_transparent() {
        let error = Error::Service(io::Error::other("gone"));
        assert_eq!(error.to_string(), "gone");
        assert!(error.rejected().is_none());
        assert_eq!(error.into_service().unwrap().to_string(), "gone");
    }
}
