//! Configurations in files.

use std::time::Duration;

use stockade_breaker::{Config, Slow, Window};
use stockade_testkit::{read_toml, round_trip};

const FULL: &str = r#"
window = { time = "30s" }
failure_rate = 0.25
slow = { after = "2s", rate = 0.5 }
consecutive = 7
min_calls = 10
open_for = "1s"
max_open_for = "10s"
probes = 2
probe_timeout = "3s"
ramp = "4s"
observe_only = true
enabled = false
name = "search"
"#;

#[test]
fn a_configuration_that_is_written_can_be_read_again() {
    round_trip::<Config>(FULL);
}

#[test]
fn what_is_written_is_what_is_set_and_the_rest_is_as_ever() {
    let mut config = Config::default();
    assert_eq!(read_toml::<Config>("").unwrap(), config);
    let seconds = Duration::from_secs;
    config.window = Window::time(seconds(30));
    config.failure_rate = 0.25;
    config.slow = Some(Slow { after: seconds(2), rate: 0.5 });
    config.consecutive = Some(7);
    config.min_calls = 10;
    config.open_for = seconds(1);
    config.max_open_for = seconds(10);
    config.probes = 2;
    config.probe_timeout = Some(seconds(3));
    config.ramp = Some(seconds(4));
    config.observe_only = true;
    config.enabled = false;
    config.name = Some("search");
    assert_eq!(read_toml::<Config>(FULL).unwrap(), config);
}

#[test]
fn what_is_wrong_is_named_with_its_range() {
    for (toml, error) in [
        (
            "window = { calls = 0 }",
            "0 is not allowed, it has to be a whole number from 1 to 1000000",
        ),
        ("failure_rate = nan", "NaN is not allowed, it has to be a number from 1e-6 to 1.0"),
        ("failure_rate = -0.5", "-0.5 is not allowed, it has to be a number from 1e-6 to 1.0"),
        ("probes = -3", "-3 is not allowed, it has to be a whole number from 1 to 1000"),
        ("slow = { after = \"1s\" }", "missing field `rate`"),
    ] {
        assert_eq!(read_toml::<Config>(toml).unwrap_err(), error, "{toml}");
    }
}
