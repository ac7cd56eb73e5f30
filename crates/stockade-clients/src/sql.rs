//! SQL: what an error means, by SQLSTATE, through sqlx and tokio-postgres.
//!
//! [`class`] has the table of SQLSTATEs, and each classifier one of its client's other errors. What is repeated after a
//! conflict is the call as a whole, so let one call be one transaction, from `BEGIN` to `COMMIT`:
//!
//! ```
//! # #[cfg(feature = "sqlx")]
//! # fn main() {
//! use stockade_breaker::BreakerLayer;
//! use stockade_clients::sql::Sqlx;
//! use stockade_core::Error;
//! use stockade_retry::RetryLayer;
//! use tower::ServiceBuilder;
//!
//! /// From `BEGIN` to `COMMIT`, on a connection of its own.
//! async fn transfer(_amount: i64) -> sqlx::Result<()> {
//!     // let mut transaction = pool.begin().await?; ...
//!     Ok(())
//! }
//!
//! let stack = ServiceBuilder::new()
//!     .layer(RetryLayer::max_attempts(5).classify(Sqlx::new().gated()).idempotent(|_: &i64| false))
//!     .layer(BreakerLayer::new().classify(Sqlx::new()))
//!     .map_err(Error::Service)
//!     .service_fn(transfer);
//! # fn check(_: &impl tower::Service<i64>) {}
//! # check(&stack);
//! # }
//! # #[cfg(not(feature = "sqlx"))]
//! # fn main() {}
//! ```
//!
//! # Which requests may be repeated
//!
//! A transaction that the database has rolled back for the sake of another one has had no effect. One whose connection
//! was lost may have been committed, if it was lost during `COMMIT`: give such a request a key that the database holds
//! unique, and repeating it does no harm. Where that cannot be, use `gated` as above: the retry layer then repeats what
//! has had no effect for certain, and asks its `idempotent` for the rest.

//!
//! # What clients do by themselves
//!
//! - A pool of sqlx tries to connect again and again while a server refuses connections, for as long as its
//!   `acquire_timeout`, which is 30 seconds unless set. Set it below the time-out of an attempt, or the layers never
//!   learn of an outage: what it says in the end is `PoolTimedOut`, which is `Overload`.
//! - A statement whose future was dropped, by a time-out or otherwise, runs on at the server. Begin each transaction
//!   with [`statement_timeout`], and PostgreSQL ends it when the call has to end; or keep a guard in the future that
//!   calls tokio-postgres' `CancelToken` when it is dropped (the example `postgres_tokio` does).
//! - SQLite waits for its file on a thread of its own, for as long as `busy_timeout`. Set it to zero to have the
//!   retry layer wait in its place.

mod sqlstate;
#[cfg(feature = "sqlx")]
mod sqlx;
mod statement_timeout;
#[cfg(feature = "tokio-postgres")]
mod tokio_postgres;

pub use sqlstate::class;
#[cfg(feature = "sqlx")]
pub use sqlx::Sqlx;
pub use statement_timeout::statement_timeout;
#[cfg(feature = "tokio-postgres")]
pub use tokio_postgres::TokioPostgres;
