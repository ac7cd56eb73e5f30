//! The one task of a limiter, which asks the bucket for tokens while calls wait.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    bucket::{self, Answer, Ask},
    limiter::{Limiter, Next},
    shared::Shared,
};
use crate::RedisError;

/// Asks for as long as calls wait, and then ends.
pub(crate) struct Refill {
    limiter: Arc<Limiter>,
    done: bool,
}

impl Refill {
    pub(crate) const fn new(limiter: Arc<Limiter>) -> Self {
        Self { limiter, done: false }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let next = match self.limiter.next(Instant::now()) {
                Next::Ask(ask, within) => {
                    let answer = self.ask(ask, within).await;
                    self.limiter.use_answer(ask, answer.as_ref().copied())
                }
                next => next,
            };
            match next {
                Next::Sleep(wait, coming) => {
                    if wait > Duration::ZERO {
                        sleep(wait).await;
                    }
                    if coming > 0 {
                        self.limiter.arrive(coming);
                    }
                }
                Next::Ask(..) => {}
                Next::End => break,
            }
        }
        self.done = true;
    }

    async fn ask(&self, ask: Ask, within: Duration) -> Result<Answer, RedisError> {
        let Shared { redis, script, quota, status, .. } = self.limiter.shared();
        status.asks();
        let key = self.limiter.key();
        let question = redis.ask(within, async |connection| {
            bucket::ask(script, connection, key, *quota, ask).await
        });
        let answer = question.await.map_err(|error| error.with_key(key));
        match &answer {
            Ok(_) => status.shared(redis.place()),
            Err(error) => status.alone(error),
        }
        answer
    }
}

impl Drop for Refill {
    fn drop(&mut self) {
        if !self.done {
            self.limiter.lose_task();
        }
    }
}
