use std::{
    mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;
use stockade_core::config::{MAX_DURATION, allow};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

use crate::{Change, Error, Reload, file};

/// A file with settings, and how it is read.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_config::{StackConfig, Watch, toml};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("limits.toml");
/// std::fs::write(&path, "[limit]\nmax = 64")?;
/// let watch = Watch::new(&path, toml::<StackConfig>).every(Duration::from_secs(1));
/// let (layer, handle) = watch.read()?.try_build()?.with_handle();
/// let watching = watch.start(handle.clone());
///
/// let mut status = watching.subscribe();
/// std::fs::write(&path, "[limit]\nmax = 32")?;
/// status.changed().await?;
/// assert_eq!(handle.limit.unwrap().max(), 32);
/// assert_eq!(watching.status().changes[0].to_string(), "limit.max from 64 to 32");
/// # drop(layer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is read until it is started"]
pub struct Watch<T> {
    path: PathBuf,
    parse: fn(&str) -> Result<T, Error>,
    every: Duration,
    max_size: u64,
}

/// Follows the file until it is dropped.
#[derive(Debug)]
#[must_use = "the file is followed until this is dropped"]
pub struct Watching {
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

/// What has become of the file.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// How often settings have changed.
    pub generation: u64,
    /// What has changed the last time.
    pub changes: Arc<[Change]>,
    /// Why the file as it is now was refused, if it was: the settings from before are in force.
    pub error: Option<Error>,
}

// === impl Watch ===

impl<T: Serialize> Watch<T> {
    /// The file at `path`, which `parse` understands: [`toml`](crate::toml), [`json`](crate::json()), or a function of
    /// your own. It is read every five seconds, if it is not larger than a megabyte (`2^20` bytes). A file that says
    /// nothing, so that there would be no layer, is refused.
    pub fn new(path: impl AsRef<Path>, parse: fn(&str) -> Result<T, Error>) -> Self {
        let path = path.as_ref().to_owned();
        Self { path, parse, every: Duration::from_secs(5), max_size: 1 << 20 }
    }

    /// How often the file is read. A change is in force once it was read twice: see the [crate].
    ///
    /// # Panics
    ///
    /// If it is not from one millisecond to ten years.
    #[track_caller]
    pub fn every(self, every: Duration) -> Self {
        Self {
            every: allow("Watch::every", every, Duration::from_millis(1)..=MAX_DURATION),
            ..self
        }
    }

    /// How many bytes the file may have. A larger one is refused, and not read.
    pub fn max_size(self, max_size: u64) -> Self {
        Self { max_size, ..self }
    }

    /// Reads the file now, for the start. It blocks the thread while it does.
    ///
    /// # Errors
    ///
    /// What is wrong, with the file.
    pub fn read(&self) -> Result<T, Error> {
        self.parse(&file::read(&self.path, self.max_size)?)
    }

    fn parse(&self, text: &str) -> Result<T, Error> {
        let read = (self.parse)(text).and_then(|config| {
            if serde_json::to_value(&config).is_ok_and(|config| says_nothing(&config)) {
                return Err(Error::new("", "the file is empty: it names no layer"));
            }
            Ok(config)
        });
        read.map_err(|error| error.in_file(&self.path))
    }

    /// Starts a task that reads the file again and again, and puts what is in it into force.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time.
    pub fn start<R: Reload<Config = T>>(self, target: R) -> Watching
    where
        T: Send + 'static,
    {
        let (sender, status) = watch::channel(Status::default());
        Watching { status, task: tokio::spawn(self.follow(target, sender)) }
    }

    async fn follow<R: Reload<Config = T>>(self, target: R, status: watch::Sender<Status>) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was found the last time, and what was dealt with.
        let (mut last, mut done) = (None, None);
        loop {
            ticks.tick().await;
            let (path, max_size) = (self.path.clone(), self.max_size);
            let Ok(found) = spawn_blocking(move || file::read(&path, max_size)).await else {
                return;
            };
            let found = Some(found);
            let before = mem::replace(&mut last, found.clone());
            if found == done || found != before {
                continue;
            }
            let read = found.clone().expect("it was read");
            done = found;
            let outcome = match read.and_then(|text| self.parse(&text)) {
                Ok(config) => {
                    target.reload(config).await.map_err(|error| error.in_file(&self.path))
                }
                Err(error) => Err(error),
            };
            self.tell(&outcome);
            status.send_if_modified(|status| status.update(outcome));
        }
    }

    fn tell(&self, outcome: &Result<Vec<Change>, Error>) {
        #[cfg(not(feature = "tracing"))]
        let _ = outcome;
        #[cfg(feature = "tracing")]
        match outcome {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => {
                let changes: Vec<_> = changes.iter().map(Change::to_string).collect();
                let (file, changes) = (self.path.display(), changes.join(", "));
                tracing::info!(target: "stockade", %file, changes, "settings changed");
            }
            Err(error) => tracing::warn!(target: "stockade", %error, "settings refused"),
        }
    }
}

/// Whether everything in it is absent.
fn says_nothing(config: &Value) -> bool {
    match config {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(says_nothing),
        _ => false,
    }
}

// === impl Watching ===

impl Watching {
    /// What has become of the file so far.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Follows the status. The receiver's `changed` fails once this guard is dropped.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Status ===

impl Status {
    /// Whether that is news.
    fn update(&mut self, outcome: Result<Vec<Change>, Error>) -> bool {
        match outcome {
            Ok(changes) if changes.is_empty() => self.error.take().is_some(),
            Ok(changes) => {
                let generation = self.generation + 1;
                *self = Self { generation, changes: changes.into(), error: None };
                true
            }
            Err(error) => {
                self.error = Some(error);
                true
            }
        }
    }
}
