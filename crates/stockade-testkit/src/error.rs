//! What the suite needs of an error.

use std::{error::Error as StdError, fmt};

use stockade_core::{BoxError, Error};

use crate::Fault;

/// An error in which the suite can find the probe's [`Fault`].
///
/// It is implemented for [`Fault`], for stockade's [`Error`] around it, and for [`BoxError`], whose source chain is
/// searched. Implement it for your own error type.
///
/// # Example
///
/// ```
/// use stockade_testkit::{ContractError, Fault};
///
/// enum AppError {
///     Inner(Fault),
///     Full,
/// }
///
/// impl ContractError for AppError {
///     fn fault(&self) -> Option<Fault> {
///         if let Self::Inner(fault) = self { Some(*fault) } else { None }
///     }
/// }
/// # impl std::fmt::Display for AppError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
/// #         f.write_str("no")
/// #     }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "the contract cannot find the error of the probe in `{Self}`",
    label = "`{Self}` does not implement `ContractError`",
    note = "keep the probe's error, as `stockade::Error<E>` does, or box it, as `.map_err(stockade::boxed)` does",
    note = "or implement `ContractError` for an error type of your own"
)]
pub trait ContractError: fmt::Display + Send + 'static {
    /// The fault of the probe, if this error is one or contains one.
    fn fault(&self) -> Option<Fault>;
}

impl ContractError for Fault {
    fn fault(&self) -> Option<Fault> {
        Some(*self)
    }
}

impl<E: ContractError> ContractError for Error<E> {
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Service(error) => error.fault(),
            Self::Rejected(_) => None,
        }
    }
}

impl ContractError for BoxError {
    fn fault(&self) -> Option<Fault> {
        let mut error: &(dyn StdError + 'static) = self.as_ref();
        loop {
            if let Some(fault) = error.downcast_ref::<Fault>() {
                return Some(*fault);
            }
            if let Some(error) = error.downcast_ref::<Error<Fault>>() {
                return error.fault();
            }
            error = error.source()?;
        }
    }
}
