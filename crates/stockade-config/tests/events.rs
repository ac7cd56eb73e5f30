//! What is told about a file.

#![cfg(feature = "tracing")]

use std::{fs, time::Duration};

use stockade_config::{StackConfig, Watch, toml};
use stockade_testkit::Events;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_change_is_an_event_and_a_file_that_is_refused_a_warning_and_each_is_told_once() {
    let events = Events::of("stockade");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("limits.toml");
    fs::write(&path, "[limit]\nmax = 1").unwrap();
    let watch = Watch::new(&path, toml::<StackConfig>).every(Duration::from_secs(1));
    let (_, handle) = watch.read().unwrap().try_build().unwrap().with_handle();
    let _watching = watch.start(handle);
    let told = async || {
        sleep(Duration::from_secs(10)).await;
        events.take()
    };
    assert_eq!(told().await, [""; 0]);
    fs::write(&path, "[limit]\nmax = 2").unwrap();
    let file = path.display();
    assert_eq!(
        told().await,
        [format!("INFO message=settings changed file={file} changes=\"limit.max from 1 to 2\"")]
    );
    fs::write(&path, "[limit]\nmax = 0").unwrap();
    assert_eq!(
        told().await,
        [format!(
            "WARN message=settings refused error={file}: limit.max: 0 is not allowed, \
             it has to be a whole number from 1 to 2147483647 (line 2)"
        )]
    );
    fs::write(&path, "[limit]\nmax = 2").unwrap();
    assert_eq!(told().await, [""; 0]);
}
