//! The database: a table of the answers, one row per request.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use stockade::Error;
use tokio::sync::Mutex;

use crate::exchange::Answer;

pub(crate) type StoreError = Error<sqlx::Error>;

/// The answer to a request, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) answer: Answer,
    pub(crate) took: Duration,
}

/// Where the database is.
#[derive(Clone, Debug)]
pub(crate) struct Database(SqliteConnectOptions);

/// A worker's own connection. A worker runs one job at a time, so nobody ever waits for the lock: it is
/// there because a call's future has to own what it uses.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<Mutex<SqliteConnection>>);

// === impl Database ===

impl Database {
    /// A new database.
    pub(crate) async fn create(path: &Path) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5));
        let mut connection = options.clone().create_if_missing(true).connect().await?;
        let table = "CREATE TABLE answers (
            id INTEGER PRIMARY KEY, status INTEGER NOT NULL, call INTEGER NOT NULL,
            body TEXT NOT NULL, took_us INTEGER NOT NULL)";
        sqlx::query(table).execute(&mut connection).await?;
        connection.close().await?;
        Ok(Self(options))
    }

    /// How many rows there are, as a connection of its own sees it.
    pub(crate) async fn count(&self) -> sqlx::Result<u64> {
        let mut connection = self.0.connect().await?;
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM answers").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(rows.unsigned_abs())
    }
}

// === impl Connection ===

impl Connection {
    pub(crate) async fn open(database: &Database) -> sqlx::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(database.0.connect().await?))))
    }

    /// Stores a row. To do it twice changes nothing, so it may be repeated.
    pub(crate) async fn insert(self, row: Row) -> sqlx::Result<()> {
        let mut connection = self.0.lock().await;
        sqlx::query("INSERT INTO answers VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING")
            .bind(row.id.cast_signed())
            .bind(row.answer.status.as_u16())
            .bind(row.answer.number as i64)
            .bind(row.answer.body)
            .bind(row.took.as_micros() as i64)
            .execute(&mut *connection)
            .await?;
        Ok(())
    }
}
