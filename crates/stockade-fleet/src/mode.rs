//! Who decides: the fleet, or a node alone.

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// All nodes together, in Redis.
    Shared,
    /// This node alone, because the Redis could not be asked.
    Alone,
}
