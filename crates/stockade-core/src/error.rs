//! The error story: an error type that can carry a refusal, and the ready-made one.

use std::{convert::Infallible, error::Error as StdError, fmt};

use crate::Rejected;

/// A boxed error, as tower's own layers use it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// An error type that can carry a layer's refusal.
///
/// A layer never wraps the error of the service inside it; it only needs a way to say no in the same
/// type. So stacking order never changes the error type, and nothing nests.
///
/// It is implemented for [`Error`] and for [`BoxError`], and in a few lines by an enum of your own
/// (an example is on the crate's first page).
#[diagnostic::on_unimplemented(
    message = "a layer cannot put its refusal into the error type `{Self}`",
    label = "`{Self}` does not implement `LayerError`",
    note = "put `.map_err(stockade::Error::Service)` into the `ServiceBuilder`, right above the client, to wrap its error",
    note = "for errors of many types, or of `anyhow`, put `.map_err(stockade::boxed)` there",
    note = "in axum, whose error is `Infallible`, also put `HandleErrorLayer` above the layers, to make a refusal an answer",
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

/// The ready-made error of a stack: what the service said, or a layer's refusal.
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
    /// The error of the service, as it was.
    Service(E),
    /// A layer refused the call, or ended it.
    Rejected(Rejected),
}

// === impl Error ===

impl<E> Error<E> {
    /// The service's own error, if it is one.
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

/// Both variants print as what they hold. The source of `Service` is the source of the error it holds;
/// the source of `Rejected` is the refusal itself, so that it can be found in a chain of boxed errors.
impl<E: StdError> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Service(error) => error.source(),
            Self::Rejected(rejected) => Some(rejected),
        }
    }
}

// === impl LayerError for BoxError ===

/// The refusal is found through the source chain. The error itself is not looked at, because the type of a
/// borrowed one cannot be asked for; so a refusal is boxed as an [`Error`], whose source it is.
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

/// Boxes any error, for `.map_err(stockade::boxed)` above a client whose errors are of many types.
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
