//! What is the user's may panic: it costs one job its answer, and nobody else anything.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

pub(crate) type Panic = Box<dyn Any + Send>;

/// Runs what is the user's; a panic is returned.
pub(crate) fn guard<R>(run: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(run))
}

/// Drops what is the user's; a panic costs nothing.
pub(crate) fn discard<V>(value: V) {
    if let Err(panic) = guard(|| drop(value)) {
        forget(panic);
    }
}

/// Lets go of what a panic came with. A payload that panics when it is dropped is beyond help.
pub(crate) fn forget(panic: Panic) {
    if let Err(another) = guard(|| drop(panic)) {
        std::mem::forget(another);
    }
}

/// What a panic says.
#[cfg(feature = "tracing")]
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "a payload that is no text",
    }
}
