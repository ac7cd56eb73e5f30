//! Configuration that is wrong fails where it is written.

use std::{cell::RefCell, panic, sync::Once, time::Duration};

use stockade_breaker::{BreakerLayer, Window};

thread_local! {
    static SAID: RefCell<(String, String)> = RefCell::default();
}

/// Runs `wrong`, and gives the message of its panic and the file it blames.
fn panic_of(wrong: impl FnOnce() + panic::UnwindSafe) -> (String, String) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let message = info.payload().downcast_ref::<String>().cloned().unwrap_or_default();
            let file = info.location().map(|at| at.file().to_owned()).unwrap_or_default();
            SAID.set((message, file));
        }));
    });
    panic::catch_unwind(wrong).expect_err("it is allowed");
    SAID.take()
}

#[test]
fn wrong_configuration_panics_where_it_is_written_with_the_value_and_the_range() {
    let cases: [(fn(), &str); 18] = [
        (|| drop(BreakerLayer::new().ramp(Duration::ZERO)), "ramp: 0ns is"),
        (
            || drop(BreakerLayer::new().probes(0)),
            "probes: 0 is not allowed, it has to be from 1 to 1000",
        ),
        (|| drop(BreakerLayer::new().probes(1001)), "probes: 1001 is"),
        (
            || drop(BreakerLayer::new().min_calls(0)),
            "min_calls: 0 is not allowed, it has to be from 1 to 100",
        ),
        (
            || drop(BreakerLayer::new().min_calls(101)),
            "min_calls: 101 is not allowed, it has to be from 1 to 100",
        ),
        (
            || drop(BreakerLayer::new().min_calls(30).window(Window::calls(29))),
            "min_calls: 30 is not allowed, it has to be from 1 to 29",
        ),
        (|| drop(BreakerLayer::new().consecutive(0)), "consecutive: 0 is"),
        (
            || drop(BreakerLayer::new().failure_rate(0.0)),
            "failure_rate: 0.0 is not allowed, it has to be from 1e-6 to 1.0",
        ),
        (|| drop(BreakerLayer::new().failure_rate(-0.5)), "failure_rate: -0.5 is"),
        (|| drop(BreakerLayer::new().failure_rate(1.1)), "failure_rate: 1.1 is"),
        (|| drop(BreakerLayer::new().failure_rate(f64::NAN)), "failure_rate: NaN is"),
        (|| drop(BreakerLayer::new().failure_rate(f64::INFINITY)), "failure_rate: inf is"),
        (
            || drop(BreakerLayer::new().open_for(Duration::ZERO)),
            "open_for: 0ns is not allowed, it has to be from 1ns to 315360000s",
        ),
        (
            || drop(BreakerLayer::new().open_for(Duration::MAX)),
            "open_for: 18446744073709551615.999999999s is",
        ),
        (|| drop(BreakerLayer::new().probe_timeout(Duration::ZERO)), "probe_timeout: 0ns is"),
        (|| drop(BreakerLayer::new().probe_timeout(Duration::MAX)), "probe_timeout: 18"),
        (|| drop(BreakerLayer::new().slow(Duration::ZERO, 0.5)), "slow: 0ns is"),
        (|| drop(BreakerLayer::new().slow(Duration::from_secs(1), f64::NAN)), "slow: NaN is"),
    ];
    for (wrong, expected) in cases {
        let (message, file) = panic_of(wrong);
        assert!(message.starts_with(&format!("BreakerLayer::{expected}")), "{message}");
        assert!(file.ends_with("configuration.rs"), "{message} blames {file}");
    }
    let (message, file) = panic_of(|| {
        let _ = Window::calls(1_000_001);
    });
    assert!(message.starts_with("Window::calls: 1000001 is"), "{message}");
    assert!(file.ends_with("configuration.rs"), "{file}");
}

#[test]
fn the_bounds_themselves_are_allowed() {
    let ten_years = stockade_core::config::MAX_DURATION;
    let smallest = Duration::from_nanos(1);
    let _ = BreakerLayer::new()
        .window(Window::calls(1))
        .min_calls(1)
        .window(Window::calls(1_000_000))
        .min_calls(1_000_000)
        .window(Window::time(ten_years))
        .min_calls(u32::MAX)
        .failure_rate(1.0)
        .failure_rate(0.000_001)
        .slow(smallest, 1.0)
        .slow(ten_years, 0.000_001)
        .consecutive(u32::MAX)
        .open_for(smallest)
        .open_for(ten_years)
        .probes(1_000)
        .probe_timeout(smallest)
        .probe_timeout(ten_years)
        .ramp(smallest)
        .ramp(ten_years);
}
