//! Configurations in files.

use std::time::Duration;

use stockade_core::Budget;
use stockade_hedge::{Config, Rule};

const FULL: &str = r#"
rule = { after = "50ms" }
max = 2
budget = "unlimited"
name = "search"
"#;

fn read(toml: &str) -> Result<Config, String> {
    toml::from_str(toml).map_err(|error| error.message().to_owned())
}

fn shown(config: &Config) -> String {
    format!("{config:?}")
}

#[test]
fn a_configuration_that_is_written_can_be_read_again() {
    let config = read(FULL).unwrap();
    let toml = toml::to_string(&config).unwrap();
    assert_eq!(shown(&toml::from_str(&toml).unwrap()), shown(&config), "{toml}");
}

#[test]
fn what_is_written_is_what_is_set_and_the_rest_is_as_ever() {
    let config = read("rule = { percentile = 0.95 }").unwrap();
    assert_eq!(shown(&config), shown(&Config::new(Rule::Percentile(0.95))));
    let mut config = Config::new(Rule::After(Duration::from_millis(50)));
    (config.max, config.budget) = (2, Some(Budget::unlimited()));
    config.name = Some("search".into());
    assert_eq!(shown(&read(FULL).unwrap()), shown(&config));
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
        assert_eq!(read(toml).unwrap_err(), error, "{toml}");
    }
}
