//! Redis: what an error means.
//!
//! A `ConnectionManager` connects again by itself when it is used after a loss; have it do that once at a time, with
//! `set_number_of_retries(0)`, where a retry layer waits in its place. Both kinds of connection have a time-out of
//! their own for answers, half a second unless set. A command whose future was dropped still runs at the server.

use std::error::Error as StdError;

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

use crate::{
    disposition::{Disposition, classifier},
    judge::{find, is_about_a_certificate},
};

classifier! {
    /// Judges the errors of `redis`, by the code with which the server's answer begins.
    ///
    /// | error | class | [`gated`](Self::gated) |
    /// |---|---|---|
    /// | `LOADING`, `BUSY`, `TRYAGAIN`, `CLUSTERDOWN`, `MASTERDOWN`, `READONLY` | `Transient` | `NoEffect`: repeated whatever the request |
    /// | the same in a pipeline, of which a part may have run | `Transient` | `Transient` |
    /// | `MOVED`, `ASK`, `NOREPLICAS`, `MISCONF`, `UNBLOCKED` | `Transient` | `NoEffect` |
    /// | `no upstream host` of Envoy, `ERR Connection refused` of twemproxy | `NoEffect` | `NoEffect` |
    /// | any other `upstream` failure of Envoy, `ERR Connection timed out` and the like of twemproxy | `Transient` | `Transient` |
    /// | `OOM`: it may use no more memory | `Overload` | `Overload` |
    /// | too many clients, if the server got to say so before it hung up | `NoEffect` | `NoEffect` |
    /// | `EXECABORT`: a transaction was discarded, and none of it ran | by its first error: as above, for a single command | |
    /// | any other answer | `Permanent` | `Permanent` |
    /// | connection refused, or none in time by [`connect`](crate::connect()); no node or master known to send it to | `NoEffect` | `NoEffect` |
    /// | the server's certificate is not trusted | `Permanent` | `Permanent` |
    /// | any other I/O error, time-outs of the client among them; an answer that is none | `Transient` | `Transient` |
    /// | the pool has no connection in time (feature `bb8`) | `Overload` | `Overload`, not processed: repeated whatever the request |
    /// | wrong password, options, commands or types | `Permanent` | `Permanent` |
    ///
    /// After an I/O error nobody knows whether the command ran. `Transient` is repeated only where the retry layer's
    /// `idempotent` allows it, which is everywhere unless told otherwise: so tell it that `INCR` and `LPUSH` are not,
    /// and use [`gated`](Self::gated) to have them repeated where they surely did not run.
    ///
    /// # Example
    ///
    /// ```
    /// use redis::RedisError;
    /// use stockade_clients::redis::Redis;
    /// use stockade_core::{Class, Classify, Error};
    ///
    /// let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    /// let error = Error::Service(RedisError::from(refused));
    /// let class = Redis::new().classify(Err::<&(), _>(&error));
    /// assert_eq!(class, Class::NoEffect { after: None });
    /// ```
    Redis, disposition
}

fn disposition(error: &(dyn StdError + 'static)) -> Option<Disposition> {
    #[cfg(feature = "bb8")]
    if let Some(disposition) = crate::disposition::of_bb8::<RedisError>(error) {
        return Some(disposition);
    }
    let error: &RedisError = find(error)?;
    Some(match error.kind() {
        ErrorKind::Io if error.is_connection_refusal() => Disposition::NoEffect,
        ErrorKind::Io if is_about_a_certificate(error) => Disposition::Wrong,
        ErrorKind::Io | ErrorKind::Parse => Disposition::Lost,
        ErrorKind::ClusterConnectionNotFound
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::NoValidReplicasFoundBySentinel => Disposition::NoEffect,
        ErrorKind::Server(_) | ErrorKind::Extension => answered(error),
        _ => Disposition::Wrong,
    })
}

fn answered(error: &RedisError) -> Disposition {
    if error.kind() == ErrorKind::Server(ServerErrorKind::ExecAbort) {
        return aborted(error);
    }
    // The whole answer is there only for a single command.
    let single = error.source().is_some_and(|source| source.is::<ServerError>());
    match error.code() {
        Some(code) if is_passing(code) && single => Disposition::Undone,
        Some(code) if is_passing(code) => Disposition::Lost,
        Some("OOM") => Disposition::Crowded,
        // What a server says to a client that it lets in no further has no code of its own.
        Some("ERR") if error.detail().is_some_and(|d| d.starts_with("max number of clients")) => {
            Disposition::NoEffect
        }
        Some(code) => of_proxy(code, error.detail().unwrap_or_default()),
        None => Disposition::Wrong,
    }
}

/// What Envoy and twemproxy say in place of the server.
fn of_proxy(code: &str, detail: &str) -> Disposition {
    match (code, detail) {
        ("no", "upstream host") | ("ERR", "Connection refused") => Disposition::NoEffect,
        ("upstream", _) => Disposition::Lost,
        ("ERR", "Connection timed out" | "Connection reset by peer" | "Broken pipe") => {
            Disposition::Lost
        }
        _ => Disposition::Wrong,
    }
}

/// Whether this code says that the server cannot do it now, or that another one can.
fn is_passing(code: &str) -> bool {
    matches!(code, "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY")
        || matches!(code, "MOVED" | "ASK" | "NOREPLICAS" | "MISCONF" | "UNBLOCKED")
}

/// A transaction that was discarded: none of it ran, and its first error says why.
fn aborted(error: &RedisError) -> Disposition {
    let errors = error.clone().into_server_errors().unwrap_or_default();
    let mut reasons = errors.iter().map(|(_, error)| error.code()).filter(|c| *c != "EXECABORT");
    match reasons.next() {
        Some("OOM") => Disposition::Crowded,
        Some(code) if is_passing(code) => Disposition::Undone,
        _ => Disposition::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::{ConnectionLike, RedisResult, Value};
    use stockade_core::{Class, Classify, Error};

    use super::*;

    const TRANSIENT: Class = Class::Transient { after: None };
    const UNSENT: Class = Class::NoEffect { after: None };
    const OVERLOAD: Class = Class::OVERLOAD;

    /// The classes without and with the gate.
    fn classes(error: RedisError) -> [Class; 2] {
        let error = Error::Service(error);
        [Redis::new(), Redis::new().gated()]
            .map(|classify| classify.classify(Err::<&(), _>(&error)))
    }

    /// Of the error that a server's answer makes.
    fn answer(line: &str) -> [Class; 2] {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = value else { panic!("{value:?} is no error") };
        classes(error.into())
    }

    /// Answers every command of a pipeline as a loading server does.
    struct Loading;

    impl ConnectionLike for Loading {
        fn req_packed_command(&mut self, _: &[u8]) -> RedisResult<Value> {
            panic!("a pipeline is sent as one")
        }

        fn req_packed_commands(
            &mut self,
            _: &[u8],
            _: usize,
            count: usize,
        ) -> RedisResult<Vec<Value>> {
            let one = redis::parse_redis_value(b"-LOADING not now\r\n")?;
            Ok(vec![one; count])
        }

        fn get_db(&self) -> i64 {
            0
        }

        fn check_connection(&mut self) -> bool {
            true
        }

        fn is_open(&self) -> bool {
            true
        }
    }

    #[test]
    fn of_a_pipeline_that_was_put_off_a_part_may_have_run() {
        let pipeline = redis::pipe().incr("a", 1).incr("b", 1).query::<()>(&mut Loading);

        assert_eq!(classes(pipeline.unwrap_err()), [TRANSIENT; 2]);
    }

    fn kind(kind: ErrorKind) -> [Class; 2] {
        classes((kind, "told by the test").into())
    }

    #[test]
    fn a_command_that_the_server_puts_off_is_transient() {
        for code in ["LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY"] {
            assert_eq!(answer(&format!("{code} not now")), [TRANSIENT, UNSENT], "{code}");
        }
        for code in ["MOVED 3999 127.0.0.1:6381", "ASK 3999 127.0.0.1:6381", "NOREPLICAS no"] {
            assert_eq!(answer(code), [TRANSIENT, UNSENT], "{code}");
        }
        assert_eq!(answer("MISCONF cannot save"), [TRANSIENT, UNSENT]);
        assert_eq!(answer("UNBLOCKED force unblock from blocking operation"), [TRANSIENT, UNSENT]);
    }

    #[test]
    fn a_proxy_that_answers_for_the_server_says_whether_it_had_one() {
        assert_eq!(answer("no upstream host"), [UNSENT; 2]);
        assert_eq!(answer("upstream failure"), [TRANSIENT; 2]);
        assert_eq!(answer("upstream protocol error"), [TRANSIENT; 2]);
        assert_eq!(answer("ERR Connection refused"), [UNSENT; 2]);
        assert_eq!(answer("ERR Connection timed out"), [TRANSIENT; 2]);
    }

    #[test]
    fn a_server_without_memory_is_overloaded() {
        assert_eq!(answer("OOM command not allowed"), [OVERLOAD; 2]);
    }

    #[test]
    fn too_many_clients_have_sent_nothing() {
        assert_eq!(answer("ERR max number of clients reached"), [UNSENT; 2]);
    }

    #[test]
    fn any_other_answer_is_permanent() {
        for line in ["ERR unknown command", "WRONGTYPE no", "NOSCRIPT no", "NOPERM no", "NEW no"] {
            assert_eq!(answer(line), [Class::Permanent; 2], "{line}");
        }
    }

    #[test]
    fn a_refused_connection_has_no_effect() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(classes(refused.into()), [UNSENT; 2]);
    }

    #[test]
    fn a_command_that_knows_no_node_to_go_to_has_no_effect() {
        assert_eq!(kind(ErrorKind::ClusterConnectionNotFound), [UNSENT; 2]);
        assert_eq!(kind(ErrorKind::MasterNameNotFoundBySentinel), [UNSENT; 2]);
        assert_eq!(kind(ErrorKind::NoValidReplicasFoundBySentinel), [UNSENT; 2]);
    }

    #[test]
    fn what_breaks_on_the_way_is_transient() {
        for broken in [io::ErrorKind::ConnectionReset, io::ErrorKind::TimedOut] {
            assert_eq!(classes(io::Error::from(broken).into()), [TRANSIENT; 2], "{broken}");
        }
        assert_eq!(kind(ErrorKind::Io), [TRANSIENT; 2]);
        assert_eq!(kind(ErrorKind::Parse), [TRANSIENT; 2]);
    }

    #[test]
    fn what_the_program_got_wrong_is_permanent() {
        for wrong in [
            ErrorKind::AuthenticationFailed,
            ErrorKind::InvalidClientConfig,
            ErrorKind::UnexpectedReturnType,
            ErrorKind::Client,
            ErrorKind::RESP3NotSupported,
        ] {
            assert_eq!(kind(wrong), [Class::Permanent; 2], "{wrong:?}");
        }
    }
}
