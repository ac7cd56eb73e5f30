//! Configurations in files.

use std::time::Duration;

use stockade_testkit::{read_toml, round_trip};
use stockade_timeout::Config;

const FULL: &str = r#"
limit = "1m 30s"
readiness = true
name = "search"
"#;

#[test]
fn a_configuration_that_is_written_can_be_read_again() {
    round_trip::<Config>(FULL);
}

#[test]
fn what_is_written_is_what_is_set_and_the_rest_is_as_ever() {
    let mut config = Config::new(Duration::from_secs(90));
    assert_eq!(read_toml::<Config>("limit = \"90s\"").unwrap(), config);
    config.readiness = true;
    config.name = Some("search".into());
    assert_eq!(read_toml::<Config>(FULL).unwrap(), config);
}

#[test]
fn what_is_wrong_is_named_with_its_range() {
    let allowed = "a duration, such as \"250ms\" or \"2m 30s\", from 1ns to 315360000s";
    for (toml, error) in [
        ("limit = \"0s\"", format!("\"0s\" is not allowed, it has to be {allowed}")),
        ("limit = \"20years\"", format!("\"20years\" is not allowed, it has to be {allowed}")),
        ("limit = 5", format!("5 is not allowed, it has to be {allowed}")),
        ("limit = [5]", format!("invalid type: sequence, expected {allowed}")),
    ] {
        assert_eq!(read_toml::<Config>(toml).unwrap_err(), error, "{toml}");
    }
}
