//! What is usually gone by the time a future is dropped.

use std::{
    fmt,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
};

/// A value that can be taken out, and whose drop code is kept out of the hot path.
///
/// The future of a call has room for what only slow calls need, such as a place in a queue or a clone of the
/// service, and for what is taken out when the call ends. The code that drops these is large, and usually there is
/// nothing to drop. The compiler would inline all of it wherever a call's future is dropped, layer by layer. In a
/// `Cold` it is one branch that is not taken, so dropping a finished future costs next to nothing.
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
    // `ManuallyDrop` keeps the compiler from adding a check and drop code of its own.
    Option<ManuallyDrop<T>>,
);

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

    /// Keeps `value`, where nothing was kept: it is written in its place, and nothing is looked at or dropped.
    #[inline]
    pub fn put(&mut self, value: T) {
        debug_assert!(self.is_taken(), "what was kept would not be dropped");
        self.0 = Some(ManuallyDrop::new(value));
    }

    /// Takes the value, if it is still there. It is then dropped like any other value.
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        self.0.take().map(ManuallyDrop::into_inner)
    }

    /// The value, if it is still there.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The value, if it is still there.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// Whether there is no value.
    #[inline]
    pub const fn is_taken(&self) -> bool {
        self.0.is_none()
    }
}

impl<T> Drop for Cold<T> {
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn drop(&mut self) {
        if !self.is_taken() {
            drop_apart(self);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_apart<T>(cold: &mut Cold<T>) {
    if let Some(value) = cold.0.take() {
        drop(ManuallyDrop::into_inner(value));
    }
}

/// # Panics
///
/// If there is no value.
impl<T> Deref for Cold<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => taken(),
        }
    }
}

/// # Panics
///
/// If there is no value.
impl<T> DerefMut for Cold<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(value) => value,
            None => taken(),
        }
    }
}

#[cold]
fn taken() -> ! {
    panic!("it is not used after it was taken")
}

impl<T: fmt::Debug> fmt::Debug for Cold<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cold").field(&self.get()).finish()
    }
}
