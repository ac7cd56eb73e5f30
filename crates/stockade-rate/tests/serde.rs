//! Configurations in files.

use std::time::Duration;

use stockade_rate::Config;
use stockade_testkit::{read_toml, round_trip};

const FULL: &str = r#"
calls = "64KiB"
per = "1s"
burst = 20
queue = 0
max_wait = "2s"
name = "geocoder"
"#;

#[test]
fn a_configuration_that_is_written_can_be_read_again() {
    round_trip::<Config>(FULL);
}

#[test]
fn what_is_written_is_what_is_set_and_the_rest_is_as_ever() {
    let mut config = Config::new(65_536, Duration::from_secs(1));
    assert_eq!(read_toml::<Config>("calls = 65536\nper = \"1s\"").unwrap(), config);
    config.burst = Some(20);
    config.queue = 0;
    config.max_wait = Some(Duration::from_secs(2));
    config.name = Some("geocoder".into());
    assert_eq!(read_toml::<Config>(FULL).unwrap(), config);
}

#[test]
fn what_is_wrong_is_named_with_its_range() {
    for (toml, error) in [
        ("calls = 1", "missing field `per`"),
        (
            "calls = 0\nper = \"1s\"",
            "0 is not allowed, it has to be a whole number from 1 to 4294967295",
        ),
        (
            "calls = nan\nper = \"1s\"",
            "NaN is not allowed, it has to be a whole number from 1 to 4294967295",
        ),
    ] {
        assert_eq!(read_toml::<Config>(toml).unwrap_err(), error, "{toml}");
    }
    let too_many =
        read_toml::<Config>("calls = 2000\nper = \"1us\"").unwrap().try_build().unwrap_err();
    assert_eq!(
        too_many.to_string(),
        "Config::calls: 2000 is not allowed, it has to be from 1 to 1000",
    );
}
