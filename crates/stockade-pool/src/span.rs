//! The `tracing` span in which a job was submitted: what is told while it runs is told there. Without the feature
//! it is nothing.

#[cfg(feature = "tracing")]
pub(crate) use told::Span;
#[cfg(not(feature = "tracing"))]
pub(crate) use untold::Span;

#[cfg(feature = "tracing")]
mod told {
    use tracing::span::EnteredSpan;

    pub(crate) struct Span(tracing::Span);

    impl Span {
        pub(crate) const NONE: Self = Self(tracing::Span::none());

        /// None, if nobody listens or the caller is in no span.
        #[inline]
        pub(crate) fn current() -> Self {
            Self(tracing::Span::current())
        }

        /// One is in it as long as the guard lives, on this thread.
        #[inline]
        pub(crate) fn enter(&self) -> EnteredSpan {
            self.0.clone().entered()
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod untold {
    pub(crate) struct Span;

    pub(crate) struct Entered;

    impl Span {
        pub(crate) const NONE: Self = Self;

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
