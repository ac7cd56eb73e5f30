//! Configurations in files.

use std::time::Duration;

use stockade_pool::Config;

const FULL: &str = r#"
workers = { min = 2, max = 16 }
queue = 10
max_waiting = 5
max_wait = "250ms"
idle = "1m"
name = "jobs"
"#;

fn read(toml: &str) -> Result<Config, String> {
    toml::from_str(toml).map_err(|error| error.message().to_owned())
}

#[test]
fn a_configuration_that_is_written_can_be_read_again() {
    let config = read(FULL).unwrap();
    let toml = toml::to_string(&config).unwrap();
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(shown(&toml::from_str(&toml).unwrap()), shown(&config), "{toml}");
    assert_eq!(shown(&serde_json::from_str(&json).unwrap()), shown(&config), "{json}");
}

fn shown(config: &Config) -> String {
    format!("{config:?}")
}

#[test]
fn what_is_written_is_what_is_set_and_the_rest_is_as_ever() {
    let mut config = Config::default();
    assert_eq!(read("").unwrap(), config);
    config.workers = 2..=16;
    config.queue = 10;
    config.max_waiting = Some(5);
    config.max_wait = Some(Duration::from_millis(250));
    config.idle = Duration::from_secs(60);
    config.name = Some("jobs".into());
    assert_eq!(read(FULL).unwrap(), config);
}

#[test]
fn a_number_of_workers_is_written_as_one() {
    let config = read("workers = 16").unwrap();
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
        assert_eq!(read(toml).unwrap_err(), error, "{toml}");
    }
    let told = read("workers = { min = 3, max = 2 }").unwrap_err();
    assert_eq!(told, "min: 3 is above max, 2");
    let mut backwards = Config::default();
    backwards.workers = std::ops::RangeInclusive::new(3, 2);
    let backwards = backwards.try_build().unwrap_err();
    assert_eq!(
        backwards.to_string(),
        "PoolBuilder::workers: 3 is not allowed, it has to be from 0 to 2",
    );
}
