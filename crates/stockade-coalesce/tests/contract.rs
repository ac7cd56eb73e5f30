//! Coalescing keeps the contract of a tower layer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use stockade_coalesce::{CoalesceLayer, SharedError};
use stockade_core::{Error, LayerError, Rejected};
use stockade_testkit::{ContractError, Fault, Probe, Request, contract};
use tower::{ServiceBuilder, ServiceExt};

/// The probe's error, which several callers can get.
#[derive(Clone, Debug)]
enum Shared {
    Fault(Fault),
    Rejected(Rejected),
}

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl From<Error<Fault>> for Shared {
    fn from(error: Error<Fault>) -> Self {
        match error {
            Error::Service(fault) => Self::Fault(fault),
            Error::Rejected(rejected) => Self::Rejected(rejected),
        }
    }
}

impl From<Rejected> for Shared {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl LayerError for Shared {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Fault(_) => None,
        }
    }
}

impl ContractError for Shared {
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Fault(fault) => Some(*fault),
            Self::Rejected(_) => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_share_nothing_keep_the_contract() {
    let next = AtomicU64::new(0);
    let key = move |_: &Request| next.fetch_add(1, Relaxed);
    let layer = std::sync::Arc::new(key);
    contract(|inner: Probe| {
        let key = std::sync::Arc::clone(&layer);
        ServiceBuilder::new()
            .layer(CoalesceLayer::new(move |request: &Request| key(request)))
            .service(inner.map_err(Shared::from))
    })
    .run()
    .await
    .assert();
}

#[test]
fn a_shared_error_carries_a_refusal() {
    let refused = Rejected::new(&"limit", stockade_core::Reason::QueueFull);
    let error = SharedError::from(refused);
    assert_eq!(error.rejected(), Some(&refused));
    assert_eq!(error.to_string(), refused.to_string());
    let io = SharedError::new(std::io::Error::other("gone"));
    assert_eq!((io.rejected(), io.to_string().as_str()), (None, "gone"));
}
