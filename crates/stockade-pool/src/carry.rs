//! What goes with a job from where it is submitted to the worker: task-locals.

use std::any::Any;

/// Captures something where a job is submitted, and has it around while the job is polled.
pub(crate) trait Carry: Send + Sync {
    fn capture(&self) -> Box<dyn Any + Send>;

    /// Calls `poll` once, with what was captured around it.
    fn enter(&self, captured: &(dyn Any + Send), poll: &mut dyn FnMut());
}

/// [`Carry`] by two functions.
pub(crate) struct Carrying<F, G> {
    pub(crate) capture: F,
    pub(crate) enter: G,
}

impl<C, F, G> Carry for Carrying<F, G>
where
    C: Send + 'static,
    F: Fn() -> C + Send + Sync,
    G: Fn(&C, &mut dyn FnMut()) + Send + Sync,
{
    fn capture(&self) -> Box<dyn Any + Send> {
        Box::new((self.capture)())
    }

    fn enter(&self, captured: &(dyn Any + Send), poll: &mut dyn FnMut()) {
        if let Some(captured) = captured.downcast_ref() {
            (self.enter)(captured, poll);
        }
    }
}
