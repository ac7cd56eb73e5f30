//! The queue in memory: no server is needed, and nothing is left of it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use apalis_core::worker::{builder::WorkerBuilder, context::WorkerContext};
use stockade::BoxError;
use stockade_fleet::jobs::{self, JobsLayer};
use tokio::time::sleep;
use tower::Layer;

use crate::stack::{self, WORK};

pub(crate) async fn run(jobs: u32) -> Result<(), BoxError> {
    let (storage, queue) = jobs::memory();
    for job in 0..jobs {
        queue.push(job)?;
    }
    let worker = WorkerContext::new("worker");
    let effects = Arc::new(Mutex::new(HashMap::new()));
    let work = {
        let (worker, effects) = (worker.clone(), Arc::clone(&effects));
        move |job: u32| {
            let (worker, effects) = (worker.clone(), Arc::clone(&effects));
            async move {
                sleep(WORK / 4).await;
                let mut effects = effects.lock().expect("nobody panics under it");
                *effects.entry(job).or_insert(0) += 1;
                if effects.len() == jobs as usize {
                    worker.stop()?;
                }
                Ok(())
            }
        }
    };
    let sent_back = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&sent_back);
    let layer = JobsLayer::new(move |job, after| {
        counts.fetch_add(1, Relaxed);
        queue.requeue(job, after)
    });
    let service = layer.layer(stack::pool(work));
    WorkerBuilder::new(&worker).backend(storage).build(service).run().await?;

    let effects = effects.lock().expect("nobody panics under it");
    let runs: u32 = effects.values().sum();
    println!("{jobs} jobs, queue in memory");
    println!("{} refused for now, and sent back to the queue", sent_back.load(Relaxed));
    println!("{runs} runs, {} jobs with an effect", effects.len());
    if effects.len() != jobs as usize || runs != jobs {
        return Err("a job was lost, or had its effect twice".into());
    }
    println!("books balance: every job once");
    Ok(())
}
