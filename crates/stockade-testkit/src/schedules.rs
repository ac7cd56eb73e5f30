use std::{collections::hash_map::RandomState, env, fmt::Display, hash::BuildHasher, str::FromStr};

use shuttle::{Config, Runner, scheduler::RandomScheduler};
use tokio::runtime;

/// Runs `model` under a model checker, [`shuttle`], with tokio's clock paused.
///
/// `STOCKADE_SCHEDULES` is the number of schedules (20,000), `STOCKADE_SEED` their seed; both are printed. The seed of
/// a schedule that fails is printed, too: with it and one schedule, it runs again. `cargo xtask check` sets both.
///
/// # Panics
///
/// If the model panics under any schedule.
pub fn schedules(model: impl Fn() + Send + Sync + 'static) {
    let seed = setting("STOCKADE_SEED", RandomState::new().hash_one(0));
    let schedules = setting("STOCKADE_SCHEDULES", 20_000);
    println!("STOCKADE_SEED={seed} STOCKADE_SCHEDULES={schedules}");
    // The threads of the model run on one thread of the system, so they share its paused clock.
    let paused = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let paused = paused.expect("a runtime");
    let _inside = paused.enter();
    let scheduler = RandomScheduler::new_from_seed(seed, schedules);
    let ran = Runner::new(scheduler, Config::new()).run(model);
    assert_eq!(ran, schedules);
}

fn setting<T: FromStr<Err: Display>>(name: &str, default: T) -> T {
    let Some(value) = env::var_os(name) else { return default };
    let value = value.to_str().expect("a number");
    value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}"))
}
