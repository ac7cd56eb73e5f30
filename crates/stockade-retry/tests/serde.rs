//! Configurations in files.

use std::time::Duration;

use stockade_core::Budget;
use stockade_retry::{Backoff, Config};
use stockade_testkit::{read_toml, round_trip};

const FULL: &str = r#"
max_attempts = 4
backoff = { exponential = { base = "10ms", cap = "2s", factor = 3.0, jitter = "decorrelated" } }
budget = { ratio = 0.1, per_second = 3.0 }
max_elapsed = "5s"
retry_refusals = "10s"
seed = 7
name = "search"
"#;

#[test]
fn a_configuration_that_is_written_can_be_read_again() {
    round_trip::<Config>(FULL);
}

fn shown(config: &Config) -> String {
    format!("{config:?}")
}

#[test]
fn what_is_written_is_what_is_set_and_the_rest_is_as_ever() {
    let mut config = Config::new(4);
    assert_eq!(shown(&read_toml::<Config>("max_attempts = 4").unwrap()), shown(&config));
    let ms = Duration::from_millis;
    config.backoff = Backoff::exponential(ms(10), ms(2_000)).factor(3.0).decorrelated();
    config.budget = Some(Budget::new(0.1, 3.0));
    config.max_elapsed = Some(ms(5_000));
    config.retry_refusals = Some(ms(10_000));
    config.seed = Some(7);
    config.name = Some("search".into());
    assert_eq!(shown(&read_toml::<Config>(FULL).unwrap()), shown(&config));
}

#[test]
fn each_backoff_can_be_written() {
    let ms = Duration::from_millis;
    for (written, backoff) in [
        (r#"{ constant = "100ms" }"#, Backoff::constant(ms(100))),
        (r#"{ constant = "0s" }"#, Backoff::none()),
        (
            r#"{ exponential = { base = "1ms", cap = "1s" } }"#,
            Backoff::exponential(ms(1), ms(1_000)),
        ),
        (
            r#"{ exponential = { base = "1ms", cap = "1s", jitter = "none" } }"#,
            Backoff::exponential(ms(1), ms(1_000)).without_jitter(),
        ),
    ] {
        let config =
            read_toml::<Config>(&format!("max_attempts = 2\nbackoff = {written}")).unwrap();
        assert_eq!(format!("{:?}", config.backoff), format!("{backoff:?}"), "{written}");
    }
    let mut config = Config::new(2);
    config.backoff = Backoff::custom(|_| Duration::ZERO);
    assert!(toml::to_string(&config).is_err(), "a function cannot be written");
}

#[test]
fn what_is_wrong_is_named_with_its_range() {
    for (toml, error) in [
        ("max_attempts = 0", "0 is not allowed, it has to be a whole number from 1 to 4294967295"),
        (
            "max_attempts = 2\nbackoff = { exponential = { base = \"2s\", cap = \"1s\" } }",
            "cap: 1s is not allowed, it has to be at least `base`, 2s, and at most ten years",
        ),
        (
            "max_attempts = 2\nbackoff = { exponential = { base = \"1s\", cap = \"2s\", factor = nan } }",
            "NaN is not allowed, it has to be a number from 1.0 to 100.0",
        ),
        (
            "max_attempts = 2\nbudget = { ratio = -1 }",
            "-1 is not allowed, it has to be a number from 0.0 to 10.0",
        ),
    ] {
        assert_eq!(read_toml::<Config>(toml).unwrap_err(), error, "{toml}");
    }
}
