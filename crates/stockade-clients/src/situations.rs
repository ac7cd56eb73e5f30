//! What comes of a write on a bad day, for each client: a page without code.
//!
//! The table is what a test finds with real servers: each client writes numbers, behind a retry layer, a breaker and a
//! timeout for each attempt, and all is well again after the first attempt. No number is written twice in any of the
//! situations.
//!
//! - *class*: what the client's classifier makes of the first attempt; those for databases are `gated()`. A timeout of
//!   the layers is `Transient`.
//! - *a write*: whether the retry layer repeats a write of which `idempotent` says that it may not be: a command or a
//!   statement of its own, or a POST without an `Idempotency-Key`.
//! - *a write that may be repeated*: the same, where the server can tell a repetition by its key.
//! - *breaker*: what a breaker does that opens after two failures in a row, when two calls are made and nothing is mended.
//!
//! `redis` and `tokio-postgres` hold one connection, and connect anew after a failure; the others have a pool. A pool notices
//! that an idle connection was closed. Those of `bb8` and `sqlx` connect again by themselves for as long as they may, and
//! then say only that they have no connection. Where connecting is a part of the call, nobody can tell from its error that the
//! call was not sent, unless it was refused: `connect` can, if it takes too long. A page from a proxy is
//! an answer like any other to an HTTP client, so look at its `Content-Type`; a gRPC client cannot read it.
//!
//! A row is missing where there is no such thing: an HTTP server that takes no writes says so in an answer, with a status of
//! its choice; no page of an HTTP proxy reaches the client of a database; and what begins with HTTP/2 is between clients
//! and servers of that. A server of HTTP that has no room hangs up without a word.
//!
#![doc = include_str!("situations.md")]
