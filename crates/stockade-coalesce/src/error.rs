//! An error that several callers can get.

use std::{error::Error as StdError, fmt, sync::Arc};

use stockade_core::{BoxError, LayerError, Rejected};

/// Any error, as one that is `Clone`: for `.map_err(SharedError::new)` right above a client whose error is not.
///
/// It prints as the error in it, which is its source. A refusal in it is found by
/// [`rejected`](LayerError::rejected).
#[derive(Clone, Debug)]
pub struct SharedError(Arc<BoxError>);

// === impl SharedError ===

impl SharedError {
    /// Shares `error`.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(Arc::new(error.into()))
    }
}

impl From<Rejected> for SharedError {
    fn from(rejected: Rejected) -> Self {
        Self::new(BoxError::from_rejected(rejected))
    }
}

#[diagnostic::do_not_recommend]
impl LayerError for SharedError {
    fn rejected(&self) -> Option<&Rejected> {
        self.0.downcast_ref().or_else(|| self.0.rejected())
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for SharedError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&**self.0)
    }
}
