//! SQLSTATE: the five characters in which a database says what went wrong.

use stockade_core::Class;

use crate::disposition::Disposition;

/// The class of an error with this SQLSTATE, as PostgreSQL gives them.
///
/// The classifiers for SQL judge by it, and those that you write for another client can.
///
/// | SQLSTATE | | class |
/// |---|---|---|
/// | `40001`, `40P01`, rest of `40` | the transaction was rolled back for the sake of another one | `Transient`: repeat the whole of it |
/// | `40002` | it was rolled back for breaking a constraint | `Permanent` |
/// | `08007`, `40003` | nobody knows whether it was committed | `Permanent` |
/// | rest of `08` | the connection is gone | `Transient` |
/// | `57P01`, `57P02`, `57P05` | the server, or somebody there, ended the connection | `Transient` |
/// | `57P03` | the server starts up or shuts down | `NoEffect` |
/// | `53300` | too many connections | `NoEffect` |
/// | `08P01`, to the classifiers, where its message is PgBouncer's: no room, or no server in time | `NoEffect` |
/// | rest of `53` | no memory, disk or other resource left | `Overload` |
/// | `57014`, `25P04` | the statement was cancelled, or it or its transaction took too long | `Permanent` |
/// | `25P03`, `72000` | the transaction was ended because it was idle, or reads what is no longer kept | `Transient` |
/// | `55P03` | a lock could not be had at once | `Transient` |
/// | `25006` | the server takes no writes; after a failover it is no longer the first | `Transient` |
/// | `58`, `F0`, `XX` | the server's own trouble | `Transient` |
/// | everything else, `22`, `23` and `42` among it | the statement or its data are wrong | `Permanent` |
///
/// # Example
///
/// ```
/// use stockade_clients::sql;
/// use stockade_core::Class;
///
/// assert_eq!(sql::class("40001"), Class::Transient { after: None });
/// assert_eq!(sql::class("23505"), Class::Permanent);
/// ```
pub fn class(code: &str) -> Class {
    disposition(code).class(false)
}

/// The same, where the message is needed to tell.
pub(super) fn fate_of(code: &str, message: &str) -> Disposition {
    match code {
        // A table was changed since the statement was prepared: it was not run, and a connection that prepares
        // it anew runs it.
        "0A000" if message.contains("cached plan must not change result type") => {
            Disposition::Undone
        }
        "08P01" if OF_POOLER.iter().any(|told| message.contains(told)) => Disposition::NoEffect,
        code => disposition(code),
    }
}

/// What PgBouncer says before it has given the client a connection of the server.
const OF_POOLER: [&str; 4] = [
    "no more connections allowed",
    "client connections exceeded",
    "query_wait_timeout",
    "server login has been failing",
];

pub(super) fn disposition(code: &str) -> Disposition {
    match code {
        "57P03" | "53300" => Disposition::NoEffect,
        "08007" | "40003" => Disposition::Unknown,
        "57P01" | "57P02" | "57P05" => Disposition::Lost,
        "55P03" | "25006" | "25P03" | "72000" => Disposition::Undone,
        "40002" => Disposition::Wrong,
        _ => match code.get(..2) {
            Some("40") => Disposition::Undone,
            Some("08" | "58" | "F0" | "XX") => Disposition::Lost,
            Some("53") => Disposition::Crowded,
            _ => Disposition::Wrong,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMANENT: Class = Class::Permanent;
    const TRANSIENT: Class = Class::Transient { after: None };
    const UNSENT: Class = Class::NoEffect { after: None };
    const OVERLOAD: Class = Class::OVERLOAD;

    fn all(codes: &[&str], class: Class) {
        for code in codes {
            assert_eq!(super::class(code), class, "{code}");
        }
    }

    #[test]
    fn a_transaction_that_gave_way_to_another_is_repeated() {
        all(&["40001", "40P01", "40000"], TRANSIENT);
        all(&["40002"], PERMANENT);
    }

    #[test]
    fn an_unknown_outcome_is_permanent_unless_the_request_may_be_repeated() {
        for code in ["08007", "40003"] {
            assert_eq!(disposition(code).class(false), PERMANENT, "{code}");
            assert_eq!(disposition(code).class(true), TRANSIENT, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_is_transient() {
        all(&["08000", "08001", "08003", "08004", "08006", "08P01"], TRANSIENT);
        all(&["57P01", "57P02", "57P05"], TRANSIENT);
    }

    #[test]
    fn a_server_that_lets_nobody_in_has_done_nothing() {
        all(&["57P03", "53300"], UNSENT);
    }

    #[test]
    fn a_server_without_resources_is_overloaded() {
        all(&["53000", "53100", "53200", "53400"], OVERLOAD);
    }

    #[test]
    fn a_cancelled_statement_is_permanent() {
        all(&["57014", "57000", "57P04", "25P04"], PERMANENT);
    }

    #[test]
    fn a_transaction_that_the_server_has_ended_by_itself_is_undone() {
        for code in ["25P03", "72000"] {
            assert_eq!(
                [false, true].map(|gated| disposition(code).class(gated)),
                [TRANSIENT, UNSENT]
            );
        }
    }

    #[test]
    fn what_a_pooler_says_before_it_has_a_server_has_no_effect() {
        for message in [
            "no more connections allowed (max_client_conn)",
            "client connections exceeded (max_db_client_connections)",
            "query_wait_timeout",
            "server login has been failing, try again later (server_login_retry)",
        ] {
            assert_eq!(fate_of("08P01", message), Disposition::NoEffect, "{message}");
        }
        assert_eq!(fate_of("08P01", "bad packet header"), Disposition::Lost);
    }

    #[test]
    fn a_lock_that_was_not_free_is_transient() {
        all(&["55P03"], TRANSIENT);
        all(&["55000", "55006"], PERMANENT);
    }

    #[test]
    fn a_server_that_takes_no_writes_is_transient() {
        all(&["25006"], TRANSIENT);
        all(&["25P02"], PERMANENT);
    }

    #[test]
    fn a_server_in_trouble_is_transient() {
        all(&["58000", "58030", "F0001", "XX000", "XX001"], TRANSIENT);
    }

    #[test]
    fn wrong_statements_and_wrong_data_are_permanent() {
        all(&["22012", "22P02", "23505", "23503", "42601", "42P01", "42501"], PERMANENT);
        all(&["28P01", "3D000", "0A000", "P0001", "", "é"], PERMANENT);
    }

    #[test]
    fn what_is_surely_undone_is_repeated_whatever_the_request_if_that_is_gated() {
        for code in ["40001", "40P01", "55P03", "25006"] {
            assert_eq!(disposition(code).class(true), UNSENT, "{code}");
        }
        for code in ["08006", "57P01", "57P02"] {
            assert_eq!(disposition(code).class(true), TRANSIENT, "{code}");
        }
    }
}
