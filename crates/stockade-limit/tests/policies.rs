//! The arithmetic of the policies, against services made of arithmetic.

use std::time::Duration;

use proptest::prelude::*;
use stockade_limit::{Aimd, Gradient2, Policy, Sample, Vegas};

type Update = Box<dyn FnMut(&Sample) -> f64>;

fn policies() -> [Update; 3] {
    let (mut aimd, mut vegas, mut gradient2) =
        (Aimd::new().slower_than(Duration::from_secs(1)), Vegas::new(), Gradient2::new());
    [
        Box::new(move |sample| aimd.update(sample)),
        Box::new(move |sample| vegas.update(sample)),
        Box::new(move |sample| gradient2.update(sample)),
    ]
}

/// How long a call takes that is one of `in_flight` in a service that works at `servers` of them.
fn round_trip(in_flight: usize, servers: usize) -> Duration {
    Duration::from_millis(10).mul_f64((in_flight as f64 / servers as f64).max(1.0))
}

/// The limits that follow while all of the limit is used.
fn run(policy: &mut impl Policy, from: f64, servers: usize, steps: usize) -> Vec<f64> {
    let mut limit = from;
    let step = |_| {
        let in_flight = limit as usize;
        let sample = Sample::new(limit, in_flight, round_trip(in_flight, servers));
        // Twice what it works at is more than the service takes.
        let sample = if in_flight > 2 * servers { sample.lost() } else { sample };
        limit = policy.update(&sample).clamp(1.0, 1_000.0);
        limit
    };
    (0..steps).map(step).collect()
}

#[test]
fn aimd_saws_between_what_is_too_much_and_a_tenth_less() {
    for from in [1.0, 900.0] {
        let limits = run(&mut Aimd::new(), from, 50, 2_000);
        let late = &limits[1_000..];
        assert!(late.iter().all(|limit| (88.0..102.5).contains(limit)), "{late:?}");
    }
}

/// The one in the middle.
fn median(limits: &[f64]) -> f64 {
    let mut sorted = limits.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[test]
fn vegas_settles_where_few_calls_wait() {
    for from in [1.0, 90.0] {
        let limits = run(&mut Vegas::new(), from, 50, 20_000);
        let late = &limits[10_000..];
        assert!((52.0..=57.0).contains(&median(late)), "{late:?}");
        // Now and then it looks at an empty queue.
        assert!(late.iter().all(|limit| (25.0..=57.0).contains(limit)), "{late:?}");
        assert!(late.iter().filter(|&&limit| limit < 30.0).count() < late.len() / 20, "{late:?}");
    }
}

#[test]
fn vegas_looks_again_and_follows_a_service_that_became_slower() {
    let mut vegas = Vegas::new();
    let mut limit = *run(&mut vegas, 10.0, 50, 10_000).last().unwrap();
    // Every call takes twice as long now, however few there are.
    let step = |_| {
        let in_flight = limit as usize;
        let sample = Sample::new(limit, in_flight, 2 * round_trip(in_flight, 50));
        limit = vegas.update(&sample).max(1.0);
        limit
    };
    let limits: Vec<f64> = (0..20_000).map(step).collect();
    let late = median(&limits[10_000..]);
    assert!((52.0..=57.0).contains(&late), "{late}");
}

#[test]
fn gradient2_shrinks_while_calls_take_longer_than_usual_and_grows_back() {
    let mut gradient2 = Gradient2::new();
    let mut limit = 50.0;
    let mut after = |seconds: f64, rounds: usize| {
        for _ in 0..rounds {
            for _ in 0..limit as usize {
                let sample = Sample::new(limit, limit as usize, Duration::from_secs_f64(seconds));
                limit = gradient2.update(&sample);
            }
        }
        limit
    };
    let usual = after(0.01, 10);
    assert!((60.0..=90.0).contains(&usual), "{usual}");
    let slow = after(0.05, 15);
    assert!(slow < usual / 3.0, "{slow}");
    let again = after(0.01, 50);
    assert!(again > slow + 39.0, "{again}");
}

#[test]
fn gradient2_learns_nothing_about_a_limit_that_is_not_used() {
    let mut gradient2 = Gradient2::new();
    for millis in [1, 1, 1_000] {
        assert_eq!(gradient2.update(&Sample::new(50.0, 10, Duration::from_millis(millis))), 50.0);
    }
}

proptest! {
    #[test]
    fn a_loss_shrinks_the_limit_whatever_came_before(
        limit in 1.0..1e9,
        before in prop::collection::vec((any::<u32>(), any::<bool>()), 0..50),
    ) {
        for mut policy in policies() {
            for &(nanos, used) in &before {
                let in_flight = if used { limit as usize } else { 1 };
                policy(&Sample::new(limit, in_flight, Duration::from_nanos(nanos.into())));
            }
            let after = policy(&Sample::new(limit, limit as usize, Duration::ZERO).lost());
            prop_assert!(after < limit && after >= limit / 2.0, "{} after {}", after, limit);
        }
    }

    #[test]
    fn the_limit_is_always_a_number_and_never_moves_far(
        samples in prop::collection::vec(
            (prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any::<Duration>()], any::<u16>(), 0..10u8),
            1..2_000,
        ),
    ) {
        for mut policy in policies() {
            let mut limit = 20.0;
            for &(round_trip, in_flight, chance) in &samples {
                let sample = Sample::new(limit, in_flight.into(), round_trip);
                let after = policy(&if chance == 0 { sample.lost() } else { sample });
                prop_assert!(after.is_finite(), "{sample:?}");
                // Vegas goes back to where it was after a look at an empty queue.
                prop_assert!(after <= limit * 2.0 + 2.0 && after >= limit / 2.0 - 1.0, "{sample:?}: {after}");
                limit = after.clamp(1.0, 1_000.0);
            }
        }
    }
}
