//! Configurations in files.

use std::time::Duration;

use stockade_pool::Config;
use stockade_testkit::{read_toml, round_trip};

const FULL: &str = r#"
workers = { min = 2, max = 16 }
queue = 10
max_waiting = 5
max_wait = "250ms"
idle = "1m"
name = "jobs"
"#;

#[test]
fn a_configuration_that_is_written_can_be_read_again() {
    round_trip::<Config>(FULL);
}

#[test]
fn what_is_written_is_what_is_set_and_the_rest_is_as_ever() {
    let mut config = Config::default();
    assert_eq!(read_toml::<Config>("").unwrap(), config);
    config.workers = 2..=16;
    config.queue = 10;
    config.max_waiting = Some(5);
    config.max_wait = Some(Duration::from_millis(250));
    config.idle = Duration::from_secs(60);
    config.name = Some("jobs".into());
    assert_eq!(read_toml::<Config>(FULL).unwrap(), config);
}

#[test]
fn a_number_of_workers_is_written_as_one() {
    let config = read_toml::<Config>("workers = 16").unwrap();
    assert_eq!(config.workers, 16..=16);
    assert!(toml::to_string(&config).unwrap().starts_with("workers = 16\n"));
}

#[test]
fn what_is_wrong_is_named_with_its_range() {
    for (toml, error) in [
        ("workers = 0", "0 is not allowed, it has to be a whole number from 1 to 1048576"),
        ("workers = -1", "-1 is not allowed, it has to be a whole number from 1 to 1048576"),
        (
            "workers = true",
            "invalid type: boolean `true`, \
             expected a whole number from 1 to 1048576, or a table with min and max",
        ),
        ("workers = { min = 2 }", "missing field `max`"),
        (
            "workers = { max = 0, min = 0 }",
            "0 is not allowed, it has to be a whole number from 1 to 1048576",
        ),
    ] {
        assert_eq!(read_toml::<Config>(toml).unwrap_err(), error, "{toml}");
    }
    let told = read_toml::<Config>("workers = { min = 3, max = 2 }").unwrap_err();
    assert_eq!(told, "min: 3 is above max, 2");
    let mut backwards = Config::default();
    backwards.workers = std::ops::RangeInclusive::new(3, 2);
    let backwards = backwards.try_build::<()>().unwrap_err();
    assert_eq!(
        backwards.to_string(),
        "PoolBuilder::workers: 3 is not allowed, it has to be from 0 to 2",
    );
}
