//! The audit records what the server saw, call by call, for the final check.
//!
//! The server counts. The client tells it two things directly, which it would otherwise learn too late:
//!
//! - *When a call asked the rate limit.* It takes its token at some point between then and its arrival at the server.
//!   So a call that asked and arrived within a window took its token within that window, and there must not be more
//!   such calls than the bucket gives out in that time. Delays in queues and on the network need no allowance: they
//!   only move calls out of the window.
//! - *When the client hung up.* The client has its permit back at once, while the server works on until it sees the
//!   closed connection. So a call counts as in flight from when the server begins with it until the server is done or
//!   the client hangs up. The client holds a permit all that time, so there must never be more such calls than the
//!   limit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::plan::{Behaviour, Plan};

/// A recorded call.
#[derive(Clone, Copy, Debug)]
struct Call {
    id: u64,
    asked: Instant,
    arrived: Option<Instant>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is on its way.
    Sent,
    /// The server works on it, and the client waits for it.
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

/// One side of a call. Dropping it says that this side is done with the call.
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

/// What the audit found.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) peak: usize,
    pub(crate) done: [[u64; 3]; Behaviour::NAMES.len()],
    pub(crate) hung_up: [u64; 3],
    /// For each call that arrived: when it asked the rate limit and when it arrived, both counted from
    /// when the first call asked.
    pub(crate) arrivals: Vec<(Duration, Duration)>,
}

// === impl Audit ===

impl Audit {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, ledger: Arc::default() }
    }

    /// Records that a call asks the rate limit, and returns its number.
    pub(crate) fn ask(&self, id: u64) -> usize {
        let mut ledger = self.lock();
        let asked = Instant::now();
        ledger.calls.push(Call { id, asked, arrived: None, standing: Standing::Sent });
        ledger.calls.len() - 1
    }

    /// Records that the client sends the call.
    pub(crate) fn send(&self, number: usize) -> Part {
        Part { audit: self.clone(), number, side: Side::Client }
    }

    /// Records that the call arrives at the server. Returns how often its request has arrived, too.
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

    /// Records what the server decided to do with a request.
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
