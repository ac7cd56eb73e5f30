//! What became of a call that failed: what the classifiers for databases tell apart, and what follows.

use stockade_core::Class;

/// What became of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// It was wrong, and would be again.
    Wrong,
    /// It never began.
    NoEffect,
    /// It began, and all of it was undone.
    Undone,
    /// Nobody said how it ended, or the server is to blame.
    Lost,
    /// The server itself says that it does not know how it ended.
    #[cfg(any(feature = "sqlx", feature = "tokio-postgres"))]
    Unknown,
    /// There is more to do than can be done.
    Crowded,
    /// The client's own pool had no connection in time, so nothing was sent.
    #[cfg(any(feature = "bb8", feature = "deadpool", feature = "sqlx"))]
    NoConnection,
}

// === impl Disposition ===

impl Disposition {
    /// With `gated`, the retry layer was told which requests may be repeated, and asks that for what is `Transient`.
    pub(crate) const fn class(self, gated: bool) -> Class {
        match (self, gated) {
            (Self::Wrong, _) => Class::Permanent,
            (Self::NoEffect, _) | (Self::Undone, true) => Class::NoEffect { after: None },
            (Self::Lost, _) | (Self::Undone, false) => Class::Transient { after: None },
            (Self::Crowded, _) => Class::OVERLOAD,
            #[cfg(any(feature = "bb8", feature = "deadpool", feature = "sqlx"))]
            (Self::NoConnection, gated) => Class::Overload { after: None, processed: !gated },
            #[cfg(any(feature = "sqlx", feature = "tokio-postgres"))]
            (Self::Unknown, false) => Class::Permanent,
            #[cfg(any(feature = "sqlx", feature = "tokio-postgres"))]
            (Self::Unknown, true) => Class::Transient { after: None },
        }
    }
}

/// What a pool of `bb8` says for itself; what it says of a connection's error `E` is among its sources.
#[cfg(all(feature = "bb8", any(feature = "redis", feature = "tokio-postgres")))]
pub(crate) fn of_bb8<E: std::error::Error + 'static>(
    error: &(dyn std::error::Error + 'static),
) -> Option<Disposition> {
    match crate::judge::find::<bb8::RunError<E>>(error)? {
        bb8::RunError::TimedOut => Some(Disposition::NoConnection),
        bb8::RunError::User(_) => None,
    }
}

/// A classifier that knows one client's errors, given what it says of one of them.
macro_rules! classifier {
    ($(#[$docs:meta])* $name:ident, $disposition:path) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name {
            gated: bool,
        }

        // === impl classifier ===

        impl $name {
            /// Judges as the table says in its first column.
            pub const fn new() -> Self {
                Self { gated: false }
            }

            /// Judges as the table says in its second column, for a retry layer that was told with `idempotent`
            /// which requests may be repeated: what has had no effect for certain is repeated whatever the
            /// request, and what may have had one only if the request may.
            #[must_use]
            pub const fn gated(mut self) -> Self {
                self.gated = true;
                self
            }
        }

        impl<T, E: $crate::Cause> stockade_core::Classify<T, E> for $name {
            fn classify(&self, result: Result<&T, &E>) -> stockade_core::Class {
                let Err(error) = result else { return stockade_core::Class::Success };
                $crate::judge::error(error, |error| {
                    let late = error.is::<$crate::NoConnection>();
                    let disposition = if late { $crate::disposition::Disposition::NoEffect } else { $disposition(error)? };
                    Some(disposition.class(self.gated))
                })
            }
        }
    };
}

pub(crate) use classifier;
