//! The `tracing` span in which a job was submitted. The job runs in it, so its events appear there. Without the feature
//! `tracing` this is nothing.

pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

/// Leaves the span when it is dropped.
pub(crate) struct Entered {
    #[cfg(feature = "tracing")]
    _span: tracing::span::EnteredSpan,
}

impl Span {
    pub(crate) const NONE: Self = Self {
        #[cfg(feature = "tracing")]
        span: tracing::Span::none(),
    };

    /// None if there is no subscriber, or no span.
    #[inline]
    pub(crate) fn current() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            span: tracing::Span::current(),
        }
    }

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        #[cfg(feature = "tracing")]
        return self.span.is_none();
        #[cfg(not(feature = "tracing"))]
        true
    }

    /// Enters it on this thread, until the guard is dropped.
    #[inline]
    pub(crate) fn enter(&self) -> Entered {
        Entered {
            #[cfg(feature = "tracing")]
            _span: self.span.clone().entered(),
        }
    }
}
