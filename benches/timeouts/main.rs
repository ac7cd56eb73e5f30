//! Measures many tasks that share timeouts or the README's stack, and nothing else, so that it builds quickly:
//! `cargo bench -p stockade-benches --bench timeouts -- --quick`.

use std::env;

use stockade_benches::{plan::Section, summary, tasks, worker::Worker};

fn main() {
    let quick = env::args().any(|argument| argument == "--quick");
    for group in tasks::groups(2) {
        if let Some(group) = group.measure(Section::Tasks, quick, 1, &Worker::silent()) {
            println!("\n{}", summary::side_by_side(&group));
            for goal in &group.goals {
                println!("  {:.2} of at most {:.2}: {}", goal.found, goal.most, goal.text);
            }
        }
    }
}
