//! A call that several callers share under a model checker: three callers, some of which leave, and one that lets it end.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use shuttle::{
    future::block_on,
    rand::{Rng, thread_rng},
    thread,
};
use stockade_testkit::schedules;

use crate::{calls::Calls, handle::Shared};

const CALLERS: usize = 3;
const KEY: u8 = 1;

/// Lets the call end. It is not made of what the checker controls, so it stands still between two of its steps.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// A call that ends when the gate is open.
struct Gated(Arc<Gate>);

impl Future for Gated {
    type Output = Result<u8, ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.0.open.load(SeqCst) {
            return Poll::Ready(Ok(7));
        }
        let old = self.0.waker.lock().expect("nobody panics under it").replace(cx.waker().clone());
        drop(old);
        // The others come while it is polled.
        pause();
        Poll::Pending
    }
}

impl Gate {
    fn open(&self) {
        self.open.store(true, SeqCst);
        let waker = self.waker.lock().expect("nobody panics under it").take();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Lets the other threads do some of their steps, or many.
fn pause() {
    (0..thread_rng().gen_range(0..30)).for_each(|_| thread::yield_now());
}

/// Joins the call, and waits for its end or leaves on the way.
fn join(calls: &Arc<Calls<u8, Gated>>, gate: &Arc<Gate>) {
    let (mut caller, leads) = calls.join(KEY);
    if leads {
        caller.begin(|| Gated(Arc::clone(gate)));
    }
    if thread_rng().gen_bool(0.5) {
        for _ in 0..thread_rng().gen_range(0..3) {
            let _ = block_on(poll_fn(|cx| Poll::Ready(caller.poll(cx))));
        }
        return;
    }
    // It hangs, which the checker tells, if a wake is lost.
    block_on(poll_fn(|cx| caller.poll(cx)));
    assert!(matches!(caller.end(), Ok(Ok(7))));
}

#[test]
fn whoever_leaves_when_the_others_hear_of_the_end() {
    schedules(|| {
        let shared = Arc::new(Shared::new());
        let (calls, gate) = (Arc::new(Calls::new(Arc::clone(&shared))), Arc::new(Gate::default()));
        let threads: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (calls, gate) = (Arc::clone(&calls), Arc::clone(&gate));
                thread::spawn(move || join(&calls, &gate))
            })
            .collect();
        pause();
        gate.open();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        assert_eq!(shared.in_flight.load(SeqCst), 0);
    });
}
