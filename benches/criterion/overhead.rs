//! The overhead of all stacks by criterion, for its statistics and its baselines; it takes long.
//!
//! `cargo bench -p stockade-benches --bench overhead -- retry` measures those whose name contains a text.

use criterion::{Criterion, criterion_group, criterion_main};
use stockade_benches::{combo::Combo, overhead, record::inner};

fn overhead(criterion: &mut Criterion) {
    for threads in [1, 2] {
        for inner in inner::ALL {
            let mut group = criterion.benchmark_group(format!("{inner}, threads: {threads}"));
            for combo in Combo::all() {
                let entry = overhead::entry(combo, inner);
                let mut run = None;
                group.bench_function(&entry.name, |bencher| {
                    // Started here, so that what is filtered out is not started.
                    let run = run.get_or_insert_with(|| entry.start(threads));
                    bencher.iter_custom(&mut *run);
                });
            }
        }
    }
}

criterion_group!(benches, overhead);
criterion_main!(benches);
