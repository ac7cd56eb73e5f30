//! A place in the line of the timer that is kept from one call to the next, and taken without a lock.
//!
//! Whoever makes one call after the other would enter the line and leave it each time. A standby stays in the line
//! instead: to take it is to write down when the call is due, and to free it is to write that nobody is. Who
//! watches the line finds out when the standby comes up: at an instant that some call was due at, which may long
//! be over. Then it is removed if it is free, and put back to where it belongs if another call has it.
//!
//! Three things have to hold. A standby has one owner at a time, who alone takes and frees it. What is marked "under the
//! lock" is done under the lock of the line. And the two sides agree on who acts last: the owner writes
//! [`due`](Standby::due) and then reads [`state`](Standby::state), who watches the line writes `state` and then reads
//! `due`, all in one order (`SeqCst`). So either the owner sees that the standby has left the line, and enters it
//! anew, or who watches sees the new call, and puts it back.

use super::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

/// A place in line that is kept from one call to the next.
#[derive(Debug)]
pub(crate) struct Standby {
    /// When the call is due that has it, or [`FREE`].
    due: AtomicU64,
    /// For when it is in line; under the lock.
    at: AtomicU64,
    /// Written under the lock.
    state: AtomicU8,
}

/// What becomes of a standby that has come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CalledUp {
    /// No call has it. It has left the line.
    Free,
    /// The call is due. It has left the line.
    Due,
    /// The call is due then, and has to be put in line for it.
    Later(u64),
}

/// No call is due.
const FREE: u64 = u64::MAX;

const OUT: u8 = 0;
const IN_LINE: u8 = 1;
/// In a line that nobody watches any more.
const LOST: u8 = 2;

// === impl Standby ===

impl Standby {
    pub(crate) const fn new() -> Self {
        Self { due: AtomicU64::new(FREE), at: AtomicU64::new(0), state: AtomicU8::new(OUT) }
    }

    /// Whether no call has it.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.due.load(Acquire) == FREE
    }

    /// Takes it for a call. If that fails, it has to be put in line under the lock.
    #[inline]
    pub(crate) fn take(&self, due: u64) -> bool {
        self.due.swap(due, SeqCst);
        self.state.load(SeqCst) == IN_LINE && self.at.load(Relaxed) <= due
    }

    /// Whether it is in a line that nobody watches any more, and is better taken out of it before it is freed.
    #[inline]
    pub(crate) fn is_lost(&self) -> bool {
        self.state.load(Relaxed) == LOST
    }

    /// The call has ended. From now on it may belong to another.
    #[inline]
    pub(crate) fn free(&self) {
        self.due.store(FREE, Release);
    }

    /// Whether it is in a line that somebody watches. The owner may see for a moment that it is not, while it is put
    /// back, but not under the lock.
    #[inline]
    pub(crate) fn is_in_line(&self) -> bool {
        self.state.load(Acquire) == IN_LINE
    }

    /// Whether it has left the line; under the lock.
    pub(crate) fn is_out(&self) -> bool {
        self.state.load(Relaxed) == OUT
    }

    /// It has been put in line; under the lock.
    pub(crate) fn put(&self, at: u64) {
        self.at.store(at, Relaxed);
        self.state.store(IN_LINE, SeqCst);
    }

    /// It has been taken out of the line by its owner; under the lock.
    pub(crate) fn take_out(&self) {
        self.state.store(OUT, SeqCst);
    }

    /// It has come up; under the lock.
    pub(crate) fn call_up(&self, now: u64) -> CalledUp {
        self.state.swap(OUT, SeqCst);
        match self.due.load(SeqCst) {
            FREE => CalledUp::Free,
            due if due <= now => CalledUp::Due,
            due => CalledUp::Later(due),
        }
    }

    /// Nobody watches the line any more; under the lock. Tells whether a call has it; if not, it has left.
    pub(crate) fn lose(&self) -> bool {
        self.state.swap(LOST, SeqCst);
        let taken = self.due.load(SeqCst) != FREE;
        if !taken {
            self.take_out();
        }
        taken
    }
}
