//! Real servers and a bad network, for tests and examples.
//!
//! - [`Postgres`] and [`Redis`] start a server of your own from the programs that are installed. Each [`Server`] has
//!   a temporary directory and a free port on 127.0.0.1. It can be [killed](Server::kill) and
//!   [started again](Server::restart) on the same port with the data that it had stored, and it is removed with all
//!   its data when it is dropped. No other server is touched. Where a program is missing, [`ServerError`] names the
//!   package that has it; nothing is installed.
//! - [`proxy`] is a TCP proxy that delays, stalls, cuts, garbles, throttles or refuses connections.
//! - With the feature `browser`, `Browser` is a Chromium without a window, for tests of pages.
//!
//! Everything here runs on the real clock.
//!
//! # Example
//!
//! ```no_run
//! use stockade_test_servers::{Postgres, ServerError};
//!
//! # async fn run() -> Result<(), ServerError> {
//! let mut server = Postgres::new().set("max_connections", "8").start().await?;
//! println!("connect to {}", server.url());
//! server.kill().await; // SIGKILL, as when a machine fails
//! server.restart().await?; // the same port, the same data
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "browser")]
mod browser;
#[cfg(unix)]
mod engine;
#[cfg(unix)]
mod error;
#[cfg(unix)]
mod postgres;
#[cfg(unix)]
mod program;
pub mod proxy;
#[cfg(unix)]
mod redis;
#[cfg(unix)]
mod server;
#[cfg(unix)]
mod url;

#[cfg(feature = "browser")]
pub use browser::Browser;
#[cfg(unix)]
pub use {error::ServerError, postgres::Postgres, redis::Redis, server::Server};
