//! The handles of a whole stack, added at once.

use crate::{Metrics, NameTaken};

/// Handles that [`Metrics::stack`] adds with one name: a handle, one that may be absent, or a tuple of them.
pub trait Handles {
    /// Adds each of them.
    ///
    /// # Errors
    ///
    /// [`NameTaken`] for the first one whose kind has a handle of this name already.
    fn add_to(self, metrics: &Metrics, name: &str) -> Result<(), NameTaken>;
}

macro_rules! handles {
    ($($feature:literal $handle:ty => $method:ident;)*) => {$(
        #[cfg(feature = $feature)]
        impl Handles for $handle {
            fn add_to(self, metrics: &Metrics, name: &str) -> Result<(), NameTaken> {
                metrics.$method(name.to_owned(), self)
            }
        }
    )*};
}

handles! {
    "limit" stockade_limit::LimitHandle => limit;
    "rate" stockade_rate::RateHandle => rate;
    "retry" stockade_retry::RetryHandle => retry;
    "breaker" stockade_breaker::BreakerHandle => breaker;
    "measure" crate::MeasureHandle => measure;
}

/// The first one of a stack is that of the whole call, and the second one that of each attempt.
#[cfg(feature = "timeout")]
impl Handles for stockade_timeout::TimeoutHandle {
    fn add_to(self, metrics: &Metrics, name: &str) -> Result<(), NameTaken> {
        let of_call = metrics.timeout(name.to_owned(), self.clone());
        of_call.or_else(|_| metrics.timeout(of_attempt(name), self))
    }
}

/// The name of the second timeout of a stack.
#[cfg(feature = "timeout")]
pub(crate) fn of_attempt(name: &str) -> String {
    format!("{name} attempt")
}

#[cfg(feature = "pool")]
impl<Req, T, E> Handles for stockade_pool::PoolHandle<Req, T, E>
where
    Req: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn add_to(self, metrics: &Metrics, name: &str) -> Result<(), NameTaken> {
        metrics.pool(name.to_owned(), self)
    }
}

impl<H: Handles> Handles for Option<H> {
    fn add_to(self, metrics: &Metrics, name: &str) -> Result<(), NameTaken> {
        self.map_or(Ok(()), |handle| handle.add_to(metrics, name))
    }
}

macro_rules! tuples {
    ($first:ident $($other:ident)*) => {
        #[allow(non_snake_case, reason = "each is named as its type")]
        impl<$first: Handles, $($other: Handles),*> Handles for ($first, $($other),*) {
            fn add_to(self, metrics: &Metrics, name: &str) -> Result<(), NameTaken> {
                let ($first, $($other),*) = self;
                $first.add_to(metrics, name)?;
                $($other.add_to(metrics, name)?;)*
                Ok(())
            }
        }
        tuples! { $($other)* }
    };
    () => {};
}

tuples! { A B C D E F G H }
