//! What a future seldom holds when it is dropped.

use std::{
    fmt,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
};

/// A value, or nothing once it is taken, that is dropped out of line.
///
/// The future of a call can hold what only slow calls need, a place in a queue or a clone of the service, and what
/// is taken from it when the call ends. The code that drops these is large, and mostly there is nothing to drop.
/// The compiler would put it where each call's future is dropped, or else make that a call of its own, layer by
/// layer. In here it is one branch that is not taken, and what is left of dropping a finished future
/// disappears into its caller.
///
/// # Example
///
/// ```
/// use stockade_core::internal::Cold;
///
/// let mut waiting = Cold::new(Box::new(String::from("in line")));
/// waiting.push('!');
/// assert_eq!(waiting.take().as_deref().map(String::as_str), Some("in line!"));
/// assert!(waiting.is_taken());
/// ```
pub struct Cold<T>(
    // Lest the compiler adds its own check and code to drop it.
    Option<ManuallyDrop<T>>,
);

const TAKEN: &str = "it is used until it is taken";

// === impl Cold ===

impl<T> Cold<T> {
    /// Keeps `value`.
    pub const fn new(value: T) -> Self {
        Self(Some(ManuallyDrop::new(value)))
    }

    /// Nothing.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Takes the value, if it is there yet. What is taken is dropped as anything else.
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        self.0.take().map(ManuallyDrop::into_inner)
    }

    /// The value, if it is there yet.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The value, if it is there yet.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// Whether there is nothing any more.
    #[inline]
    pub const fn is_taken(&self) -> bool {
        self.0.is_none()
    }
}

impl<T> Drop for Cold<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.is_taken() {
            drop_apart(self);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_apart<T>(rare: &mut Cold<T>) {
    drop(rare.take());
}

/// # Panics
///
/// Once it is taken.
impl<T> Deref for Cold<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.get().expect(TAKEN)
    }
}

/// # Panics
///
/// Once it is taken.
impl<T> DerefMut for Cold<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.get_mut().expect(TAKEN)
    }
}

impl<T: fmt::Debug> fmt::Debug for Cold<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cold").field(&self.get()).finish()
    }
}
