//! What the setters set.

use std::time::Duration;

/// What happens to a new key while there is no place for it; see [`when_full`](crate::KeyedLayer::when_full).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It shares one of the overflow stacks with other such keys.
    #[default]
    Share,
    /// Its call is refused with [`Reason::Shed`](stockade_core::Reason::Shed).
    Refuse,
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) max_keys: usize,
    pub(crate) idle: Duration,
    pub(crate) when_full: WhenFull,
    pub(crate) name: Option<&'static str>,
}

/// How long a key is kept unused if nothing else is set.
pub(crate) const IDLE: Duration = Duration::from_secs(300);
