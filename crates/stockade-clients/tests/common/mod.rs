//! What the tests against real servers share.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::{cell::RefCell, error::Error, fmt::Write as _, net::SocketAddr, sync::Once};

use tokio::net::TcpSocket;

/// What must not be seen.
pub(crate) const SECRET: &str = "hunter2";

/// Everything that an error says: by itself, by its sources, and for debugging.
pub(crate) fn everything_said(error: &(dyn Error + 'static)) -> String {
    let mut said = format!("{error}\n{error:?}\n{error:#?}\n");
    let mut source = error.source();
    while let Some(error) = source {
        writeln!(said, "{error}\n{error:?}").unwrap();
        source = error.source();
    }
    said
}

thread_local! {
    /// What this thread has logged, and with it its runtime.
    static LINES: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| {
            writeln!(lines, "{} {}", record.target(), record.args()).unwrap();
        });
    }

    fn flush(&self) {}
}

/// Has all that this thread logs from now on written down; the answer reads it.
pub(crate) fn logged() -> impl Fn() -> String {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    || LINES.with_borrow(Clone::clone)
}

/// An address at which nobody listens, for as long as the socket is kept.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}
