//! Threads that block, and workers that are threads. In real time: what is checked is who waits for whom, and not for how
//! long.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use stockade_core::{LayerError, Reason, deadline};
use stockade_pool::{BuildError, Pool};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};
use tower::{Service, ServiceExt, service_fn};

use common::{MS, Refusal, reason};

const LONG: Duration = Duration::from_secs(30);

fn four_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap()
}

/// Waits until threads have ended whose names begin like this.
#[cfg(target_os = "linux")]
fn all_gone(name: &str) -> bool {
    let named = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let comm = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        tasks.filter_map(comm).any(|comm| comm.starts_with(name))
    };
    (0..30_000).any(|_| {
        thread::sleep(MS);
        !named()
    })
}

#[test]
fn a_thread_that_blocks_after_it_has_submitted_delays_only_what_runs_on_it() {
    let runtime = four_threads();
    runtime.block_on(async {
        let pool = Pool::builder().workers(4).queue(64).build(service_fn(async |n: u64| {
            sleep(MS).await;
            Ok::<_, Refusal>(n)
        }));
        let (go, wait) = mpsc::channel::<()>();
        let blocks = {
            let pool = pool.clone();
            tokio::spawn(async move {
                let _job = pool.submit(0);
                // The worker that was woken for it may be next on this thread.
                wait.recv_timeout(LONG).is_ok()
            })
        };
        let others = (0..8).map(|caller| {
            let mut pool = pool.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    let job = pool.ready().await.unwrap().call(caller * 100 + n);
                    assert_eq!(job.await, Ok(caller * 100 + n));
                }
            })
        });
        for other in others.collect::<Vec<_>>() {
            other.await.unwrap();
        }
        go.send(()).unwrap();
        assert!(blocks.await.unwrap(), "the others had to wait for it");
    });
}

#[test]
fn a_job_on_a_thread_of_its_own_may_block_in_every_way() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    runtime.block_on(async {
        let pool = Pool::builder().workers(2).threads().build(service_fn(async |n: u64| {
            let slept = Handle::current().block_on(async {
                sleep(MS).await;
                n
            });
            let (send, receive) = oneshot::channel();
            tokio::spawn(async move { send.send(slept) });
            Ok::<_, Refusal>(receive.blocking_recv().unwrap())
        }));
        for n in 0..10 {
            assert_eq!(pool.submit(n).await, Ok(n));
        }
        assert!(pool.drain(LONG).await.is_complete());
    });
}

#[cfg(target_os = "linux")]
#[test]
fn threads_end_with_their_runtime_and_callers_are_told() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let (pool, _running, queued) = runtime.block_on(async {
        let pool = Pool::builder().workers(1..=3).idle(MS).queue(8).name("ends-with-it").threads();
        let pool = pool.build(service_fn(async |n: u64| {
            sleep(LONG * n as u32).await;
            Ok::<_, Refusal>(n)
        }));
        pool.submit(0).await.unwrap();
        pool.handle().resize(1).unwrap();
        while pool.stats().workers > 1 {
            sleep(MS).await;
        }
        (pool.clone(), pool.submit(1), pool.submit(2))
    });
    drop(runtime);
    assert!(all_gone("ends-with-it"), "the threads have not ended");
    let told = Builder::new_current_thread().build().unwrap().block_on(queued);
    assert_eq!(told.unwrap_err().rejected().unwrap().reason(), Reason::PoolClosed);
    assert!(pool.is_closed());
    let stats = pool.stats();
    assert_eq!(stats.accepted, stats.ended());
}

#[test]
fn a_drain_returns_in_time_although_a_job_blocks_its_thread() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    runtime.block_on(async {
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let pool = Pool::builder().workers(1).threads().keep_requests().build(service_fn(
            move |n: u64| {
                let ended = wait.lock().unwrap().recv_timeout(LONG).is_ok();
                async move { Ok::<_, Refusal>((n, ended)) }
            },
        ));
        let job = pool.submit(7);
        let queued = pool.submit(8);
        while pool.stats().running == 0 {
            sleep(MS).await;
        }
        // Were it to wait for the job, that would end by itself only after the drain.
        let drained = pool.drain(MS * 20).await;
        assert_eq!((drained.stuck, drained.started, drained.unfinished), (1, vec![7], vec![8]));
        go.send(()).unwrap();
        assert_eq!(job.await, Ok((7, true)), "it ends all the same");
        assert!(queued.await.is_err());
        let stats = pool.stats();
        assert_eq!(stats.accepted, stats.ended() + stats.running as u64);
    });
}

#[test]
fn a_job_whose_deadline_passes_behind_a_thread_that_blocks_is_not_started() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let (release, blocked) = mpsc::channel::<()>();
        let (started, blocks) = oneshot::channel();
        let first = Mutex::new(Some((started, blocked)));
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let service = Arc::new(move || {
            counted.fetch_add(1, SeqCst);
            if let Some((started, blocked)) = first.lock().unwrap().take() {
                started.send(()).unwrap();
                blocked.recv().unwrap();
            }
        });
        let pool = Pool::builder().workers(1).build(service_fn(move |()| {
            let service = Arc::clone(&service);
            async move {
                service();
                Ok::<_, Refusal>(())
            }
        }));
        let first = pool.submit(());
        blocks.await.unwrap();
        let deadline = Instant::now() + 20 * MS;
        let second = {
            let pool = pool.clone();
            deadline::scope(Some(deadline), async move { pool.submit(()).await })
        };
        let second = tokio::spawn(second);
        sleep_until(deadline + MS).await;
        assert_eq!(pool.stats().queued, 1, "it waits for the worker whose thread is blocked");
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(()));
        assert_eq!(reason(second.await.unwrap()), Reason::Expired);
        assert_eq!((runs.load(SeqCst), pool.stats().expired), (1, 1));
    });
}

/// Run by the test below, in a process where a stack is too large to be had.
#[tokio::test]
#[ignore = "needs an environment of its own"]
async fn in_a_process_that_can_spawn_no_thread() {
    let echo = service_fn(async |n: u32| Ok::<_, Refusal>(n));
    let built = Pool::builder().workers(2).threads().try_build(echo);
    assert!(matches!(built, Err(BuildError::Thread(_))), "{built:?}");
    assert!(Pool::builder().workers(2).try_build(echo).is_ok(), "tasks need no thread");
}

#[test]
#[cfg(target_os = "linux")]
fn a_thread_that_cannot_be_spawned_is_an_error_of_build() {
    let test = std::env::current_exe().unwrap();
    let output = std::process::Command::new(test)
        .args(["in_a_process_that_can_spawn_no_thread", "--ignored", "--exact", "--test-threads=1"])
        .env("RUST_MIN_STACK", (1_u64 << 62).to_string())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}
