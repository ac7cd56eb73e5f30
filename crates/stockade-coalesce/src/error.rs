//! An error that several callers can get.

use std::{convert::Infallible, error::Error as StdError, fmt, sync::Arc};

use stockade_core::{BoxError, Error, LayerError, Rejected};

/// Any error, as one that is `Clone`: for `.map_err(SharedError::new)` right above a client whose error is not.
///
/// It prints as the error in it, which is its source. A refusal in it is found by
/// [`rejected`](LayerError::rejected).
#[derive(Clone, Debug)]
pub struct SharedError(Arc<dyn StdError + Send + Sync>);

// === impl SharedError ===

impl SharedError {
    /// Shares `error`.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into().into())
    }
}

impl From<Rejected> for SharedError {
    fn from(rejected: Rejected) -> Self {
        Self::new(Error::<Infallible>::Rejected(rejected))
    }
}

#[diagnostic::do_not_recommend]
impl LayerError for SharedError {
    fn rejected(&self) -> Option<&Rejected> {
        let mut error: &(dyn StdError + 'static) = &*self.0;
        loop {
            if let Some(rejected) = error.downcast_ref() {
                return Some(rejected);
            }
            error = error.source()?;
        }
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for SharedError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}
