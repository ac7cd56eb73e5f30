//! One run: a stack, all clients, and the server, on a clock that moves when nobody has anything to do.

use std::{ops::ControlFlow, pin::pin, sync::Arc, time::Duration};

use fastrand::Rng;
use stockade::chaos::ChaosHandle;
use tokio::{
    runtime::{Builder, Handle},
    spawn,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    client::{Client, Inbox, World},
    record::Record,
    scenario::{Scenario, Stack},
    server::{Server, Traffic, exponential},
    stack,
};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What the stack is called.
    pub stack: String,
    /// What was counted.
    pub record: Record,
    /// How far it came: to the end, unless it was stopped.
    pub until: Duration,
    /// How many tasks were still alive when all clients had ended and their timers had run out. Always 0, unless a
    /// layer has lost something.
    pub left_over: usize,
}

/// Calls are made, and answers are given, at whole milliseconds; what lies between is kept in mind by the server.
const TICK: Duration = Duration::from_millis(1);

/// How often a run says how far it is, in simulated time.
const REPORT: u32 = 100;

/// Runs `scenario` with `stack` in every client. The same seed gives the same run.
///
/// `watch` is told now and then how far the simulated time has come, and may stop it.
///
/// # Panics
///
/// Inside a tokio runtime.
pub fn run(
    scenario: &Scenario,
    stack: &Stack,
    seed: u64,
    watch: impl FnMut(Duration) -> ControlFlow<()>,
) -> Run {
    // The layers draw from the source of chance of the thread.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread, without input and output, can be made");
    runtime.block_on(async {
        let fleet = Fleet::start(scenario, stack, seed);
        let until = fleet.drive(scenario, seed, watch).await;
        let world = Arc::clone(&fleet.world);
        let left_over = fleet.end().await;
        let mut record = world.record().clone();
        record.finish(until);
        Run { stack: stack.name().to_owned(), record, until, left_over }
    })
}

struct Fleet {
    world: Arc<World>,
    server: Server,
    inboxes: Vec<Arc<Inbox>>,
    chaos: Option<ChaosHandle>,
}

// === impl Fleet ===

impl Fleet {
    fn start(scenario: &Scenario, stack: &Stack, seed: u64) -> Self {
        let world = World::new(Record::new(scenario), scenario.fleet.patience.get());
        let world = Arc::new(world);
        let server = Server::new(scenario, Rng::with_seed(seed ^ 1));
        let inboxes: Vec<_> = (0..scenario.fleet.clients.get()).map(|_| Arc::default()).collect();
        let (faults, chaos) = scenario.chaos.map(|chaos| chaos.layer(seed ^ 2)).unzip();
        for inbox in &inboxes {
            let rate = scenario.fleet.rate.get();
            let stack = stack::build(&stack.layers, rate, server.client(), faults.as_ref());
            spawn(Client::new(Arc::clone(&world), Arc::clone(inbox), stack));
        }
        Self { world, server, inboxes, chaos }
    }

    /// Lets the time pass, has the calls made, and the server work; says when it was stopped.
    ///
    /// The calls of a client come by chance, evenly and without memory. So do those of all clients together, and
    /// each of them is any client's with the same probability: that is how they are drawn here.
    async fn drive(
        &self,
        scenario: &Scenario,
        seed: u64,
        mut watch: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Duration {
        let (mut chance, mut wakers) = (Rng::with_seed(seed), Vec::new());
        let (begin, end) = (Instant::now(), scenario.fleet.duration.get());
        let calm = Duration::from_secs_f64(1.0 / scenario.calls_per_second());
        let mut ticks = pin!(sleep_until(begin));
        let (mut now, mut traffic) = (Duration::ZERO, Traffic::default());
        let (mut gap, mut next) = (calm, Duration::MAX);
        let mut phases = scenario.phases.iter().peekable();
        // Who made a call last still waits for the answer, and may have had to wait for backpressure before that.
        // Timers may be a little late.
        let (last, mut stopped) = (end + 2 * scenario.fleet.patience.get() + 10 * TICK, None);
        for tick in 0_u32.. {
            ticks.as_mut().reset(begin + now);
            ticks.as_mut().await;
            self.world.set_now(now);
            let before = std::mem::replace(&mut traffic, self.server.advance(now, &mut wakers));
            self.world.record().served(now, before, traffic);
            if let Some(phase) = phases.next_if(|phase| phase.at() <= now) {
                self.server.set_speed(phase.capacity.get());
                if let Some(chaos) = &self.chaos {
                    chaos.set_enabled(phase.chaos);
                }
                gap = calm.div_f64(phase.load.get());
                next = now + gap.mul_f64(exponential(&mut chance));
            }
            if tick % REPORT == 0 && watch(now.min(end)).is_break() {
                stopped = Some(now);
                break;
            }
            while next <= now && next < end {
                self.world.record().made(now);
                self.inboxes[chance.usize(..self.inboxes.len())].call();
                next += gap.mul_f64(exponential(&mut chance));
            }
            now += TICK;
            if now > last {
                break;
            }
        }
        stopped.unwrap_or(end).min(end)
    }

    /// Ends all clients, and says how many tasks are still there after that.
    async fn end(self) -> usize {
        self.server.close();
        self.inboxes.iter().for_each(|inbox| inbox.close());
        let tasks = Handle::current().metrics();
        // A layer's timer may sleep on for as long as its limit.
        for _ in 0..24 * 60 * 60 {
            if tasks.num_alive_tasks() == 0 {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        tasks.num_alive_tasks()
    }
}
