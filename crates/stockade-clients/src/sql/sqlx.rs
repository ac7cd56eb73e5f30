//! sqlx.

use std::{error::Error as StdError, io};

use sqlx::{Error, error::DatabaseError};

use super::sqlstate;
use crate::{
    disposition::{Disposition, classifier},
    judge::{find, is_about_a_certificate},
};

classifier! {
    /// Judges the errors of `sqlx`: PostgreSQL and MySQL by [SQLSTATE](super::class()), SQLite by its result code.
    ///
    /// | error | class | [`gated`](Self::gated) |
    /// |---|---|---|
    /// | a SQLSTATE | as of [`sql::class`](super::class()) | the same, except: |
    /// | `40001`, `40P01`, `55P03`, `25006` | `Transient` | `NoEffect`: repeated whatever the request |
    /// | `08007`, `40003` | `Permanent` | `Transient`: repeated if the request may be |
    /// | MySQL's 1205, 3572, 1836, its 1290 for `--read-only`, and 1615 for a statement that no longer fits | `Transient` | `NoEffect` |
    /// | MySQL's 1040 and 1203: too many connections; 4031: the idle connection was closed; 1047 of Galera: the node is not ready | `NoEffect` | `NoEffect` |
    /// | MySQL's 1021, 1037, 1038, 1041, 1114, 1206, 1226 and 1637: no room left, or a limit reached | `Overload` | `Overload` |
    /// | MariaDB's 1927: somebody ended the connection | `Transient` | `Transient` |
    /// | PostgreSQL's `0A000` for a cached plan that no longer fits, where its messages are English | `Transient` | `NoEffect` |
    /// | PgBouncer has no room, or no server in time (`08P01`) | `NoEffect` | `NoEffect` |
    /// | SQLite is busy or locked | `Transient` | `NoEffect` |
    /// | SQLite cannot read, write or open its file | `Transient` | `Transient` |
    /// | SQLite has no room left, on disk or in memory | `Overload` | `Overload` |
    /// | any other result code of SQLite | `Permanent` | `Permanent` |
    /// | connection refused, or none in time by [`connect`](crate::connect()) | `NoEffect` | `NoEffect` |
    /// | the server's certificate is not trusted | `Permanent` | `Permanent` |
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
    Sqlx, disposition
}

fn disposition(error: &(dyn StdError + 'static)) -> Option<Disposition> {
    let error: &Error = find(error)?;
    Some(match error {
        Error::Database(error) => of_database(&**error),
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Disposition::NoEffect
        }
        Error::Io(_) | Error::Tls(_) if is_about_a_certificate(error) => Disposition::Wrong,
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) => Disposition::Lost,
        Error::WorkerCrashed | Error::BeginFailed => Disposition::Lost,
        Error::PoolTimedOut => Disposition::NoConnection,
        _ => Disposition::Wrong,
    })
}

fn of_database(error: &dyn DatabaseError) -> Disposition {
    let code = error.code();
    if let Some(disposition) = by_number(&error.to_string(), code.as_deref()) {
        return disposition;
    }
    code.map_or(Disposition::Wrong, |code| by_code(&code, error.message()))
}

/// A SQLSTATE has five characters; SQLite's result codes are numbers, and none has as many digits.
fn by_code(code: &str, message: &str) -> Disposition {
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
        Ok(BUSY | LOCKED) => Disposition::Undone,
        Ok(INPUT_OUTPUT | CANNOT_OPEN) => Disposition::Lost,
        Ok(NO_MEMORY | FULL) => Disposition::Crowded,
        _ => Disposition::Wrong,
    }
}

/// What MySQL means by its own numbers, where its SQLSTATE says less. Before it knows the client it gives none at all.
fn by_number(shown: &str, code: Option<&str>) -> Option<Disposition> {
    const TOO_MANY_CONNECTIONS: u32 = 1040;
    const UNKNOWN_COMMAND: u32 = 1047;
    const TOO_MANY_CONNECTIONS_OF_USER: u32 = 1203;
    const LOCK_WAIT_TIMEOUT: u32 = 1205;
    const OPTION_PREVENTS_STATEMENT: u32 = 1290;
    const NEEDS_REPREPARE: u32 = 1615;
    const READ_ONLY_MODE: u32 = 1836;
    const CONNECTION_KILLED: u32 = 1927;
    const LOCK_NOWAIT: u32 = 3572;
    const CLOSED_WHEN_IDLE: u32 = 4031;

    match number(shown, code)? {
        TOO_MANY_CONNECTIONS | TOO_MANY_CONNECTIONS_OF_USER | CLOSED_WHEN_IDLE => {
            Some(Disposition::NoEffect)
        }
        UNKNOWN_COMMAND if shown.contains("WSREP") => Some(Disposition::NoEffect),
        LOCK_WAIT_TIMEOUT | LOCK_NOWAIT | NEEDS_REPREPARE => Some(Disposition::Undone),
        // After a failover it is a replica, and takes no writes.
        READ_ONLY_MODE => Some(Disposition::Undone),
        OPTION_PREVENTS_STATEMENT if shown.contains("read-only") => Some(Disposition::Undone),
        CONNECTION_KILLED => Some(Disposition::Lost),
        number if NO_ROOM.contains(&number) => Some(Disposition::Crowded),
        _ => None,
    }
}

/// MySQL has no room left: on disk, in memory, for sorting, for resources of the system, in a table, for locks, for what
/// a user may do, and for transactions.
const NO_ROOM: [u32; 8] = [1021, 1037, 1038, 1041, 1114, 1206, 1226, 1637];

/// The number with which an error of MySQL is shown, as in `1205 (HY000): ...` or `1040: ...`.
fn number(shown: &str, code: Option<&str>) -> Option<u32> {
    let (number, rest) = shown.split_at(shown.find(|c: char| !c.is_ascii_digit())?);
    let is_mysql = match code {
        Some(code) => rest.starts_with(&format!(" ({code}): ")),
        None => rest.starts_with(": "),
    };
    if is_mysql { number.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, fmt};

    use sqlx::error::ErrorKind;
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
            Some(self.0.into()).filter(|code: &Cow<'_, str>| !code.is_empty())
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
    fn a_mysql_error_is_judged_by_its_number_where_its_sqlstate_says_less_or_is_missing() {
        for (code, message, expected) in [
            ("", "1040: Too many connections", [UNSENT; 2]),
            ("08004", "1040 (08004): Too many connections", [UNSENT; 2]),
            ("42000", "1203 (42000): User me already has more than", [UNSENT; 2]),
            ("42000", "1226 (42000): User 'me' has exceeded the 'max_questions'", [OVERLOAD; 2]),
            ("HY001", "1037 (HY001): Out of memory", [OVERLOAD; 2]),
            ("HY000", "1114 (HY000): The table 'a' is full", [OVERLOAD; 2]),
            ("HY000", "4031 (HY000): The client was disconnected", [UNSENT; 2]),
            ("HY000", "1615 (HY000): needs to be re-prepared", [TRANSIENT, UNSENT]),
            ("08S01", "1047 (08S01): WSREP has not yet prepared node", [UNSENT; 2]),
            ("08S01", "1047 (08S01): Unknown command", [TRANSIENT; 2]),
            ("08S01", "1053 (08S01): Server shutdown in progress", [TRANSIENT; 2]),
            ("70100", "1927 (70100): Connection was killed", [TRANSIENT; 2]),
            ("40001", "1213 (40001): Deadlock found", [TRANSIENT, UNSENT]),
            ("25006", "1792 (25006): in a READ ONLY transaction", [TRANSIENT, UNSENT]),
            ("28000", "1045 (28000): Access denied", [Class::Permanent; 2]),
            ("", "1129: Host 'a' is blocked", [Class::Permanent; 2]),
            // What a statement of PostgreSQL has raised is not MySQL's.
            ("P0001", "1040: Too many connections", [Class::Permanent; 2]),
        ] {
            assert_eq!(coded(code, message), expected, "{message}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_permanent() {
        for told in ["invalid peer certificate: UnknownIssuer", "certificate verify failed"] {
            assert_eq!(classes(Error::Tls(told.into())), [Class::Permanent; 2]);
            assert_eq!(classes(Error::Io(io::Error::other(told))), [Class::Permanent; 2]);
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
