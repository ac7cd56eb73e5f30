//! What MySQL says, byte for byte, to sqlx: no MySQL has to be installed for it.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use sqlx::{Connection as _, MySqlConnection};
use stockade_clients::{Failure, sql::Sqlx};
use stockade_core::{Class, Classify, Error};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const TRANSIENT: Class = Class::Transient { after: None };
const UNSENT: Class = Class::NoEffect { after: None };
const PERMANENT: Class = Class::Permanent;

/// A packet without its header.
type Packet = Vec<u8>;

/// What a server says first: who it is, and how to log in.
fn greeting() -> Packet {
    let version = b"\x0a8.0.36\0\x01\0\0\0saltsalt\0";
    // All that a server can do, but TLS; and that nothing is under way.
    let abilities = b"\xff\xf7\xff\x02\0\xff\xc7\x15";
    let rest = b"\0\0\0\0\0\0\0\0\0\0saltsaltsalt\0mysql_native_password\0";
    [&version[..], abilities, rest].concat()
}

/// An error, with its SQLSTATE unless the server does not know the client yet.
fn error(number: u16, state: Option<&str>, message: &str) -> Packet {
    let state = state.map(|state| format!("#{state}")).unwrap_or_default();
    [&[0xff][..], &number.to_le_bytes(), state.as_bytes(), message.as_bytes()].concat()
}

fn ok() -> Packet {
    vec![0, 0, 0, 2, 0, 0, 0]
}

async fn send(stream: &mut TcpStream, sequence: u8, packet: &[u8]) {
    let [a, b, c, _] = (packet.len() as u32).to_le_bytes();
    stream.write_all(&[&[a, b, c, sequence], packet].concat()).await.unwrap();
}

/// Reads a packet of the client; the answer has to have the next number in the sequence.
async fn receive(stream: &mut TcpStream) -> u8 {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.unwrap();
    let [a, b, c, sequence] = header;
    let length = u32::from_le_bytes([a, b, c, 0]) as usize;
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    sequence + 1
}

/// The classes, without and with the gate, of what comes of a connection to a server that says these, one after the other.
async fn classes(says: Vec<Packet>) -> ([Class; 2], String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut sequence = 0;
        let last = says.len() - 1;
        for (n, packet) in says.into_iter().enumerate() {
            send(&mut stream, sequence, &packet).await;
            if n < last {
                sequence = receive(&mut stream).await;
            }
        }
        stream.shutdown().await.unwrap();
        // What is not read would have the system reset the connection, and the answer be lost.
        while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    });
    let url = format!("mysql://me:hunter2@{address}/shop?ssl-mode=DISABLED");
    let failure = Failure::at(&url, MySqlConnection::connect(&url).await.unwrap_err());
    let told = failure.to_string();
    assert!(told.starts_with(&format!("{address}: ")) && !told.contains("hunter2"), "{told}");
    let error = Error::Service(failure);
    let of = |classify: Sqlx| classify.classify(Err::<&(), _>(&error));
    ([of(Sqlx::new()), of(Sqlx::new().gated())], told)
}

#[tokio::test]
async fn a_server_that_has_no_room_has_done_nothing_whether_it_names_a_sqlstate_or_not() {
    for state in [None, Some("08004")] {
        let (classes, told) = classes(vec![error(1040, state, "Too many connections")]).await;
        assert_eq!(classes, [UNSENT; 2], "{told}");
        assert!(told.to_lowercase().contains("too many connections"), "{told}");
    }
    let blocked = error(1129, None, "Host '127.0.0.1' is blocked because of many errors");
    assert_eq!(classes(vec![blocked]).await.0, [PERMANENT; 2]);
}

#[tokio::test]
async fn what_a_server_says_to_a_statement_is_judged_by_its_number_and_else_by_its_sqlstate() {
    for (number, state, message, expected) in [
        (
            1205,
            "HY000",
            "Lock wait timeout exceeded; try restarting transaction",
            [TRANSIENT, UNSENT],
        ),
        (1213, "40001", "Deadlock found when trying to get lock", [TRANSIENT, UNSENT]),
        (1290, "HY000", "The server is running with the --read-only option", [TRANSIENT, UNSENT]),
        (1290, "HY000", "running with the --secure-file-priv option", [PERMANENT; 2]),
        (1836, "HY000", "Running in read-only mode", [TRANSIENT, UNSENT]),
        (1203, "42000", "User me already has more than 'max_user_connections'", [UNSENT; 2]),
        (1114, "HY000", "The table 'written' is full", [Class::OVERLOAD; 2]),
        (1053, "08S01", "Server shutdown in progress", [TRANSIENT; 2]),
        (4031, "HY000", "The client was disconnected because of inactivity", [UNSENT; 2]),
        (1317, "70100", "Query execution was interrupted", [PERMANENT; 2]),
        (1064, "42000", "You have an error in your SQL syntax", [PERMANENT; 2]),
        (1062, "23000", "Duplicate entry '1' for key 'PRIMARY'", [PERMANENT; 2]),
    ] {
        let (classes, told) =
            classes(vec![greeting(), ok(), error(number, Some(state), message)]).await;
        assert_eq!(classes, expected, "{told}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_midway_or_speaks_something_else_may_have_done_something() {
    let (cut, told) = classes(vec![greeting(), ok(), Vec::new()]).await;
    assert_eq!(cut, [TRANSIENT; 2], "{told}");
    let (stranger, told) = classes(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]).await;
    assert_eq!(stranger, [TRANSIENT; 2], "{told}");
}
