//! What a user runs: reads the command line, has things measured, keeps and shows what was found.

pub mod cli;
mod orchestra;
mod progress;

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, error::ErrorKind};

use self::{
    cli::{Cli, Command, Measuring},
    orchestra::Orchestra,
};
use crate::{
    combo::Combo,
    compare::Comparison,
    instructions,
    plan::{Offered, Plan, Section},
    readme,
    record::Run,
    report,
    store::Store,
    summary,
    usage::Usage,
};

/// How a command ended well.
enum Ended {
    Well,
    Regressed,
}

/// Runs the command line: 0 if all is well, 1 on a regression or a failure, 2 if it cannot be done as asked.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    match dispatch(cli) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Regressed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn dispatch(cli: Cli) -> Result<Ended> {
    let store = Store::new(cli.directory.clone());
    match cli.command.unwrap_or(Command::Run) {
        Command::List => list(&cli.measuring),
        Command::Run => run(&cli.measuring, &store, &Section::ALL, cli.measuring.peers, None),
        Command::Peers => run(&cli.measuring, &store, &Section::PEERS, true, None),
        Command::Goals { name } => {
            let run = store.load(&name)?;
            println!("{}", summary::goals(&run));
            let met = run.goals().iter().all(|(_, goal)| goal.is_met());
            Ok(if met { Ended::Well } else { Ended::Regressed })
        }
        Command::Save { name } => {
            Store::valid(&name)?;
            run(&cli.measuring, &store, &Section::ALL, cli.measuring.peers, Some(&name))
        }
        Command::Compare { base, new, fail_over } => {
            let comparison = Comparison::of(&store.load(&base)?, &store.load(&new)?);
            println!("{}", comparison.show(fail_over));
            let regressed = fail_over.is_some_and(|most| comparison.regressions(most).count() > 0);
            Ok(if regressed { Ended::Regressed } else { Ended::Well })
        }
        Command::Instr { bless, budget } => {
            let kept = {
                let workers = cli.measuring.workers.as_deref();
                instructions::hold(&cli.measuring.combos(), bless, &budget, workers)?
            };
            Ok(if kept { Ended::Well } else { Ended::Regressed })
        }
        Command::Report { name, against, out, open } => {
            let run = store.load(&name)?;
            let against = against.map(|name| store.load(&name)).transpose()?;
            let path = out.unwrap_or_else(|| store.report());
            draw(&run, against.as_ref(), &path)?;
            if open {
                open::that_detached(&path).context("no program to open it with")?;
            }
            Ok(Ended::Well)
        }
        Command::Readme { check, from, readme, results } => {
            if let Some(name) = from {
                readme::renew(&store.load(&name)?, &results)?;
            }
            readme::apply(&results, &readme, check)?;
            Ok(Ended::Well)
        }
    }
}

fn list(measuring: &Measuring) -> Result<Ended> {
    let combos = measuring.combos();
    let mut out = io::stdout().lock();
    for combo in &combos {
        // The reader may have seen enough.
        if writeln!(out, "{combo}").is_err() {
            return Ok(Ended::Well);
        }
    }
    Ok(Ended::Well)
}

fn run(
    measuring: &Measuring,
    store: &Store,
    sections: &[Section],
    peers: bool,
    name: Option<&str>,
) -> Result<Ended> {
    let plan = plan(measuring, sections)?;
    let mut notes = Vec::new();
    if !measuring.only.is_empty() {
        let parts: Vec<_> = plan.sections.iter().map(|section| section.name()).collect();
        notes.push(format!("only these parts were asked for: {}", parts.join(", ")));
    }
    let has = |combo: &Combo| plan.stacks.contains(&combo.to_string());
    let left_out = Combo::all().iter().filter(|combo| !has(combo)).count();
    if left_out > 0 {
        notes.push(format!(
            "{left_out} of {} stacks were left out, because --filter or --layers did not ask for them",
            Combo::all().len()
        ));
    }
    if plan.sections.contains(&Section::Load) && plan.offered_in_real_time() != plan.offered {
        notes.push(
            "on the real clock only the load of 80 % was measured, because of --quick".to_owned(),
        );
    }
    if !peers {
        notes.push(
            "of the peers only those of tower and tokio were measured; --peers takes all"
                .to_owned(),
        );
    }
    let terminal = io::stderr().is_terminal() && !measuring.no_progress;
    let mut run = Orchestra::new(plan, notes, terminal, !measuring.no_progress)
        .play(peers, measuring.workers.as_deref())?;
    // A run of peers alone is no run to compare with, so it does not take the place of the latest one.
    let has_overhead = |sections: &[Section]| sections.contains(&Section::Overhead);
    let usual = match (has_overhead(sections), has_overhead(&run.plan.sections)) {
        (false, _) => "peers",
        (true, false) => "part",
        (true, true) => "last",
    };
    run.name = name.unwrap_or(usual).to_owned();
    let path = store.save(&run)?;
    if let Some(file) = &measuring.json {
        fs::write(file, serde_json::to_string_pretty(&run)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &measuring.csv {
        fs::write(file, summary::csv(&run))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("{}", summary::text(&run));
    println!("kept in {}", path.display());
    draw(&run, None, &store.report())?;
    Ok(Ended::Well)
}

fn draw(run: &Run, against: Option<&Run>, path: &Path) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, report::page(run, against))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("report: {}", path.display());
    Ok(())
}

/// What is to be measured: of `sections`, those that were asked for.
fn plan(measuring: &Measuring, sections: &[Section]) -> Result<Plan> {
    let asked = |section: &Section| measuring.only.is_empty() || measuring.only.contains(section);
    let asked: Vec<_> = sections.iter().copied().filter(asked).collect();
    if asked.is_empty() {
        let parts: Vec<_> = sections.iter().map(|section| section.name()).collect();
        return Err(
            Usage(format!("nothing to do: this command measures {}", parts.join(", "))).into()
        );
    }
    let offered = if let Some(callers) = measuring.closed {
        vec![Offered::Callers(callers)]
    } else if measuring.rate.is_empty() {
        Offered::USUAL.to_vec()
    } else {
        measuring.rate.clone()
    };
    Ok(Plan {
        seed: measuring.seed,
        quick: measuring.quick,
        stacks: measuring.combos().iter().map(Combo::to_string).collect(),
        sections: asked,
        offered,
        duration: measuring.duration.map(|duration| duration.as_secs_f64()),
        threads: measuring.threads,
    })
}
