//! A handle that is polled ready holds a place, or waits in line for one.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use stockade_core::Reason;

use crate::{
    admission::Verdict,
    contain::discard,
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
            Place::Waiting(key) => self.poll_line(place, key, cx.waker().clone()),
            Place::None => {
                let inside = self.is_inside();
                let mut core = self.lock();
                let verdict = core.verdict(Tag::HANDLE, false, inside);
                if verdict == Verdict::Admit {
                    core.queue.held += 1;
                    *place = Place::Held;
                    return Poll::Ready(());
                }
                drop(core);
                self.poll_place_otherwise(place, inside, cx)
            }
        }
    }

    /// There was no place.
    #[cold]
    fn poll_place_otherwise(
        self: &Arc<Self>,
        place: &mut Place,
        inside: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let (waker, since) = (cx.waker().clone(), self.clock());
        let mut core = self.lock();
        let (mut dropped, shed) = (Vec::new(), self.rejected(Reason::Shed));
        match core.verdict(Tag::HANDLE, false, inside) {
            Verdict::Refuse(_) => return Poll::Ready(()),
            // A place belongs to a job of some share, which is known when there is one.
            _ if core.queue.is_fair() => return Poll::Ready(()),
            Verdict::Wait => {
                let key = core.queue.wait_to_hold(waker, since);
                *place = Place::Waiting(key);
                drop(core);
                if self.scale.is_some() {
                    self.add_workers(0);
                }
                // The new workers may have made room already.
                return self.poll_line(place, key, cx.waker().clone());
            }
            verdict @ Verdict::DropOldest => {
                core.make_room(Tag::HANDLE, (verdict, false), shed, &mut dropped);
            }
            Verdict::Admit => {}
        }
        core.queue.held += 1;
        *place = Place::Held;
        self.let_go(core);
        dropped.into_iter().for_each(|job| discard(job.into_request(shed)));
        Poll::Ready(())
    }

    /// Whether a handle that waits for a place has one.
    fn poll_line(&self, place: &mut Place, key: Key, waker: Waker) -> Poll<()> {
        let mut waker = Some(waker);
        let seen = self.lock().queue.look(key, false, &mut waker);
        *place = match seen {
            Seen::Waiting => return Poll::Pending,
            Seen::Accepted => Place::Held,
            _ => Place::None,
        };
        Poll::Ready(())
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
