//! sqlx.

use std::{error::Error as StdError, io};

use sqlx::Error;

use super::sqlstate;
use crate::{
    fate::{Fate, classifier},
    judge::find,
};

classifier! {
    /// Judges the errors of `sqlx`: PostgreSQL and MySQL by [SQLSTATE](super::class()), SQLite by its result code.
    ///
    /// | error | class | [`gated`](Self::gated) |
    /// |---|---|---|
    /// | a SQLSTATE | as of [`sql::class`](super::class()) | the same, except: |
    /// | `40001`, `40P01`, `55P03`, `25006` | `Transient` | `NoEffect`: repeated whatever the request |
    /// | `08007`, `40003` | `Permanent` | `Transient`: repeated if the request may be |
    /// | MySQL's 1205, 3572, 1836 and its 1290 for `--read-only`, all without a SQLSTATE of their own | `Transient` | `NoEffect` |
    /// | MySQL's 1206: no room for more locks | `Overload` | `Overload` |
    /// | PostgreSQL's `0A000` for a cached plan that no longer fits | `Transient` | `NoEffect` |
    /// | SQLite is busy or locked | `Transient` | `NoEffect` |
    /// | SQLite cannot read, write or open its file | `Transient` | `Transient` |
    /// | SQLite has no room left, on disk or in memory | `Overload` | `Overload` |
    /// | any other result code of SQLite | `Permanent` | `Permanent` |
    /// | connection refused, or none in time by [`connect`](crate::connect()) | `NoEffect` | `NoEffect` |
    /// | any other I/O error, a broken protocol, a crashed worker, `BEGIN` without effect | `Transient` | `Transient` |
    /// | the pool has no connection in time | `Overload` | `Overload`, not processed: repeated whatever the request |
    /// | the pool is closed | `Permanent` | `Permanent` |
    /// | no row, wrong columns, types, arguments or options | `Permanent` | `Permanent` |
    ///
    /// A connection that is lost during `COMMIT` leaves it open whether the transaction was committed. Give such a
    /// request a key that the database holds unique, so that it may be repeated; or use [`gated`](Self::gated), and
    /// tell the retry layer with `idempotent` which requests may not be.
    ///
    /// # Example
    ///
    /// ```
    /// use stockade_clients::sql::Sqlx;
    /// use stockade_core::{Class, Classify, Error};
    ///
    /// let error = Error::Service(sqlx::Error::PoolTimedOut);
    /// let class = Sqlx::new().classify(Err::<&(), _>(&error));
    /// assert_eq!(class, Class::OVERLOAD);
    /// ```
    Sqlx, fate
}

fn fate(error: &(dyn StdError + 'static)) -> Option<Fate> {
    let error: &Error = find(error)?;
    Some(match error {
        Error::Database(error) => match error.code() {
            Some(code) if code == "HY000" => by_number(&error.to_string()),
            Some(code) => by_code(&code, error.message()),
            None => Fate::Wrong,
        },
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => Fate::NoEffect,
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) => Fate::Lost,
        Error::WorkerCrashed | Error::BeginFailed => Fate::Lost,
        Error::PoolTimedOut => Fate::NoConnection,
        _ => Fate::Wrong,
    })
}

/// A SQLSTATE has five characters; SQLite's result codes are numbers, and none has as many digits.
fn by_code(code: &str, message: &str) -> Fate {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const NO_MEMORY: u32 = 7;
    const INPUT_OUTPUT: u32 = 10;
    const FULL: u32 = 13;
    const CANNOT_OPEN: u32 = 14;

    if code.len() == 5 {
        return sqlstate::fate_of(code, message);
    }
    // What kind of busy it is, or what it could not write, is in the higher bytes.
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(BUSY | LOCKED) => Fate::Undone,
        Ok(INPUT_OUTPUT | CANNOT_OPEN) => Fate::Lost,
        Ok(NO_MEMORY | FULL) => Fate::Crowded,
        _ => Fate::Wrong,
    }
}

/// MySQL has its own number for many errors that SQLSTATE knows only as `HY000`: its message begins with it.
fn by_number(message: &str) -> Fate {
    const LOCK_WAIT_TIMEOUT: u32 = 1205;
    const LOCK_TABLE_FULL: u32 = 1206;
    const OPTION_PREVENTS_STATEMENT: u32 = 1290;
    const READ_ONLY_MODE: u32 = 1836;
    const LOCK_NOWAIT: u32 = 3572;

    let digits = message.find(|c: char| !c.is_ascii_digit()).unwrap_or(message.len());
    match message[..digits].parse() {
        Ok(LOCK_WAIT_TIMEOUT | LOCK_NOWAIT) => Fate::Undone,
        // After a failover it is a replica, and takes no writes.
        Ok(READ_ONLY_MODE) => Fate::Undone,
        Ok(OPTION_PREVENTS_STATEMENT) if message.contains("read-only") => Fate::Undone,
        Ok(LOCK_TABLE_FULL) => Fate::Crowded,
        _ => Fate::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, fmt};

    use sqlx::error::{DatabaseError, ErrorKind};
    use stockade_core::{Class, Classify, Error as StackError, Reason, Rejected};

    use super::*;

    const TRANSIENT: Class = Class::Transient { after: None };
    const UNSENT: Class = Class::NoEffect { after: None };
    const OVERLOAD: Class = Class::OVERLOAD;

    /// A database's answer with this code and message.
    #[derive(Debug)]
    struct Answer(&'static str, &'static str);

    impl fmt::Display for Answer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.1)
        }
    }

    impl StdError for Answer {}

    impl DatabaseError for Answer {
        fn message(&self) -> &str {
            self.1
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    /// The classes without and with the gate.
    fn classes(error: Error) -> [Class; 2] {
        let error = StackError::Service(error);
        [Sqlx::new(), Sqlx::new().gated()].map(|classify| classify.classify(Err::<&(), _>(&error)))
    }

    fn answer(code: &'static str) -> [Class; 2] {
        coded(code, code)
    }

    fn coded(code: &'static str, message: &'static str) -> [Class; 2] {
        classes(Error::Database(Box::new(Answer(code, message))))
    }

    fn io(kind: io::ErrorKind) -> [Class; 2] {
        classes(Error::Io(kind.into()))
    }

    #[test]
    fn a_sqlstate_is_judged_as_such() {
        assert_eq!(answer("57P03"), [UNSENT; 2]);
        assert_eq!(answer("53200"), [OVERLOAD; 2]);
        assert_eq!(answer("57P01"), [TRANSIENT; 2]);
        assert_eq!(answer("23505"), [Class::Permanent; 2]);
    }

    #[test]
    fn a_mysql_error_without_a_sqlstate_is_judged_by_its_number() {
        for (message, expected) in [
            ("1205 (HY000): Lock wait timeout exceeded; try restarting", [TRANSIENT, UNSENT]),
            ("3572 (HY000): lock(s) could not be acquired immediately", [TRANSIENT, UNSENT]),
            (
                "1290 (HY000): The server is running with the --read-only option",
                [TRANSIENT, UNSENT],
            ),
            ("1290 (HY000): running with the --secure-file-priv option", [Class::Permanent; 2]),
            ("1836 (HY000): Running in read-only mode", [TRANSIENT, UNSENT]),
            ("1206 (HY000): The total number of locks exceeds the table size", [OVERLOAD; 2]),
            ("1105 (HY000): Unknown error", [Class::Permanent; 2]),
            ("no number at all", [Class::Permanent; 2]),
        ] {
            assert_eq!(coded("HY000", message), expected, "{message}");
        }
    }

    #[test]
    fn a_cached_plan_that_no_longer_fits_was_not_run() {
        let changed = coded("0A000", "cached plan must not change result type");
        assert_eq!(changed, [TRANSIENT, UNSENT]);
        assert_eq!(coded("0A000", "cross-database references"), [Class::Permanent; 2]);
    }

    #[test]
    fn an_undone_transaction_is_repeated_whatever_the_request_where_that_is_gated() {
        for code in ["40001", "40P01", "55P03"] {
            assert_eq!(answer(code), [TRANSIENT, UNSENT], "{code}");
        }
    }

    #[test]
    fn an_unknown_outcome_is_permanent_unless_the_request_may_be_repeated() {
        assert_eq!(answer("08007"), [Class::Permanent, TRANSIENT]);
        assert_eq!(answer("40003"), [Class::Permanent, TRANSIENT]);
    }

    #[test]
    fn sqlite_that_is_busy_or_locked_is_transient() {
        // Busy, in recovery, with an old snapshot; locked, by a shared cache.
        for code in ["5", "261", "517", "6", "262"] {
            assert_eq!(answer(code), [TRANSIENT, UNSENT], "{code}");
        }
    }

    #[test]
    fn sqlite_that_cannot_get_at_its_file_is_transient() {
        for code in ["10", "266", "8714", "14"] {
            assert_eq!(answer(code), [TRANSIENT; 2], "{code}");
        }
    }

    #[test]
    fn sqlite_without_room_is_overloaded() {
        assert_eq!(answer("13"), [OVERLOAD; 2]);
        assert_eq!(answer("7"), [OVERLOAD; 2]);
    }

    #[test]
    fn what_sqlite_says_of_a_wrong_statement_is_permanent() {
        for code in ["1", "8", "9", "19", "2067", "nonsense"] {
            assert_eq!(answer(code), [Class::Permanent; 2], "{code}");
        }
    }

    #[test]
    fn a_refused_connection_has_no_effect() {
        assert_eq!(io(io::ErrorKind::ConnectionRefused), [UNSENT; 2]);
    }

    #[test]
    fn what_breaks_on_the_way_is_transient() {
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof] {
            assert_eq!(io(kind), [TRANSIENT; 2], "{kind}");
        }
        assert_eq!(classes(Error::Protocol("nonsense".into())), [TRANSIENT; 2]);
        assert_eq!(classes(Error::Tls("no".into())), [TRANSIENT; 2]);
        assert_eq!(classes(Error::WorkerCrashed), [TRANSIENT; 2]);
        assert_eq!(classes(Error::BeginFailed), [TRANSIENT; 2]);
    }

    #[test]
    fn a_pool_without_a_connection_in_time_is_overloaded() {
        let unprocessed = Class::Overload { after: None, processed: false };
        assert_eq!(classes(Error::PoolTimedOut), [OVERLOAD, unprocessed]);
    }

    #[test]
    fn a_closed_pool_is_permanent() {
        assert_eq!(classes(Error::PoolClosed), [Class::Permanent; 2]);
    }

    #[test]
    fn what_the_program_got_wrong_is_permanent() {
        let wrong = [
            Error::RowNotFound,
            Error::Configuration("no".into()),
            Error::InvalidArgument("no".into()),
            Error::ColumnNotFound("no".into()),
            Error::TypeNotFound { type_name: "no".into() },
            Error::Decode("no".into()),
            Error::Encode("no".into()),
        ];
        for error in wrong {
            let told = error.to_string();
            assert_eq!(classes(error), [Class::Permanent; 2], "{told}");
        }
    }

    #[test]
    fn a_success_is_one_and_a_refusal_inside_has_no_effect() {
        let classify = Sqlx::new();
        let ok: Result<&u8, &StackError<Error>> = Ok(&1);
        assert_eq!(classify.classify(ok), Class::Success);
        let no: StackError<Error> = Rejected::new(&"limit", Reason::QueueFull).into();
        assert_eq!(classify.classify(Err::<&(), _>(&no)), UNSENT);
    }
}
