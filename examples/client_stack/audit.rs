//! The audit: what the server saw, call by call, for the books.
//!
//! The server counts, but two things it cannot know by itself are told to it at once, because a network
//! would tell them late:
//!
//! - *When the client asked the rate limit.* The token of a call is taken somewhere between then and its
//!   arrival at the server. So a call that asked and arrived within a window took its token within that
//!   window, and of such calls there must be no more than the bucket gives in that time. This needs no
//!   allowance for what queues, wires and schedulers add: they only move calls out of the window.
//! - *When the client hung up.* A client that gives a call up has its permit back at once, and the server
//!   still works until it sees the connection close. So a call is in flight from when the server begins
//!   with it until the server is done or the client hangs up. All that time the client holds a permit,
//!   therefore there must never be more of them than the limit, not by one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::plan::{Behaviour, Plan};

/// One call under audit.
#[derive(Clone, Copy, Debug)]
struct Call {
    id: u64,
    asked: Instant,
    arrived: Option<Instant>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// On its way.
    Sent,
    /// The server works on it, and the client waits.
    InFlight,
    /// The server is done, or the client has hung up.
    Over,
}

#[derive(Debug, Default)]
struct Ledger {
    calls: Vec<Call>,
    /// How often each request has arrived.
    attempts: HashMap<u64, u32>,
    in_flight: usize,
    peak: usize,
    /// What the server did, by behaviour and phase.
    done: [[u64; 3]; Behaviour::NAMES.len()],
    /// How often the client hung up while the server worked, by phase.
    hung_up: [u64; 3],
}

/// Shared by the client and the server.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    plan: Plan,
    ledger: Arc<Mutex<Ledger>>,
}

/// One side's part in a call; when it is dropped, that side is done with the call.
#[derive(Debug)]
pub(crate) struct Part {
    audit: Audit,
    number: usize,
    side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// What has been seen.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) peak: usize,
    pub(crate) done: [[u64; 3]; Behaviour::NAMES.len()],
    pub(crate) hung_up: [u64; 3],
    /// Of each call that arrived: when it asked the rate limit, and when it arrived, both counted from
    /// when the first call asked.
    pub(crate) arrivals: Vec<(Duration, Duration)>,
}

// === impl Audit ===

impl Audit {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, ledger: Arc::default() }
    }

    /// A call asks the rate limit; it gets its number.
    pub(crate) fn ask(&self, id: u64) -> usize {
        let mut ledger = self.lock();
        let asked = Instant::now();
        ledger.calls.push(Call { id, asked, arrived: None, standing: Standing::Sent });
        ledger.calls.len() - 1
    }

    /// The client sends the call.
    pub(crate) fn send(&self, number: usize) -> Part {
        Part { audit: self.clone(), number, side: Side::Client }
    }

    /// The call arrives at the server; also says how often its request has arrived.
    pub(crate) fn arrive(&self, number: usize) -> Option<(Part, u32)> {
        let mut ledger = self.lock();
        let call = ledger.calls.get_mut(number)?;
        call.arrived = Some(Instant::now());
        let (id, is_new) = (call.id, call.standing == Standing::Sent);
        if is_new {
            call.standing = Standing::InFlight;
            ledger.in_flight += 1;
            ledger.peak = ledger.peak.max(ledger.in_flight);
        }
        let attempts = ledger.attempts.entry(id).or_default();
        *attempts += 1;
        let attempt = *attempts;
        drop(ledger);
        Some((Part { audit: self.clone(), number, side: Side::Server }, attempt))
    }

    /// The server has decided what to do with a request.
    pub(crate) fn note(&self, id: u64, behaviour: Behaviour) {
        self.lock().done[behaviour.index()][self.plan.phase(id) as usize] += 1;
    }

    pub(crate) fn findings(&self) -> Findings {
        let ledger = self.lock();
        let arrivals = ledger.calls.first().map_or_else(Vec::new, |first| {
            let since = |instant: Instant| instant - first.asked;
            let calls = ledger.calls.iter();
            calls.filter_map(|call| Some((since(call.asked), since(call.arrived?)))).collect()
        });
        Findings { peak: ledger.peak, done: ledger.done, hung_up: ledger.hung_up, arrivals }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Part ===

impl Drop for Part {
    fn drop(&mut self) {
        let mut ledger = self.audit.lock();
        let call = &mut ledger.calls[self.number];
        let (id, before) = (call.id, std::mem::replace(&mut call.standing, Standing::Over));
        if before == Standing::InFlight {
            ledger.in_flight -= 1;
            if self.side == Side::Client {
                ledger.hung_up[self.audit.plan.phase(id) as usize] += 1;
            }
        }
    }
}
