//! Wrong configuration fails where it is written.

use std::{
    panic::{UnwindSafe, catch_unwind, set_hook},
    sync::Mutex,
    time::Duration,
};

use stockade_core::internal::lock;
use stockade_rate::RateLayer;

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

static SEEN: Mutex<Option<(String, String)>> = Mutex::new(None);

/// The message of the panic and the file in which it is said to be.
fn panic_of(configure: impl FnOnce() -> RateLayer + UnwindSafe) -> (String, String) {
    catch_unwind(configure).expect_err("is not allowed");
    lock(&SEEN).take().expect("the hook has run")
}

#[test]
fn wrong_configuration_panics_with_value_and_range_at_the_line_of_the_caller() {
    set_hook(Box::new(|info| {
        let message = info.payload().downcast_ref::<String>().cloned().unwrap_or_default();
        let file = info.location().map(|location| location.file().to_owned()).unwrap_or_default();
        *lock(&SEEN) = Some((message, file));
    }));
    let cases = [
        (panic_of(|| RateLayer::per_second(0)), "RateLayer::per_second: 0 is not allowed"),
        (
            panic_of(|| RateLayer::per_second(1_000_000_001)),
            "RateLayer::per_second: 1000000001 is not allowed, it has to be from 1 to 1000000000",
        ),
        (panic_of(|| RateLayer::new(0, SECOND)), "RateLayer::new, n: 0 is not allowed"),
        (panic_of(|| RateLayer::new(1, Duration::ZERO)), "RateLayer::new, per: 0ns is not allowed"),
        (
            panic_of(|| RateLayer::new(11, Duration::from_nanos(10))),
            "RateLayer::new, n: 11 is not allowed, it has to be from 1 to 10",
        ),
        (
            panic_of(|| RateLayer::new(1, 600 * YEAR)),
            "RateLayer::new, per: 18921600000s is not allowed, it has to be from 1ns to 315360000s",
        ),
        (panic_of(|| RateLayer::new(1, Duration::MAX)), "RateLayer::new, per: 18446744073709"),
        (panic_of(|| RateLayer::per_second(1).burst(0)), "RateLayer::burst: 0 is not allowed"),
        (
            panic_of(|| RateLayer::new(1, 10 * YEAR).burst(3)),
            "RateLayer::burst: 3 is not allowed, it has to be from 1 to 2",
        ),
        (
            panic_of(|| RateLayer::per_second(1).max_wait(Duration::MAX)),
            "RateLayer::max_wait: 18446744073709551615.999999999s is not allowed",
        ),
        (
            panic_of(|| {
                let _ = RateLayer::per_second(1).keyed::<u8, _>(|key: &u8| *key, 0);
                RateLayer::per_second(1)
            }),
            "RateLayer::keyed, max_keys: 0 is not allowed",
        ),
    ];
    for ((message, file), expected) in cases {
        assert!(message.starts_with(expected), "{message}");
        assert!(file.ends_with("configuration.rs"), "{message} at {file}");
    }
}

#[test]
fn the_ends_of_the_ranges_are_allowed() {
    let layers = [
        RateLayer::per_second(1),
        RateLayer::per_second(1_000_000_000).burst(u32::MAX),
        RateLayer::new(1, 10 * YEAR).burst(2),
        RateLayer::new(u32::MAX, 10 * YEAR).queue(0).max_wait(Duration::ZERO),
        RateLayer::new(10, Duration::from_nanos(10)).queue(4_294_967_294).max_wait(10 * YEAR),
    ];
    for (layer, tokens) in layers.into_iter().zip([1, u32::MAX, 2, u32::MAX, 10]) {
        assert_eq!(layer.with_handle().1.available(), tokens);
    }
}
