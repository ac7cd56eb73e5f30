//! A handle that is polled ready holds a place, or waits in line for one.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    admission::Verdict,
    queue::{Key, Seen, Tag},
    shared::Shared,
};

/// A handle's way to a place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Place {
    #[default]
    None,
    Waiting(Key),
    Held,
}

// === impl Shared ===

impl<Req, T, E> Shared<Req, T, E> {
    /// Ready when `place` is held, or there will be none, which a call will be told then.
    #[inline]
    pub(crate) fn poll_place(
        self: &Arc<Self>,
        place: &mut Place,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        match *place {
            Place::Held => Poll::Ready(()),
            Place::Waiting(key) => {
                let mut waker = Some(cx.waker().clone());
                let seen = self.lock().queue.look(key, false, &mut waker);
                *place = match seen {
                    Seen::Waiting => return Poll::Pending,
                    Seen::Accepted => Place::Held,
                    _ => Place::None,
                };
                Poll::Ready(())
            }
            Place::None => {
                let inside = self.is_inside();
                let mut core = self.lock();
                if core.verdict(Tag::HANDLE, false, inside) == Verdict::Admit {
                    core.queue.held += 1;
                    *place = Place::Held;
                    return Poll::Ready(());
                }
                drop(core);
                self.poll_place_otherwise(place, cx)
            }
        }
    }

    /// There was no place.
    #[cold]
    fn poll_place_otherwise(self: &Arc<Self>, place: &mut Place, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_fair() {
            // A place belongs to a job of some share, which is known when there is one.
            return Poll::Ready(());
        }
        let (waker, since) = (cx.waker().clone(), self.clock());
        let (mut core, verdict, gone) = self.find_place(Tag::HANDLE, false, (true, false));
        match verdict {
            Verdict::Refuse(_) => {}
            Verdict::Wait => *place = Place::Waiting(core.queue.wait_to_hold(waker, since)),
            Verdict::Admit | Verdict::DropOldest => {
                core.queue.held += 1;
                *place = Place::Held;
            }
        }
        self.let_go(core);
        self.shed(gone);
        if matches!(place, Place::Waiting(_)) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Gives back a place, or the wait for one.
    pub(crate) fn leave_place(self: &Arc<Self>, place: &mut Place) {
        match std::mem::take(place) {
            Place::None => {}
            Place::Waiting(key) => self.leave(key, false),
            Place::Held => {
                let mut core = self.lock();
                core.queue.held -= 1;
                core.admit();
                self.see_to(core);
            }
        }
    }
}
