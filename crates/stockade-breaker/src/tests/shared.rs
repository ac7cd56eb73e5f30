//! The shared state from one breaker to the next.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Config, Slow, State,
    call::{End, Stamp},
    shared::Shared,
    state::Machine,
};

/// Opens at the first failure, for a moment only.
const CONFIG: Config =
    Config { consecutive: Some(1), open_for: Duration::from_nanos(1), ..Config::DEFAULT };

/// A breaker that has just opened, and is half-open.
fn half_open() -> Shared {
    let shared = Shared::new();
    shared.begin(CONFIG);
    trip(&shared);
    shared
}

fn trip(shared: &Shared) {
    settle(shared, admit(shared), FAILURE);
    while shared.status() != State::HalfOpen {}
}

const FAILURE: End = End::Failure { answered: true, after: None };

fn admit(shared: &Shared) -> Stamp {
    shared.admit(false).unwrap()
}

fn settle(shared: &Shared, stamp: Stamp, end: End) {
    shared.settle(stamp, end, Duration::ZERO);
}

/// As between two breakers.
fn next_life(shared: &Shared) {
    shared.begin(Config::default());
    shared.begin(CONFIG);
}

fn known(shared: &Shared) -> (State, u32, u32, usize, u64) {
    shared.with(|machine| {
        let seen = machine.snapshot(Instant::now());
        (seen.state, seen.calls, seen.consecutive, seen.probes, seen.opened)
    })
}

const ALL: [End; 4] = [End::Success, FAILURE, End::Ignored, End::Dropped { queued: false }];

#[test]
fn memory_that_is_used_again_knows_nothing_of_its_former_life() {
    for end in ALL {
        let shared = half_open();
        let probes = [(); 2].map(|()| admit(&shared));
        next_life(&shared);
        assert_eq!(known(&shared), (State::Closed, 0, 0, 0, 0));
        settle(&shared, probes[0], end);
        assert_eq!(known(&shared), (State::Closed, 0, 0, 0, 0));
        trip(&shared);
        let _probe = admit(&shared);
        settle(&shared, probes[1], end);
        assert_eq!(known(&shared), (State::HalfOpen, 0, 0, 1, 1));
    }
}

#[test]
fn no_two_lives_have_an_epoch_in_common() {
    let shared = Shared::new();
    let mut last = None;
    for _ in 0..50 {
        shared.begin(CONFIG);
        let first = shared.pass().map(|stamp| stamp.epoch());
        assert!(first > last);
        trip(&shared);
        last = Some(admit(&shared).epoch());
        assert!(last > first);
    }
}

#[test]
fn a_success_of_a_former_life_looks_at_the_lock_although_the_new_one_is_clean() {
    let shared = Shared::new();
    shared.begin(CONFIG);
    let late = shared.pass().unwrap();
    next_life(&shared);
    for _ in 0..100 {
        settle(&shared, admit(&shared), End::Success);
    }
    assert!(shared.ignores_successes_of(shared.pass().unwrap()));
    assert!(!shared.ignores_successes_of(late));
}

#[test]
fn the_receivers_of_a_former_life_see_its_end_and_nothing_of_the_next() {
    let shared = half_open();
    let watch = shared.watch();
    next_life(&shared);
    trip(&shared);
    assert!(watch.has_changed().is_err());
    assert_eq!(*watch.borrow(), State::HalfOpen);
    assert_eq!(*shared.watch().borrow(), State::HalfOpen);
    shared.with(Machine::close);
    assert_eq!(*watch.borrow(), State::HalfOpen);
}

#[test]
fn settings_begin_with_the_life() {
    let shared = Shared::new();
    let slow = Some(Slow { after: Duration::from_secs(1), rate: 0.5 });
    shared.begin(Config { slow, ..CONFIG });
    assert_eq!(shared.pass(), None, "every call needs to know when it began");
    assert!(admit(&shared).admitted.is_some());
    shared.begin(CONFIG);
    assert!(shared.pass().is_some());
    assert_eq!(admit(&shared).admitted, None);
}

mod leases {
    use std::{collections::HashSet, ptr, thread};

    use stockade_core::Fresh;
    use tower_layer::Layer;

    use crate::{
        BreakerLayer, Config,
        shared::{Lease, POOL},
        state::Machine,
    };

    /// More than there are tests that make breakers beside these.
    const OTHERS: usize = 16;

    #[test]
    fn thousands_of_breakers_one_after_the_other_share_a_little_memory() {
        let shared = |_| ptr::from_ref(Lease::new(Config::default()).shared()).addr();
        let all: HashSet<_> = (0..5_000).map(shared).collect();
        assert!(all.len() <= 1 + OTHERS, "{}", all.len());
    }

    #[test]
    fn setters_and_per_service_layers_leave_no_memory_behind() {
        let most = (0..500).map(|_| {
            let layer = BreakerLayer::new().name("search").probes(2).min_calls(3);
            let layer = layer.fresh().per_service();
            let services = [(); 2].map(|()| layer.layer(()));
            drop((layer, services));
            let unused = format!("{POOL:?}");
            unused.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().unwrap()
        });
        let most = most.max().unwrap();
        assert!(most <= 3 + OTHERS, "{most}");
    }

    #[test]
    fn no_two_breakers_have_the_same_memory() {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let lease = Lease::new(Config::default());
                        let fresh = lease.snapshot();
                        assert_eq!((fresh.refused, fresh.opened), (0, 0));
                        lease.shared().with(Machine::force_open);
                        lease.admit(false).unwrap_err();
                        assert_eq!(lease.snapshot().refused, 1);
                    }
                });
            }
        });
    }
}
