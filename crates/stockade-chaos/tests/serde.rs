//! Configurations in files.

use std::time::Duration;

use stockade_chaos::{Config, Latency};
use stockade_testkit::{read_toml, round_trip};

const FULL: &str = r#"
latency = 0.1
length = { between = ["50ms", "500ms"] }
reject = 0.2
hang = 0.01
panic = 0.02
name = "search"
"#;

#[test]
fn a_configuration_that_is_written_can_be_read_again() {
    round_trip::<Config>(FULL);
}

#[test]
fn what_is_written_is_what_is_set_and_the_rest_is_as_ever() {
    let ms = Duration::from_millis;
    assert_eq!(read_toml::<Config>("").unwrap(), Config::default());
    let mut config = Config::default();
    (config.latency, config.length) = (0.1, Some(Latency::from(ms(50)..=ms(500))));
    (config.reject, config.hang, config.panic) = (0.2, 0.01, 0.02);
    config.name = Some("search");
    assert_eq!(read_toml::<Config>(FULL).unwrap(), config);
    config.length = Some(Latency::exponential(ms(20)));
    let exponential = "length = { exponential = \"20ms\" }";
    assert_eq!(read_toml::<Config>(exponential).unwrap().length, config.length);
}

#[test]
fn what_is_wrong_is_named_with_its_range() {
    for (toml, error) in [
        ("hang = nan", "NaN is not allowed, it has to be a number from 0.0 to 1.0"),
        ("panic = -1", "-1 is not allowed, it has to be a number from 0.0 to 1.0"),
        (
            "error = 0.5",
            "unknown field `error`, expected one of `latency`, `length`, `reject`, `hang`, `panic`, `name`",
        ),
    ] {
        assert_eq!(read_toml::<Config>(toml).unwrap_err(), error, "{toml}");
    }
    let endless = read_toml::<Config>("latency = 0.5").unwrap().try_build(1).unwrap_err();
    assert_eq!(
        endless.to_string(),
        "ChaosLayer::length: None is not allowed, it has to be set, because latency is"
    );
    let empty = read_toml::<Config>("length = { between = [\"2s\", \"1s\"] }")
        .unwrap()
        .try_build(1)
        .unwrap_err();
    assert_eq!(
        empty.to_string(),
        "ChaosLayer::latency: 2s is not allowed, it has to be from 0ns to 1s"
    );
}
