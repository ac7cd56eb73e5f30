//! How far a run is: a bar with the time left on a terminal, else a line now and then.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// How far it is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    begin: Instant,
    said: Instant,
    all: f64,
    done: f64,
    section: String,
}

/// How long to be silent between two lines.
const SILENCE: Duration = Duration::from_secs(10);

// === impl Progress ===

impl Progress {
    /// Of a run that takes so many seconds.
    pub(crate) fn new(seconds: f64, terminal: bool, speaks: bool) -> Self {
        let bar = terminal.then(|| {
            let bar = ProgressBar::new((seconds * 1e3) as u64);
            let style = ProgressStyle::with_template(
                "{msg:34} {bar:30.cyan/dim} {percent:>3} %  {elapsed} gone, {eta} left",
            );
            bar.set_style(style.expect("the template is one"));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let now = Instant::now();
        Self {
            bar,
            lines: speaks && !terminal,
            begin: now,
            said: now,
            all: seconds,
            done: 0.0,
            section: String::new(),
        }
    }

    /// A section begins.
    pub(crate) fn begin(&mut self, section: &str) {
        section.clone_into(&mut self.section);
        if let Some(bar) = &self.bar {
            bar.set_message(section.to_owned());
        }
        self.line();
    }

    /// So many seconds of the estimate are done.
    pub(crate) fn advance(&mut self, seconds: f64) {
        self.done += seconds;
        if let Some(bar) = &self.bar {
            bar.set_position((self.done * 1e3) as u64);
        }
        if self.said.elapsed() >= SILENCE {
            self.line();
        }
    }

    fn line(&mut self) {
        if !self.lines {
            return;
        }
        self.said = Instant::now();
        eprintln!("{}", line(&self.section, self.done, self.all, self.begin.elapsed()));
    }

    /// It is over.
    pub(crate) fn end(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How far it is, in a line. The time left is that of the estimate until a tenth is done, and then as the run has gone.
fn line(section: &str, done: f64, all: f64, gone: Duration) -> String {
    let part = if all > 0.0 { (done / all).clamp(0.0, 1.0) } else { 1.0 };
    let left = if part < 0.1 { all - done } else { gone.as_secs_f64() * (1.0 - part) / part };
    format!(
        "{:3.0} %, {:.0} s gone, about {:.0} s left: {section}",
        part * 100.0,
        gone.as_secs_f64(),
        left.max(0.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_how_the_run_has_gone() {
        let at = |done, gone| line("overhead", done, 100.0, Duration::from_secs(gone));
        assert_eq!(at(0.0, 0), "  0 %, 0 s gone, about 100 s left: overhead");
        assert_eq!(at(50.0, 80), " 50 %, 80 s gone, about 80 s left: overhead");
        assert_eq!(at(120.0, 80), "100 %, 80 s gone, about 0 s left: overhead");
    }
}
