//! The progress, on standard error: a bar on a terminal, otherwise a line per second.

use std::{
    io::{IsTerminal, stderr},
    pin::pin,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use stockade::breaker::Status;
use tokio::{
    select,
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{plan::Phase, tally::Tally};

#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    began: Instant,
    tally: Tally,
    breaker: watch::Receiver<Status>,
}

// === impl Progress ===

impl Progress {
    pub(crate) fn new(total: u64, tally: Tally, breaker: watch::Receiver<Status>) -> Self {
        let template = "{elapsed_precise} [{bar:30}] {human_pos} of {human_len}, {eta} left, {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is constant");
        let bar = || ProgressBar::new(total).with_style(style.progress_chars("=> "));
        let bar = stderr().is_terminal().then(bar);
        Self { bar, total, began: Instant::now(), tally, breaker }
    }

    /// Shows the progress until `work` is done.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let pause = if self.bar.is_some() { 100 } else { 1_000 };
        let mut ticks = interval(Duration::from_millis(pause));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut work = pin!(work);
        let done = loop {
            select! {
                done = &mut work => break done,
                _ = ticks.tick() => self.show(),
            }
        };
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None => self.show(),
        }
        done
    }

    /// Prints a line above the bar.
    pub(crate) fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.println(what),
            None => eprintln!("{what}"),
        }
    }

    fn show(&self) {
        let counts = self.tally.lock();
        let done: u64 = counts.ended.values().flatten().sum();
        let phase = Phase::ALL.iter().rfind(|p| counts.phases[**p as usize].offered > 0);
        drop(counts);
        let phase = phase.map_or("idle", |phase| phase.as_str());
        let what = format!("{phase}, breaker {}", self.breaker.borrow().state);
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(what);
            }
            None => {
                let seconds = self.began.elapsed().as_secs_f64();
                eprintln!("{seconds:5.1} s  {done} of {} done, {what}", self.total);
            }
        }
    }
}
