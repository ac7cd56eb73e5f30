//! The one task of a gate, which asks the bucket on behalf of those who wait.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    bucket::{self, Answer, Ask},
    gate::{Gate, Next, Office},
};
use crate::RedisError;

/// The task that asks, for as long as somebody waits. It is gone when nobody does.
pub(crate) struct Errand {
    gate: Arc<Gate>,
    done: bool,
}

impl Errand {
    pub(crate) const fn new(gate: Arc<Gate>) -> Self {
        Self { gate, done: false }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let next = match self.gate.next(Instant::now()) {
                Next::Ask(ask, within) => {
                    let answer = self.ask(ask, within).await;
                    self.gate.heed(ask, answer.as_ref().copied())
                }
                next => next,
            };
            match next {
                Next::Sleep(wait, coming) => {
                    if wait > Duration::ZERO {
                        sleep(wait).await;
                    }
                    if coming > 0 {
                        self.gate.arrive(coming);
                    }
                }
                Next::Ask(..) => {}
                Next::End => break,
            }
        }
        self.done = true;
    }

    async fn ask(&self, ask: Ask, within: Duration) -> Result<Answer, RedisError> {
        let Office { redis, script, rules, status } = self.gate.office();
        status.asks();
        let key = self.gate.key();
        let question = redis.ask(within, async |connection| {
            bucket::ask(script, connection, key, rules.quota, ask).await
        });
        let answer = question.await.map_err(|error| error.with_key(key));
        match &answer {
            Ok(_) => status.shared(redis.place()),
            Err(error) => status.alone(error),
        }
        answer
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        if !self.done {
            self.gate.abandon();
        }
    }
}
