//! The `tracing` span in which a job was submitted. The job runs in it, so its events appear there. Without the feature
//! `tracing` this is nothing.

#[cfg(feature = "tracing")]
pub(crate) use with::Span;
#[cfg(not(feature = "tracing"))]
pub(crate) use without::Span;

#[cfg(feature = "tracing")]
mod with {
    use tracing::span::EnteredSpan;

    pub(crate) struct Span(tracing::Span);

    impl Span {
        pub(crate) const NONE: Self = Self(tracing::Span::none());

        #[inline]
        pub(crate) fn is_none(&self) -> bool {
            self.0.is_none()
        }

        /// None if there is no subscriber, or no span.
        #[inline]
        pub(crate) fn current() -> Self {
            Self(tracing::Span::current())
        }

        /// Enters it on this thread, until the guard is dropped.
        #[inline]
        pub(crate) fn enter(&self) -> EnteredSpan {
            self.0.clone().entered()
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod without {
    pub(crate) struct Span;

    pub(crate) struct Entered;

    impl Span {
        pub(crate) const NONE: Self = Self;

        #[inline]
        pub(crate) fn is_none(&self) -> bool {
            true
        }

        #[inline]
        pub(crate) fn current() -> Self {
            Self
        }

        #[inline]
        pub(crate) fn enter(&self) -> Entered {
            Entered
        }
    }
}
