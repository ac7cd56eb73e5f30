//! Each client in each situation: what its failure means, and what the layers make of it, as a table.
//!
//! The table is in the documentation, and has to be what comes out here. `SITUATIONS=overwrite` renews it.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod databases;
mod http;
mod rig;
mod strangers;

use std::{
    env,
    fmt::Write as _,
    fs,
    thread::{self, JoinHandle},
};

use rig::Row;
use tokio::runtime::Builder;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/situations.md");

const HEAD: &str =
    "| client | situation | class | a write | a write that may be repeated | breaker |
|---|---|---|---|---|---|
";

/// The rows of a client, on one thread: what one task has noticed, all that run after it find.
fn run<F: Future<Output = Vec<Row>>>(
    client: impl FnOnce() -> F + Send + 'static,
) -> JoinHandle<Vec<Row>> {
    thread::spawn(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(client())
    })
}

#[test]
fn the_table_of_situations_is_what_comes_out() {
    let clients = [
        run(databases::redis),
        run(databases::bb8),
        run(databases::tokio_postgres),
        run(databases::deadpool),
        run(databases::sqlx),
        run(http::reqwest),
        run(http::hyper),
        run(http::tonic),
    ];
    let mut table = HEAD.to_owned();
    for rows in clients {
        for Row { client, situation, class, once, again, breaker } in rows.join().unwrap() {
            writeln!(table, "| {client} | {situation} | {class} | {once} | {again} | {breaker} |")
                .unwrap();
        }
    }

    if env::var_os("SITUATIONS").is_some_and(|how| how == "overwrite") {
        fs::write(FILE, &table).unwrap();
    }
    let documented = fs::read_to_string(FILE).unwrap_or_default();
    assert!(table == documented, "SITUATIONS=overwrite renews the table, which is now:\n{table}");
}
