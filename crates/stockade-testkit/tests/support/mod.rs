//! Small layers that keep the contract, or break it in one chosen way.

mod front;
mod gate;
mod line;
mod others;

use std::{future::Future, pin::Pin};

use stockade_core::Error;
use stockade_testkit::{Fault, Response};

pub(crate) use front::Front;
pub(crate) use gate::Gate;
pub(crate) use others::{Hurried, LateCounter, Masking, Sleepy};

pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response, Error<Fault>>> + Send>>;

/// How a layer breaks the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    None,
    // Gate
    CallsUnreadyClone,
    CallsUnreadyAfterWait,
    ClonesReadyFlag,
    PanicsAfterReadinessError,
    ForgetsDropped,
    KeepsPermitInFinished,
    CoopIsFull,
    Poisons,
    RewritesErrors,
    HoardsReadiness,
    KeepsCancelled,
    NeverAnswers,
    // Line
    LastComesFirst,
    WakesItself,
    FirstWakerOnly,
    SwallowsWake,
    LeavesWaitersOnClose,
    // Front
    TakesPermitEachPoll,
    LeaksUncalled,
    ClonesPermit,
}
