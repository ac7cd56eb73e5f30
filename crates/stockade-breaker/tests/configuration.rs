//! Configuration that is wrong fails where it is written.

use std::{cell::RefCell, panic, sync::Once, time::Duration};

use stockade_breaker::{BreakerLayer, Config, Slow, State, Window};
use tower::Layer;

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
            "min_calls: 0 is not allowed, it has to be from 1 to 4294967295",
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
        (|| drop(BreakerLayer::new().max_open_for(Duration::ZERO)), "max_open_for: 0ns is"),
        (|| drop(BreakerLayer::new().probe_timeout(Duration::ZERO)), "probe_timeout: 0ns is"),
        (|| drop(BreakerLayer::new().probe_timeout(Duration::MAX)), "probe_timeout: 18"),
        (|| drop(BreakerLayer::new().slow(Duration::ZERO, 0.5)), "slow: 0ns is"),
        (|| drop(BreakerLayer::new().name("x".repeat(1 << 20))), "name: \"xxx"),
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
        .max_open_for(smallest)
        .max_open_for(ten_years)
        .probes(1_000)
        .probe_timeout(smallest)
        .probe_timeout(ten_years)
        .ramp(smallest)
        .ramp(ten_years);
}

#[test]
fn the_same_checks_are_there_as_errors() {
    type Wrong = fn(&mut Config);
    let wrong: [(Wrong, &str); 9] = [
        (|config| config.probes = 0, "probes: 0 is"),
        (|config| config.min_calls = 0, "min_calls: 0 is"),
        (|config| config.consecutive = Some(0), "consecutive: 0 is"),
        (|config| config.failure_rate = f64::NAN, "failure_rate: NaN is"),
        (|config| config.open_for = Duration::ZERO, "open_for: 0ns is"),
        (|config| config.max_open_for = Duration::MAX, "max_open_for: 18"),
        (|config| config.probe_timeout = Some(Duration::MAX), "probe_timeout: 18"),
        (|config| config.ramp = Some(Duration::ZERO), "ramp: 0ns is"),
        (
            |config| config.slow = Some(Slow { after: Duration::from_secs(1), rate: 2.0 }),
            "slow: 2.0 is",
        ),
    ];
    let (_layer, handle) = BreakerLayer::new().with_handle();
    for (make_wrong, expected) in wrong {
        let mut config = Config::default();
        make_wrong(&mut config);
        let built = config.try_build().unwrap_err();
        assert!(built.to_string().starts_with(&format!("BreakerLayer::{expected}")), "{built}");
        assert_eq!(handle.set(config).unwrap_err(), built);
        assert_eq!(handle.config(), Config::default(), "nothing has changed");
    }
    assert!(Window::try_calls(0).is_err() && Window::try_time(Duration::ZERO).is_err());
    assert_eq!(Window::try_calls(7), Ok(Window::calls(7)));
}

#[test]
fn more_min_calls_than_the_window_holds_mean_a_full_window_in_any_order() {
    let window = Window::calls(3);
    let layers = [
        BreakerLayer::new().min_calls(1_000).window(window),
        BreakerLayer::new().window(window).min_calls(1_000),
    ];
    for layer in layers {
        let (_layer, handle) = layer.with_handle();
        for state in [State::Closed, State::Closed, State::Open] {
            handle.admit().unwrap().failure();
            assert_eq!(handle.state(), state);
        }
    }
    let _same = BreakerLayer::new().min_calls(1_000).window(Window::calls(1_000));
}

#[test]
fn a_setter_starts_a_new_state_and_changes_no_clone() {
    let layer = BreakerLayer::new().consecutive(1);
    let (service, other) = (layer.layer(()), layer.clone().name("other").layer(()));
    let (of_layer, handle) = layer.with_handle();
    handle.admit().unwrap().failure();
    assert_eq!(service.handle().state(), State::Open);
    assert_eq!(of_layer.layer(()).handle().state(), State::Open);
    assert_eq!(other.handle().state(), State::Closed);
}
