//! A file that is followed while it changes, breaks and comes back.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::PathBuf,
    time::Duration,
};

use common::{FULL, config};
use stockade_config::{Error, StackConfig, StackHandle, Status, Watch, Watching, json, toml};
use tempfile::TempDir;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// A file that is followed, and the stack whose settings are in it.
struct Followed {
    directory: TempDir,
    path: PathBuf,
    handle: StackHandle,
    watching: Watching,
}

impl Followed {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("limits.toml");
        fs::write(&path, text).unwrap();
        Self::start(directory, path)
    }

    fn start(directory: TempDir, path: PathBuf) -> Self {
        let watch = Watch::new(&path, toml::<StackConfig>).every(SECOND);
        let (_, handle) = watch.read().unwrap().try_build().unwrap().with_handle();
        let watching = watch.start(handle.clone());
        Self { directory, path, handle, watching }
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
    }

    fn max(&self) -> usize {
        self.handle.limit.as_ref().unwrap().max()
    }

    /// After the file was read twice.
    async fn status(&self) -> Status {
        sleep(SECOND * 5 / 2).await;
        self.watching.status()
    }

    /// What is wrong, without the path of the file, which is checked.
    async fn refused(&self) -> String {
        let before = self.handle.config();
        let status = self.status().await;
        assert_eq!(format!("{:?}", self.handle.config()), format!("{before:?}"));
        let error = status.error.expect("it is refused");
        assert_eq!(error.file(), Some(self.path.as_path()));
        let told = error.to_string();
        told.strip_prefix(&format!("{}: ", self.path.display())).unwrap().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_in_which_there_is_nothing_is_refused() {
    let told = "the file is empty: it names no layer";
    let followed = Followed::new("[limit]\nmax = 4");
    for empty in ["", " \n", "# nothing\n  # at all"] {
        followed.write(empty);
        assert_eq!(followed.refused().await, told);
        let error = Watch::new(&followed.path, toml::<StackConfig>).read().unwrap_err();
        assert_eq!(error.reason(), told);
    }
    assert_eq!(followed.max(), 4);
    for empty in ["{}", r#"{"limit": null}"#] {
        followed.write(empty);
        let error = Watch::new(&followed.path, json::<StackConfig>).read().unwrap_err();
        assert_eq!(error.reason(), told);
    }
    followed.write("[search]\n[orders]");
    let stacks = toml::<std::collections::BTreeMap<String, StackConfig>>;
    assert_eq!(Watch::new(&followed.path, stacks).read().unwrap_err().reason(), told);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_in_force_after_it_was_read_twice() {
    let file = Followed::new("[limit]\nmax = 64");
    assert_eq!(file.status().await, Status::default(), "nothing has changed");
    file.write("[limit]\nmax = 32");
    sleep(SECOND).await;
    assert_eq!(file.max(), 64);
    sleep(SECOND).await;
    assert_eq!(file.max(), 32);
    let status = file.watching.status();
    assert_eq!((status.generation, status.error), (1, None));
    assert_eq!(status.changes[0].to_string(), "limit.max from 64 to 32");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_written_in_steps_is_not_taken_before_its_end() {
    let file = Followed::new(FULL);
    let whole = FULL.replace("max = 4", "max = 7");
    let mut read = 0;
    for end in (0..whole.len()).step_by(7) {
        file.write(&whole[..end]);
        sleep(SECOND).await;
        assert_eq!((file.max(), file.watching.status()), (4, Status::default()));
        read += 1;
    }
    assert!(read > 20);
    file.write(&whole);
    assert_eq!(file.status().await.error, None);
    assert_eq!(file.max(), 7);
}

#[tokio::test(start_paused = true)]
async fn links_that_are_swapped_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, max) in [("1", 1), ("2", 2)] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("limits.toml"), format!("[limit]\nmax = {max}")).unwrap();
    }
    symlink("1", at("data")).unwrap();
    let path = at("limits.toml");
    symlink("data/limits.toml", &path).unwrap();
    let (next, data) = (at("next"), at("data"));
    let file = Followed::start(directory, path);
    assert_eq!(file.max(), 1);
    symlink("2", &next).unwrap();
    fs::rename(&next, &data).unwrap();
    assert_eq!(file.status().await.error, None);
    assert_eq!(file.max(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_file_that_is_wrong_is_refused_with_what_is_wrong_and_the_settings_stay() {
    let file = Followed::new(FULL);
    let duration = "a duration, such as \"250ms\" or \"2m 30s\",";
    for (from, to, told) in [
        (
            "max = 4",
            "max = 0",
            "limit.max: 0 is not allowed, it has to be a whole number from 1 to 2147483647 (line 18)".to_owned(),
        ),
        (
            "max = 4",
            "max = -4",
            "limit.max: -4 is not allowed, it has to be a whole number from 1 to 2147483647 (line 18)".to_owned(),
        ),
        (
            "max = 4",
            "max = 4\nmaxx = 4",
            "limit.maxx: unknown field `maxx`, expected one of `max`, `queue`, `max_wait`, `name` (line 19)".to_owned(),
        ),
        ("max = 4", "max = 4\nmax = 5", "duplicate key `max` (line 19)".to_owned()),
        (
            "max = 4",
            "max = [4]",
            "limit.max: invalid type: sequence, expected a whole number from 1 to 2147483647 (line 18)".to_owned(),
        ),
        (
            "\"200ms\"",
            "\"5 parsecs\"",
            format!("attempt_timeout.limit: \"5 parsecs\" is not allowed, it has to be {duration} from 1ns to 315360000s (line 21)"),
        ),
        (
            "probes = 3",
            "failure_rate = nan",
            "breaker.failure_rate: NaN is not allowed, it has to be a number from 1e-6 to 1.0 (line 12)".to_owned(),
        ),
        ("[limit]", "[limits]", "limits: unknown section `limits`, expected one of `timeout`, `retry`, `breaker`, `rate`, `limit`, `attempt_timeout`, `pool` (line 17)".to_owned()),
        (
            "per = \"1s\"",
            "per = \"100ns\"",
            "rate.calls: 1000 is not allowed, it has to be from 1 to 100".to_owned(),
        ),
        (
            "seed = 7",
            "seed = 8",
            "retry.seed: it cannot change from 7 to 8 at run time; it needs a restart".to_owned(),
        ),
    ] {
        assert!(FULL.contains(from), "{from}");
        file.write(&FULL.replace("\"30s\"", "\"20s\"").replacen(from, to, 1));
        assert_eq!(file.refused().await, told);
        file.write(FULL);
        assert_eq!(file.status().await.error, None, "it is mended");
    }
    assert_eq!(file.watching.status().generation, 0);
}

#[tokio::test(start_paused = true)]
async fn half_a_file_is_refused() {
    let file = Followed::new(FULL);
    let half = FULL.find("\"200ms\"").unwrap() + 3;
    file.write(&FULL[..half]);
    assert_eq!(file.refused().await, "invalid basic string, expected `\"` (line 21)");
    file.write("");
    assert_eq!(file.refused().await, "the file is empty: it names no layer");
    file.write(&FULL[..FULL.find("[attempt_timeout]").unwrap()]);
    assert_eq!(
        file.refused().await,
        "attempt_timeout: a layer cannot go at run time; it needs a restart; the same holds for pool"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_file_is_refused() {
    let file = Followed::new(FULL);
    fs::remove_file(&file.path).unwrap();
    assert_eq!(file.refused().await, "it cannot be read: No such file or directory (os error 2)");
    fs::create_dir(&file.path).unwrap();
    assert_eq!(file.refused().await, "it is not a file");
    fs::remove_dir(&file.path).unwrap();
    symlink(&file.path, &file.path).unwrap();
    let told = file.refused().await;
    assert!(told.starts_with("it cannot be read: Too many levels of symbolic links"), "{told}");
    fs::remove_file(&file.path).unwrap();
    fs::write(&file.path, b"max = \xff").unwrap();
    assert_eq!(file.refused().await, "it is not UTF-8 text");
    file.write(&FULL.replace("max = 4", "max = 5"));
    assert_eq!(file.status().await.error, None);
    assert_eq!(file.max(), 5);
    drop(file.directory);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_a_gigabyte_is_refused_without_being_read() {
    let file = Followed::new(FULL);
    let sparse = File::create(&file.path).unwrap();
    // A terabyte would not fit into memory, and would take minutes.
    for (size, told) in [(1 << 30, "1073741824"), (1 << 40, "1099511627776")] {
        sparse.set_len(size).unwrap();
        let told = format!("{told} bytes are not allowed, it has to be up to 1048576");
        assert_eq!(file.refused().await, told);
    }
    let largest = Watch::new(&file.path, toml::<StackConfig>).max_size(1);
    file.write("ab");
    assert_eq!(
        largest.read().unwrap_err().to_string(),
        format!("{}: 2 bytes are not allowed, it has to be up to 1", file.path.display())
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_told_once_and_a_file_that_is_mended_too() {
    let file = Followed::new(FULL);
    let mut status = file.watching.subscribe();
    file.write("[limit]\nmax = 0");
    status.changed().await.unwrap();
    assert!(status.borrow_and_update().error.is_some());
    sleep(SECOND * 60).await;
    assert!(!status.has_changed().unwrap());
    file.write(FULL);
    status.changed().await.unwrap();
    assert_eq!(*status.borrow_and_update(), Status::default());
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_its_guard() {
    let Followed { directory, path, handle, watching } = Followed::new("[limit]\nmax = 64");
    let mut status = watching.subscribe();
    sleep(SECOND * 3).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
    drop(watching);
    assert!(status.changed().await.is_err());
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    fs::write(&path, "[limit]\nmax = 32").unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(handle.limit.unwrap().max(), 64);
    drop(directory);
}

#[test]
fn json_says_the_same() {
    for (text, told) in [
        (
            r#"{"limit": {"max": 0}}"#,
            "limit.max: 0 is not allowed, it has to be a whole number from 1 to 2147483647 at line 1 column 19",
        ),
        (r#"{"limit": {"max": 1, "max": 2}}"#, "limit: duplicate field `max` at line 1 column 26"),
        (r#"{"limit": {"max": 1"#, "limit: EOF while parsing an object at line 1 column 19"),
        (r#"{"limit": {}}"#, "limit: missing field `max` at line 1 column 12"),
        (r#"{} x"#, "trailing characters at line 1 column 4"),
        (r#"[]x"#, "trailing characters at line 1 column 3"),
    ] {
        let error: Error = json::<StackConfig>(text).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
}

#[test]
fn the_settings_in_force_can_be_written_and_read_again() {
    let (_, handle) = config(FULL).try_build().unwrap().with_handle();
    let written = handle.config();
    let in_json = json::<StackConfig>(&serde_json::to_string(&written).unwrap()).unwrap();
    let in_toml = toml::<StackConfig>(&::toml::to_string(&written).unwrap()).unwrap();
    for read in [in_json, in_toml] {
        assert_eq!(format!("{read:?}"), format!("{written:?}"));
        assert_eq!(handle.check(&read), Ok(vec![]), "nothing has changed");
    }
}
