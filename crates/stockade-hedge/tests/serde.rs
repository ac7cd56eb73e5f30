//! Configurations in files.

use std::time::Duration;

use stockade_core::Budget;
use stockade_hedge::{Config, Rule};
use stockade_testkit::{read_toml, round_trip};

const FULL: &str = r#"
rule = { after = "50ms" }
max = 2
budget = "unlimited"
name = "search"
"#;

fn shown(config: &Config) -> String {
    format!("{config:?}")
}

#[test]
fn a_configuration_that_is_written_can_be_read_again() {
    round_trip::<Config>(FULL);
}

#[test]
fn what_is_written_is_what_is_set_and_the_rest_is_as_ever() {
    let config = read_toml::<Config>("rule = { percentile = 0.95 }").unwrap();
    assert_eq!(shown(&config), shown(&Config::new(Rule::Percentile(0.95))));
    let mut config = Config::new(Rule::After(Duration::from_millis(50)));
    (config.max, config.budget) = (2, Some(Budget::unlimited()));
    config.name = Some("search".into());
    assert_eq!(shown(&read_toml::<Config>(FULL).unwrap()), shown(&config));
}

#[test]
fn what_is_wrong_is_named_with_its_range() {
    for (toml, error) in [
        (
            "rule = { percentile = 95 }",
            "95 is not allowed, it has to be a number from 0.5 to 0.9999",
        ),
        (
            "rule = { after = \"1s\" }\nmax = 11",
            "11 is not allowed, it has to be a whole number from 1 to 10",
        ),
        ("max = 1", "missing field `rule`"),
    ] {
        assert_eq!(read_toml::<Config>(toml).unwrap_err(), error, "{toml}");
    }
}
