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
    /// | `40001`, `40P01`, `55P03` | `Transient` | `NoEffect`: repeated whatever the request |
    /// | `08007`, `40003` | `Permanent` | `Transient`: repeated if the request may be |
    /// | SQLite is busy or locked | `Transient` | `NoEffect` |
    /// | SQLite cannot read, write or open its file | `Transient` | `Transient` |
    /// | SQLite has no room left, on disk or in memory | `Overload` | `Overload` |
    /// | any other result code of SQLite | `Permanent` | `Permanent` |
    /// | connection refused, or none in time by [`connect`](crate::connect()) | `NoEffect` | `NoEffect` |
    /// | any other I/O error, a broken protocol, a crashed worker, `BEGIN` without effect | `Transient` | `Transient` |
    /// | the pool has no connection in time | `Overload` | `Overload` |
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
        Error::Database(error) => error.code().map_or(Fate::Wrong, |code| by_code(&code)),
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => Fate::NoEffect,
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) => Fate::Lost,
        Error::WorkerCrashed | Error::BeginFailed => Fate::Lost,
        Error::PoolTimedOut => Fate::Crowded,
        _ => Fate::Wrong,
    })
}

/// A SQLSTATE has five characters; SQLite's result codes are numbers, and none has as many digits.
fn by_code(code: &str) -> Fate {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const NO_MEMORY: u32 = 7;
    const INPUT_OUTPUT: u32 = 10;
    const FULL: u32 = 13;
    const CANNOT_OPEN: u32 = 14;

    if code.len() == 5 {
        return sqlstate::fate(code);
    }
    // What kind of busy it is, or what it could not write, is in the higher bytes.
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(BUSY | LOCKED) => Fate::Undone,
        Ok(INPUT_OUTPUT | CANNOT_OPEN) => Fate::Lost,
        Ok(NO_MEMORY | FULL) => Fate::Crowded,
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

    /// A database's answer with this code.
    #[derive(Debug)]
    struct Answer(&'static str);

    impl fmt::Display for Answer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Answer {}

    impl DatabaseError for Answer {
        fn message(&self) -> &str {
            self.0
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
        classes(Error::Database(Box::new(Answer(code))))
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
        assert_eq!(classes(Error::PoolTimedOut), [OVERLOAD; 2]);
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
