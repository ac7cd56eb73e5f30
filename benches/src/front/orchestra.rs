//! Has a plan carried out by the two programs, and keeps what they say, also if they are interrupted.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use tokio::{runtime, signal, time::Instant};

use super::progress::Progress;
use crate::{
    environment::Environment,
    plan::Plan,
    programs::{self, Program},
    record::{Clock, FORM, Run},
    worker::Event,
};

/// A plan, on its way to be a run.
#[derive(Debug)]
pub(crate) struct Orchestra {
    run: Run,
    terminal: bool,
    speaks: bool,
}

/// Whether Ctrl-C was pressed, and who is to be told.
#[derive(Clone, Debug, Default)]
struct Interrupt {
    happened: Arc<AtomicBool>,
    /// A worker stops when this is closed.
    line: Arc<Mutex<Option<ChildStdin>>>,
}

// === impl Orchestra ===

impl Orchestra {
    pub(crate) fn new(plan: Plan, notes: Vec<String>, terminal: bool, speaks: bool) -> Self {
        let run = Run {
            form: FORM,
            name: String::new(),
            began: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            took: 0.0,
            partial: false,
            plan,
            environment: Environment::look(),
            notes,
            overhead: Vec::new(),
            load: Vec::new(),
            faults: Vec::new(),
            adaptive: Vec::new(),
            groups: Vec::new(),
            memory: Vec::new(),
        };
        Self { run, terminal, speaks }
    }

    /// Measures. An interruption is no error: the run is then partial.
    pub(crate) fn play(mut self, peers: bool, folder: Option<&Path>) -> Result<Run> {
        let sections = &self.run.plan.sections;
        let clocks: Vec<_> = [Clock::Real, Clock::Virtual]
            .into_iter()
            .filter(|clock| {
                sections.iter().any(|section| section.is_virtual() == (*clock == Clock::Virtual))
            })
            .map(|clock| {
                let program = match clock {
                    Clock::Real => Program::Measure { peers },
                    Clock::Virtual => Program::Model,
                };
                Ok((clock, programs::program(program, folder)?))
            })
            .collect::<Result<_>>()?;
        // Building has kept the machine busy, which says nothing about others; so the load is that from before.
        if self.run.environment.busy && self.speaks {
            eprintln!("the machine is busy ({}): figures may be off", self.run.environment.loads());
        }
        let seconds = sections.iter().map(|section| self.run.plan.estimate(*section)).sum();
        let interrupt = Interrupt::default();
        interrupt.watch()?;
        let mut progress = Progress::new(seconds, self.terminal, self.speaks);
        let begin = Instant::now();
        let mut failed = None;
        for (clock, program) in clocks {
            if interrupt.happened.load(Ordering::Relaxed) {
                self.run.partial = true;
                break;
            }
            if let Err(error) = self.hear(&program, &interrupt, &mut progress) {
                let what = if clock == Clock::Real { "measuring" } else { "modelling" };
                failed = Some(error.context(format!("{what} failed")));
                break;
            }
        }
        progress.end();
        if let Some(error) = failed {
            return Err(error);
        }
        self.run.took = begin.elapsed().as_secs_f64();
        self.run.environment.look_again();
        if self.run.partial {
            let interrupted = "the run was interrupted: what is missing was not measured";
            self.run.notes.insert(0, interrupted.to_owned());
        }
        self.run.notes.extend(self.missing());
        Ok(self.run)
    }

    /// Starts a worker, and listens to it until it is done.
    fn hear(
        &mut self,
        program: &Path,
        interrupt: &Interrupt,
        progress: &mut Progress,
    ) -> Result<()> {
        let mut worker = Command::new(program)
            .arg(serde_json::to_string(&self.run.plan)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for us: we tell the worker to come to an end.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        interrupt.tell(worker.stdin.take());
        let said = worker.stdout.take().context("a worker speaks")?;
        for line in BufReader::new(said).lines() {
            match serde_json::from_str(&line?).context("a worker said what is no event")? {
                Event::Begin(section) => progress.begin(section.title()),
                Event::Done(seconds) => progress.advance(seconds),
                Event::Stopped => self.run.partial = true,
                Event::Overhead(row) => self.run.overhead.push(row),
                Event::Load(row) => self.run.load.push(row),
                Event::Fault(row) => self.run.faults.push(row),
                Event::Adaptive(row) => self.run.adaptive.push(row),
                Event::Group(group) => self.run.groups.push(group),
                Event::Memory(row) => self.run.memory.push(row),
            }
        }
        interrupt.tell(None);
        let status = worker.wait()?;
        if interrupt.happened.load(Ordering::Relaxed) {
            // It may have been in the middle of something long, and has ended itself.
            self.run.partial = true;
            return Ok(());
        }
        ensure!(status.success(), "{} ended with {status}", program.display());
        Ok(())
    }

    /// What the plan asked for and nobody said anything about.
    fn missing(&self) -> Option<String> {
        use crate::plan::Section;
        let has = |section| self.run.plan.sections.contains(&section);
        let plan = &self.run.plan;
        let stacks = plan.stacks.len();
        let threads = if plan.threads == 1 { 1 } else { 2 };
        let (real, modelled): (Vec<_>, Vec<_>) =
            self.run.load.iter().partition(|row| row.clock == Clock::Real);
        let mut missing = Vec::new();
        for (section, wanted, found) in [
            (Section::Overhead, stacks * 3 * threads, self.run.overhead.len()),
            (Section::Load, stacks * plan.offered_in_real_time().len(), real.len()),
            (Section::Model, stacks * plan.offered.len(), modelled.len()),
            (Section::Faults, stacks * 3, self.run.faults.len()),
            (Section::Adaptive, 9, self.run.adaptive.len()),
        ] {
            if has(section) && found < wanted {
                missing.push(format!("{} of {wanted} of {}", wanted - found, section.title()));
            }
        }
        (!missing.is_empty()).then(|| format!("not measured: {}", missing.join("; ")))
    }
}

// === impl Interrupt ===

impl Interrupt {
    /// Waits for Ctrl-C on a thread of its own. The second one ends the program.
    fn watch(&self) -> Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let this = self.clone();
        thread::spawn(move || {
            runtime.block_on(async {
                if signal::ctrl_c().await.is_err() {
                    return;
                }
                eprintln!("interrupted: what was measured is kept; once more to leave at once");
                this.happened.store(true, Ordering::Relaxed);
                this.tell(None);
                if signal::ctrl_c().await.is_ok() {
                    std::process::exit(130);
                }
            });
        });
        Ok(())
    }

    /// Puts another worker, or nobody, on the line.
    fn tell(&self, worker: Option<ChildStdin>) {
        let mut line = self.line.lock().expect("nothing panics under this lock");
        *line = worker.filter(|_| !self.happened.load(Ordering::Relaxed));
    }
}
