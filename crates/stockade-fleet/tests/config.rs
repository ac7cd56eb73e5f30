//! A wrong configuration is an error where it is a value, and a panic where it is written down.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{panic::catch_unwind, time::Duration};

use stockade_core::{ConfigError, Name};
use stockade_fleet::{
    Redis, breaker,
    breaker::Quorum,
    rate::{self, Outage, RateLayer},
};

const SECOND: Duration = Duration::from_secs(1);
const TOO_LONG: Duration = Duration::MAX;

fn redis() -> Redis {
    Redis::new("redis://127.0.0.1").unwrap()
}

/// What is wrong with a rate of ten a second that is changed like this, if anything is.
fn of_rate(change: impl FnOnce(&mut rate::Config)) -> Option<ConfigError> {
    let mut config = rate::Config::new(10, SECOND);
    change(&mut config);
    config.try_build(&redis(), "key").err()
}

fn of_quorum(change: impl FnOnce(&mut breaker::Config)) -> Option<ConfigError> {
    let mut config = breaker::Config::new();
    change(&mut config);
    config.try_build(&redis(), "key").err()
}

#[test]
fn every_value_of_a_rate_that_is_not_allowed_is_an_error_that_names_it() {
    assert_eq!(of_rate(|_| {}), None);
    let all = of_rate(|config| {
        (config.burst, config.max_wait) = (Some(1), Some(Duration::ZERO));
        (config.queue, config.lease) = (0, u32::MAX);
        (config.outage, config.name) = (Outage::Share(1), Some("geocoder".into()));
    });
    assert_eq!(all, None);
    let long = Name::from("x".repeat(1_000));
    let rows = [
        ("Config::calls", of_rate(|config| config.calls = 0)),
        ("Config::calls", of_rate(|config| config.per = Duration::from_nanos(9))),
        ("Config::per", of_rate(|config| config.per = Duration::ZERO)),
        ("Config::per", of_rate(|config| config.per = TOO_LONG)),
        ("Config::burst", of_rate(|config| config.burst = Some(0))),
        ("Config::burst", of_rate(|config| config.burst = Some(u32::MAX))),
        ("Config::queue", of_rate(|config| config.queue = usize::MAX)),
        ("Config::max_wait", of_rate(|config| config.max_wait = Some(TOO_LONG))),
        ("Config::lease", of_rate(|config| config.lease = 0)),
        ("Config::outage, Outage::Share", of_rate(|config| config.outage = Outage::Share(0))),
        ("Config::name", of_rate(|config| config.name = Some(long))),
    ];
    for (setting, error) in rows {
        assert_eq!(error.unwrap().setting(), setting);
    }
}

#[test]
fn every_value_of_a_quorum_that_is_not_allowed_is_an_error_that_names_it() {
    assert_eq!(of_quorum(|_| {}), None);
    let rows = [
        ("Config::at_least", of_quorum(|config| config.at_least = Some(0))),
        ("Config::open_for", of_quorum(|config| config.open_for = Duration::ZERO)),
        ("Config::lease", of_quorum(|config| config.lease = TOO_LONG)),
        ("Config::interval", of_quorum(|config| config.interval = Duration::ZERO)),
    ];
    for (setting, error) in rows {
        assert_eq!(error.unwrap().setting(), setting);
    }
}

#[test]
fn a_setter_panics_with_what_the_error_would_say() {
    let layer = || RateLayer::new(&redis(), "key", 10, SECOND);
    type Set = fn(RateLayer) -> RateLayer;
    let panics: [(Set, &str); 5] = [
        (|_| RateLayer::new(&redis(), "key", 0, SECOND), "RateLayer::new, n: 0"),
        (|layer| layer.burst(0), "RateLayer::burst: 0"),
        (|layer| layer.queue(usize::MAX), "RateLayer::queue: 18446744073709551615"),
        (|layer| layer.lease(0), "RateLayer::lease: 0"),
        (|layer| layer.outage(Outage::Share(0)), "RateLayer::outage, Outage::Share: 0"),
    ];
    for (set, expected) in panics {
        let layer = layer();
        let panic = catch_unwind(std::panic::AssertUnwindSafe(|| set(layer))).unwrap_err();
        let said = panic.downcast_ref::<String>().unwrap();
        assert!(said.starts_with(&format!("{expected} is not allowed")), "{said}");
    }
    let quorum = catch_unwind(|| Quorum::at_least(&redis(), "key", 0)).unwrap_err();
    let said = quorum.downcast_ref::<String>().unwrap();
    assert!(said.starts_with("Quorum::at_least, nodes: 0 is not allowed"), "{said}");
}

#[cfg(feature = "serde")]
#[test]
fn a_configuration_is_read_from_a_file_and_written() {
    let mut rate = rate::Config::new(600, SECOND * 60);
    let read = |toml: &str| toml::from_str::<rate::Config>(toml);
    assert_eq!(read("calls = 600\nper = \"1m\"").unwrap(), rate);
    (rate.burst, rate.queue, rate.lease) = (Some(20), 0, 5);
    (rate.max_wait, rate.outage) = (Some(SECOND), Outage::Share(4));
    rate.name = Some(Name::from("geocoder"));
    assert_eq!(read(&toml::to_string(&rate).unwrap()).unwrap(), rate);
    let wrong = read("calls = 600\nper = \"1m\"\noutage = { share = 0 }").unwrap_err();
    assert_eq!(wrong.message(), "0 is not allowed, it has to be a whole number from 1 to 1000000");

    let mut quorum = breaker::Config::new();
    assert_eq!(toml::from_str::<breaker::Config>("").unwrap(), quorum);
    (quorum.at_least, quorum.open_for) = (Some(3), SECOND * 2);
    let written = toml::to_string(&quorum).unwrap();
    assert_eq!(toml::from_str::<breaker::Config>(&written).unwrap(), quorum);
    let wrong = toml::from_str::<breaker::Config>("lease = \"1us\"").unwrap_err();
    assert!(wrong.message().starts_with("\"1us\" is not allowed, it has to be a duration"));
}

#[test]
fn a_handle_shows_what_belongs_in_a_log() {
    let (_, handle) = RateLayer::new(&redis(), "key", 10, SECOND).with_handle();
    let shown = "RateHandle { mode: Shared, waiting: 0, asked: 0, alone: 0 }";
    assert_eq!(format!("{handle:?}"), shown);
}
