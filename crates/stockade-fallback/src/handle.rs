//! The switch of the fallback.

use std::sync::{Arc, atomic::AtomicBool};

/// Switches a fallback off and on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FallbackHandle(pub(crate) Arc<Shared>);

stockade_core::switch!(FallbackHandle);

/// What all services of a layer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Option<&'static str>,
    pub(crate) enabled: AtomicBool,
}

// === impl Shared ===

impl Shared {
    /// Switched on.
    pub(crate) fn named(name: Option<&'static str>) -> Arc<Self> {
        Arc::new(Self { name, enabled: AtomicBool::new(true) })
    }
}
