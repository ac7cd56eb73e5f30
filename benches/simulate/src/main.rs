//! The command.
use std::ops::ControlFlow;
fn main() {
    let path = std::env::args().nth(1).unwrap_or_default();
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    match stockade_simulate::scenario::Scenario::read(&path, &text) {
        Err(e) => { eprintln!("{e}"); std::process::exit(2) }
        Ok(s) => for stack in &s.stacks {
            let t = tokio::time::Instant::now();
            let run = stockade_simulate::run::run(&s, stack, 1, |_| ControlFlow::Continue(()));
            println!("{} {:?} left {}", stack.name(), t.elapsed(), run.left_over);
            for (n, p) in run.record.phases.iter().enumerate() {
                let c = p.counts;
                println!("  {:24} calls {} good {:.3} att {:.2} waste {:.2} p50 {:?} p99 {:?} rec {:?} {:?}", s.phases[n].name, c.calls, c.goodput(), c.attempts(), c.waste(), p.latency_at(0.5), p.latency_at(0.99), run.record.recovered_after(s.bounds(n)), p.refusals.iter().map(|r| (r.by, r.reason, r.calls*100/c.calls)).collect::<Vec<_>>());
            }
        }
    }
}
