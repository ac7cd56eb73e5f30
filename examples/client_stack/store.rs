//! The database: a table of the answers, one row per request, in a file of `redb`, an embedded database.

use std::{path::Path, sync::Arc, time::Duration};

use redb::{Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use stockade::Error;
use tokio::task::spawn_blocking;

use crate::exchange::Answer;

pub(crate) type StoreError = Error<redb::Error>;

/// The key is the number of the request; the value is status, number of the call, body, and latency in microseconds.
const ANSWERS: TableDefinition<'_, u64, (u16, u64, &str, u64)> = TableDefinition::new("answers");

/// The answer to a request, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) answer: Answer,
    pub(crate) took: Duration,
}

/// An open database.
#[derive(Clone, Debug)]
pub(crate) struct Database(Arc<redb::Database>);

// === impl Database ===

impl Database {
    /// A new database.
    pub(crate) fn create(path: &Path) -> Result<Self, redb::Error> {
        let database = redb::Database::create(path)?;
        let transaction = database.begin_write()?;
        transaction.open_table(ANSWERS)?;
        transaction.commit()?;
        Ok(Self(Arc::new(database)))
    }

    /// Stores a row. Storing it twice changes nothing, so the call may be repeated.
    pub(crate) async fn insert(self, row: Row) -> Result<(), redb::Error> {
        // Writing to the disk blocks the thread.
        spawn_blocking(move || self.insert_blocking(&row)).await.expect("it does not panic")
    }

    fn insert_blocking(&self, row: &Row) -> Result<(), redb::Error> {
        let Row { id, answer, took } = row;
        let mut transaction = self.0.begin_write()?;
        // Not flushed to the disk each time: a crash of the machine may lose the last rows.
        transaction.set_durability(Durability::None)?;
        let mut table = transaction.open_table(ANSWERS)?;
        if table.get(id)?.is_none() {
            let took = took.as_micros() as u64;
            let row = (answer.status.as_u16(), answer.number as u64, answer.body.as_str(), took);
            table.insert(id, row)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    /// Flushes the rows to the disk, and counts them.
    pub(crate) fn count(&self) -> Result<u64, redb::Error> {
        self.0.begin_write()?.commit()?;
        Ok(self.0.begin_read()?.open_table(ANSWERS)?.len()?)
    }
}
