use std::sync::Arc;

use sealed::Sealed;

/// A limit that is what it was set to; it learns nothing from its calls, and costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed;

/// What a limit makes of its calls' results: nothing, as [`Fixed`].
///
/// It is there to be named in bounds; nobody else can implement it.
pub trait Measure<T, E>: Meter {
    /// The call has ended.
    #[doc(hidden)]
    fn ended<R>(
        &self,
        stamp: &mut Self::Stamp,
        result: Result<&T, &E>,
        set: impl FnOnce(u32) -> R,
    ) -> Option<R>;
}

/// What does not depend on the results of a [`Measure`].
///
/// It is there to be named in bounds; nobody else can implement it.
pub trait Meter: Sealed + Send + Sync + Sized + 'static {
    /// What one call carries.
    #[doc(hidden)]
    type Stamp;

    /// What a call needs to get back at the meter; nothing, if that learns nothing.
    #[doc(hidden)]
    type Hold;

    /// For a call that is admitted.
    #[doc(hidden)]
    fn hold(meter: &Arc<Self>) -> Self::Hold;

    /// The meter that is held.
    #[doc(hidden)]
    fn held(hold: &Self::Hold) -> &Self;

    /// Another one like this, that has learnt nothing and starts at `max`.
    #[doc(hidden)]
    fn fresh(&self, max: u32) -> Self;

    /// For a call that is about to be admitted.
    #[doc(hidden)]
    fn stamp(&self) -> Self::Stamp;

    /// The call begins.
    #[doc(hidden)]
    fn begin(&self, stamp: &mut Self::Stamp, in_flight: impl FnOnce() -> u32);

    /// The call is gone; it may have ended before.
    #[doc(hidden)]
    fn abandoned<R>(&self, stamp: &mut Self::Stamp, set: impl FnOnce(u32) -> R) -> Option<R>;

    /// Somebody else sets the maximum.
    #[doc(hidden)]
    fn set_max<R>(&self, max: u32, set: impl FnOnce(u32) -> R) -> R;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

// === impl Fixed ===

impl Sealed for Fixed {}

impl Meter for Fixed {
    type Stamp = ();
    type Hold = ();

    #[inline]
    fn hold(_: &Arc<Self>) {}

    #[inline]
    fn held((): &()) -> &Self {
        &Self
    }

    fn fresh(&self, _: u32) -> Self {
        Self
    }

    #[inline]
    fn stamp(&self) {}

    #[inline]
    fn begin(&self, (): &mut (), _: impl FnOnce() -> u32) {}

    #[inline]
    fn abandoned<R>(&self, (): &mut (), _: impl FnOnce(u32) -> R) -> Option<R> {
        None
    }

    fn set_max<R>(&self, max: u32, set: impl FnOnce(u32) -> R) -> R {
        set(max)
    }
}

impl<T, E> Measure<T, E> for Fixed {
    #[inline]
    fn ended<R>(&self, (): &mut (), _: Result<&T, &E>, _: impl FnOnce(u32) -> R) -> Option<R> {
        None
    }
}
