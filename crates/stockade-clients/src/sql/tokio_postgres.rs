//! tokio-postgres, and deadpool in front of it.

use std::error::Error as StdError;

use tokio_postgres::Error;

use super::sqlstate;
use crate::{
    disposition::{Disposition, classifier},
    judge::{find, is_about_a_certificate},
};

classifier! {
    /// Judges the errors of `tokio-postgres` by [SQLSTATE](super::class()); with the features `deadpool` and `bb8` also
    /// those of a pool of `deadpool-postgres` or `bb8-postgres`.
    ///
    /// | error | class | [`gated`](Self::gated) |
    /// |---|---|---|
    /// | a SQLSTATE | as of [`sql::class`](super::class()) | the same, except: |
    /// | `40001`, `40P01`, `55P03`, `25006` | `Transient` | `NoEffect`: repeated whatever the request |
    /// | `08007`, `40003` | `Permanent` | `Transient`: repeated if the request may be |
    /// | `0A000` for a cached plan that no longer fits | `Transient` | `NoEffect` |
    /// | PgBouncer has no room, or no server in time (`08P01`) | `NoEffect` | `NoEffect` |
    /// | no connection could be made: refused, no such host, no TLS, not within its `connect_timeout` or the time of [`connect`](crate::connect()), or the server is not what `target_session_attrs` asks for | `NoEffect` | `NoEffect` |
    /// | the server's certificate is not trusted | `Permanent` | `Permanent` |
    /// | any other I/O error, a closed connection, a time-out, an answer that is none | `Transient` | `Transient` |
    /// | no row or too many, wrong columns, types, parameters or options, no way to authenticate | `Permanent` | `Permanent` |
    /// | the pool has no connection in time (`deadpool`, `bb8`) | `Overload` | `Overload`, not processed: repeated whatever the request |
    /// | the pool is closed, or has no runtime (`deadpool`) | `Permanent` | `Permanent` |
    /// | a hook of the pool said no (`deadpool`) | `NoEffect` | `NoEffect` |
    ///
    /// A connection that is lost during `COMMIT` leaves it open whether the transaction was committed. Give such a
    /// request a key that the database holds unique, so that it may be repeated; or use [`gated`](Self::gated), and
    /// tell the retry layer with `idempotent` which requests may not be.
    ///
    /// # Example
    ///
    /// ```
    /// use stockade_clients::sql::TokioPostgres;
    /// use stockade_core::{Class, Classify, Error};
    /// use tokio_postgres::Config;
    ///
    /// let error = Error::Service("no_such_option=1".parse::<Config>().unwrap_err());
    /// let class = TokioPostgres::new().classify(Err::<&(), _>(&error));
    /// assert_eq!(class, Class::Permanent);
    /// ```
    TokioPostgres, disposition
}

fn disposition(error: &(dyn StdError + 'static)) -> Option<Disposition> {
    if let Some(error) = find(error) {
        return Some(own(error));
    }
    #[cfg(feature = "deadpool")]
    if let Some(error) = find(error) {
        return pool(error);
    }
    #[cfg(feature = "bb8")]
    if let Some(disposition) = crate::disposition::of_bb8::<Error>(error) {
        return Some(disposition);
    }
    None
}

fn own(error: &Error) -> Disposition {
    if let Some(error) = error.as_db_error() {
        // The message may be in any language.
        if error.routine() == Some("RevalidateCachedQuery") {
            return Disposition::Undone;
        }
        return sqlstate::fate_of(error.code().code(), error.message());
    }
    if error.is_closed() {
        return Disposition::Lost;
    }
    if is_about_a_certificate(error) {
        return Disposition::Wrong;
    }
    // The kind of an error shows in nothing but its text.
    match error.to_string() {
        text if UNSENT.iter().any(|start| text.starts_with(start)) => Disposition::NoEffect,
        text if LOST.iter().any(|start| text.starts_with(start)) => Disposition::Lost,
        _ => Disposition::Wrong,
    }
}

/// How the text of an error begins where no session with a server came about.
const UNSENT: [&str; 2] = ["error connecting to server", "error performing TLS handshake"];

/// How the text of an error begins that the other side, or the way to it, is to blame for.
const LOST: [&str; 4] = [
    "error communicating with the server",
    "unexpected message from server",
    "error parsing response from server",
    "timeout waiting for server",
];

#[cfg(feature = "deadpool")]
fn pool(error: &deadpool::managed::PoolError<Error>) -> Option<Disposition> {
    use deadpool::managed::PoolError;

    match error {
        PoolError::Timeout(_) => Some(Disposition::NoConnection),
        PoolError::Closed | PoolError::NoRuntimeSpecified => Some(Disposition::Wrong),
        PoolError::PostCreateHook(_) => Some(Disposition::NoEffect),
        // It is among the sources, where it is judged for itself.
        PoolError::Backend(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use stockade_core::{Class, Classify, Error as StackError};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio_postgres::{Client, Config, NoTls};

    use super::*;

    const TRANSIENT: Class = Class::Transient { after: None };
    const UNSENT: Class = Class::NoEffect { after: None };

    #[cfg(any(feature = "bb8", feature = "deadpool"))]
    const NO_CONNECTION: [Class; 2] =
        [Class::OVERLOAD, Class::Overload { after: None, processed: false }];

    /// The classes without and with the gate.
    fn classes<E: StdError + 'static>(error: E) -> [Class; 2] {
        let error = StackError::Service(error);
        [TokioPostgres::new(), TokioPostgres::new().gated()]
            .map(|classify| classify.classify(Err::<&(), _>(&error)))
    }

    /// One message of a server.
    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[tag], length.as_slice(), body].concat()
    }

    fn failure(code: &str) -> Vec<u8> {
        message(b'E', format!("SERROR\0VERROR\0C{code}\0Mtold by the test\0\0").as_bytes())
    }

    /// What comes of a connection to a server that says `greeting`, and the server's end of it.
    async fn connect(greeting: &[u8]) -> (Result<Client, Error>, DuplexStream) {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(greeting).await.unwrap();
        let mut config = Config::new();
        config.user("somebody").password("secret");
        let client = config.connect_raw(ours, NoTls).await.map(|(client, connection)| {
            tokio::spawn(connection);
            client
        });
        (client, theirs)
    }

    /// A client that the server has let in.
    async fn client() -> (Client, DuplexStream) {
        let greeting = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
        let (client, theirs) = connect(&greeting).await;
        (client.unwrap(), theirs)
    }

    async fn answer(code: &str) -> [Class; 2] {
        let (client, _theirs) = connect(&failure(code)).await;
        classes(client.err().unwrap())
    }

    #[tokio::test]
    async fn a_sqlstate_is_judged_as_such() {
        assert_eq!(answer("57P03").await, [UNSENT; 2]);
        assert_eq!(answer("53300").await, [UNSENT; 2]);
        assert_eq!(answer("53200").await, [Class::OVERLOAD; 2]);
        assert_eq!(answer("57P01").await, [TRANSIENT; 2]);
        assert_eq!(answer("28P01").await, [Class::Permanent; 2]);
        assert_eq!(answer("57014").await, [Class::Permanent; 2]);
    }

    #[tokio::test]
    async fn an_undone_transaction_is_repeated_whatever_the_request_where_that_is_gated() {
        for code in ["40001", "40P01", "55P03"] {
            assert_eq!(answer(code).await, [TRANSIENT, UNSENT], "{code}");
        }
    }

    #[tokio::test]
    async fn what_a_pooler_says_in_place_of_the_server_or_of_a_stale_plan_was_not_run() {
        for (code, message, expected) in [
            ("0A000", "gecachter Plan\0RRevalidateCachedQuery", [TRANSIENT, UNSENT]),
            ("08P01", "no more connections allowed (max_client_conn)", [UNSENT; 2]),
            ("08P01", "query_wait_timeout", [UNSENT; 2]),
            ("08P01", "told by the test", [TRANSIENT; 2]),
            ("0A000", "cached plan must not change result type", [TRANSIENT, UNSENT]),
        ] {
            let answer = format!("SERROR\0VERROR\0C{code}\0M{message}\0\0");
            let (client, _theirs) = connect(&self::message(b'E', answer.as_bytes())).await;
            assert_eq!(classes(client.err().unwrap()), expected, "{message}");
        }
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_permanent_unless_the_request_may_be_repeated() {
        assert_eq!(answer("08007").await, [Class::Permanent, TRANSIENT]);
        assert_eq!(answer("40003").await, [Class::Permanent, TRANSIENT]);
    }

    #[tokio::test]
    async fn a_refused_connection_has_no_effect() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user("somebody");

        let error = config.connect(NoTls).await.err().unwrap();

        assert_eq!(classes(error), [UNSENT; 2]);
    }

    #[tokio::test]
    async fn a_host_that_nobody_knows_has_no_effect() {
        let mut config = Config::new();
        config.host("nobody.invalid").user("somebody");

        let error = config.connect(NoTls).await.err().unwrap();

        assert_eq!(classes(error), [UNSENT; 2]);
    }

    #[tokio::test]
    async fn a_server_without_tls_has_no_effect_where_tls_is_asked_for() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(b"N").await.unwrap();
        let mut config = Config::new();
        config.user("somebody").ssl_mode(tokio_postgres::config::SslMode::Require);

        let error = config.connect_raw(ours, NoTls).await.err().unwrap();

        assert_eq!(classes(error), [UNSENT; 2]);
    }

    #[tokio::test]
    async fn a_closed_connection_is_transient() {
        let (client, theirs) = client().await;
        drop(theirs);

        let error = client.simple_query("SELECT 1").await.unwrap_err();

        assert!(error.is_closed(), "{error:?}");
        assert_eq!(classes(error), [TRANSIENT; 2]);
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_transient() {
        for nonsense in ["\0\0\0\0\0\0\0\0", "R\0\0\0\x05xyz"] {
            let (client, _theirs) = connect(nonsense.as_bytes()).await;
            let error = client.err().unwrap();
            let told = format!("{error:?}");
            assert_eq!(classes(error), [TRANSIENT; 2], "{told}");
        }
    }

    #[test]
    fn a_time_out_is_transient() {
        assert_eq!(classes(Error::__private_api_timeout()), [TRANSIENT; 2]);
    }

    #[tokio::test]
    async fn a_kind_of_authentication_that_nobody_knows_is_permanent() {
        // Kerberos 5, which the client does not speak.
        let (client, _theirs) = connect(&message(b'R', &[0, 0, 0, 2])).await;

        assert_eq!(classes(client.err().unwrap()), [Class::Permanent; 2]);
    }

    #[tokio::test]
    async fn what_the_program_got_wrong_is_permanent() {
        let options = "no_such_option=1".parse::<Config>().unwrap_err();
        assert_eq!(classes(options), [Class::Permanent; 2]);

        let (client, mut theirs) = client().await;
        let asked = tokio::spawn(async move { client.query_one("SELECT", &[]).await });
        // Parsed without parameters and columns, then done without a row.
        let parsed = [message(b'1', b""), message(b't', &[0, 0]), message(b'n', b"")].concat();
        let done = [message(b'2', b""), message(b'C', b"SELECT 0\0")].concat();
        for answer in [parsed, done] {
            let mut heard = Vec::new();
            while !heard.ends_with(&message(b'S', b"")) {
                theirs.read_buf(&mut heard).await.unwrap();
            }
            theirs.write_all(&[answer, message(b'Z', b"I")].concat()).await.unwrap();
        }
        let error = asked.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("rows"), "{error}");
        assert_eq!(classes(error), [Class::Permanent; 2]);
    }

    #[cfg(feature = "deadpool")]
    #[test]
    fn a_pool_without_a_connection_in_time_is_overloaded() {
        use deadpool::managed::{HookError, PoolError, TimeoutType};

        for timeout in [TimeoutType::Wait, TimeoutType::Create, TimeoutType::Recycle] {
            let error = PoolError::<Error>::Timeout(timeout);
            assert_eq!(classes(error), NO_CONNECTION, "{timeout:?}");
        }
        assert_eq!(classes(PoolError::<Error>::Closed), [Class::Permanent; 2]);
        assert_eq!(classes(PoolError::<Error>::NoRuntimeSpecified), [Class::Permanent; 2]);
        let hook = PoolError::<Error>::PostCreateHook(HookError::message("no"));
        assert_eq!(classes(hook), [UNSENT; 2]);
        let backend = PoolError::Backend(Error::__private_api_timeout());
        assert_eq!(classes(backend), [TRANSIENT; 2]);
    }

    #[cfg(feature = "bb8")]
    #[test]
    fn a_pool_of_bb8_is_crowded_or_passes_on_what_its_connection_says() {
        let crowded = classes(bb8::RunError::<Error>::TimedOut);
        assert_eq!(crowded, NO_CONNECTION);
        let wrong = "no_such_option=1".parse::<Config>().unwrap_err();
        assert_eq!(classes(bb8::RunError::User(wrong)), [Class::Permanent; 2]);
    }
}
