//! Configurations in files.

use std::time::Duration;

use stockade_limit::Config;
use stockade_testkit::{read_toml, round_trip};

const FULL: &str = r#"
max = 64
queue = 10
max_wait = "250ms"
name = "db"
"#;

#[test]
fn a_configuration_that_is_written_can_be_read_again() {
    round_trip::<Config>(FULL);
}

#[test]
fn what_is_written_is_what_is_set_and_the_rest_is_as_ever() {
    let mut config = Config::new(64);
    assert_eq!(read_toml::<Config>("max = 64").unwrap(), config);
    config.queue = 10;
    config.max_wait = Some(Duration::from_millis(250));
    config.name = Some("db".into());
    assert_eq!(read_toml::<Config>(FULL).unwrap(), config);
}

#[test]
fn what_is_wrong_is_named_with_its_range() {
    for (toml, error) in [
        ("", "missing field `max`"),
        (
            "max = 1\nque = 3",
            "unknown field `que`, expected one of `max`, `queue`, `max_wait`, `name`",
        ),
        ("max = 0", "0 is not allowed, it has to be a whole number from 1 to 2147483647"),
        ("max = -1", "-1 is not allowed, it has to be a whole number from 1 to 2147483647"),
        (
            "max = true",
            "invalid type: boolean `true`, expected a whole number from 1 to 2147483647",
        ),
        (
            "max = 1\nmax_wait = \"5 parsecs\"",
            "\"5 parsecs\" is not allowed, it has to be a duration, such as \"250ms\" or \"2m 30s\", \
             from 0ns to 315360000s",
        ),
    ] {
        assert_eq!(read_toml::<Config>(toml).unwrap_err(), error, "{toml}");
    }
}
