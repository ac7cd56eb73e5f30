//! Real servers for tests and examples: a PostgreSQL or a Redis of one's own, from the installed programs.
//!
//! Each [`Server`] has a temporary directory and a free port on 127.0.0.1. It can be [killed](Server::kill) and
//! [started again](Server::restart) on the same port with what it had stored, and it goes when it is dropped, with
//! all its data. Nobody else's server is touched.
//!
//! It installs nothing: when a program is missing, [`ServerError`] says which package has it.
//!
//! # Example
//!
//! ```no_run
//! use stockade_testkit::servers::{Postgres, ServerError};
//!
//! # async fn run() -> Result<(), ServerError> {
//! let mut server = Postgres::new().set("max_connections", "8").start().await?;
//! println!("connect to {}", server.url());
//! server.kill().await;    // SIGKILL, as a machine that fails would have it
//! server.restart().await?; // the same port, the same data
//! # Ok(())
//! # }
//! ```

mod engine;
mod error;
mod postgres;
mod program;
mod redis;
mod server;

pub use error::ServerError;
pub use postgres::Postgres;
pub use redis::Redis;
pub use server::Server;
