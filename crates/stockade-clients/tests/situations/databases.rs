//! Redis and PostgreSQL, with their servers.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use ::bb8::RunError;
use ::deadpool::managed::{self, Metrics, PoolError, RecycleError, RecycleResult, Timeouts};
use ::redis::{
    AsyncConnectionConfig, Client as RedisClient, Cmd, RedisError, RedisResult,
    aio::MultiplexedConnection,
};
use ::sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use ::tokio_postgres::{Client as PgClient, NoTls};
use stockade_clients::{
    redis::Redis as RedisJudge,
    sql::{Sqlx, TokioPostgres},
};
use stockade_core::Error;
use stockade_test_servers::{
    Postgres, Redis, Server,
    proxy::{Fault, Proxy},
};
use tokio::sync::Mutex;
use tower::service_fn;

use crate::{
    rig::{ATTEMPT, Client, Row, World, Write, boxed, measure},
    strangers::{FULL, HTTP, all_closed, glance, say},
};

const SITUATIONS: [(&str, Situation); 7] = [
    ("the server is killed, and started again", Situation::Restart),
    ("the server is a read-only replica after a failover", Situation::ReadOnly),
    ("the server has no room for another connection", Situation::Full),
    ("the idle connection was closed by the other side", Situation::Idle),
    ("the connection is half open: nothing comes back", Situation::HalfOpen),
    ("the answer is cut", Situation::Truncated),
    ("the answer is HTTP", Situation::Stranger),
];

#[derive(Clone, Copy, Debug)]
enum Situation {
    Restart,
    ReadOnly,
    Full,
    Idle,
    HalfOpen,
    Truncated,
    Stranger,
}

/// All that a PostgreSQL has room for: enough that those which are leaving are in nobody's way.
const CONNECTIONS: usize = 16;

/// A server behind a proxy, in one situation after the other.
struct Database {
    situation: StdMutex<Situation>,
    server: Mutex<Server>,
    proxy: Proxy,
    stranger: SocketAddr,
    /// A Redis that says that it is full.
    full: Option<SocketAddr>,
    /// Whether a task of the client reads what comes while a connection is idle.
    notices: bool,
    way: Arc<Way>,
    held: Mutex<Vec<PgClient>>,
}

/// Where clients connect to, and how often they were told to do it anew.
#[derive(Debug)]
struct Way {
    address: StdMutex<SocketAddr>,
    generation: AtomicU64,
}

/// A connection that is used again until a call fails, or everybody has to connect anew.
struct Keeper<C> {
    way: Arc<Way>,
    kept: StdMutex<Option<(u64, C)>>,
}

// === impl Database ===

impl Database {
    async fn new(server: Server, full: Option<SocketAddr>, notices: bool) -> Arc<Self> {
        let proxy = Proxy::start(server.address()).unwrap();
        let address = StdMutex::new(proxy.addr());
        let way = Arc::new(Way { address, generation: AtomicU64::new(0) });
        let situation = StdMutex::new(Situation::Restart);
        let (stranger, held) = (say(HTTP).await, Mutex::default());
        let server = Mutex::new(server);
        Arc::new(Self { situation, server, proxy, stranger, full, notices, way, held })
    }

    async fn rows<T, E, C>(
        self: Arc<Self>,
        name: &'static str,
        client: Client<T, E>,
        classify: C,
    ) -> Vec<Row>
    where
        T: Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
        Error<E>: stockade_clients::Cause + stockade_core::LayerError,
        C: stockade_core::Classify<T, Error<E>> + Copy + Send + Sync + 'static,
    {
        let mut rows = Vec::new();
        for (told, situation) in SITUATIONS {
            *self.situation.lock().unwrap() = situation;
            rows.push(measure((name, told), client.clone(), classify, &self).await);
        }
        rows
    }

    /// A connection past the proxy, as soon as there is room for it.
    async fn admin(&self) -> PgClient {
        let url = self.server.lock().await.url();
        loop {
            if let Ok(client) = connect_postgres(url.clone()).await {
                return client;
            }
            glance().await;
        }
    }

    /// Closes every connection, and waits until the clients have noticed that notice it at all before they use one.
    async fn close(&self) {
        self.proxy.close();
        if self.notices {
            all_closed(&self.proxy).await;
        }
    }

    async fn read_only(&self, on: bool) {
        if self.full.is_some() {
            let to = if on { ["127.0.0.1", "1"] } else { ["NO", "ONE"] };
            let url = self.server.lock().await.url();
            let mut redis = connect_redis(url).await.unwrap();
            ::redis::cmd("REPLICAOF").arg(&to).exec_async(&mut redis).await.unwrap();
        } else {
            let value = if on { "on" } else { "off" };
            let set =
                format!("ALTER DATABASE postgres SET default_transaction_read_only = {value}");
            let admin = self.admin().await;
            admin.batch_execute("SET default_transaction_read_only = off").await.unwrap();
            admin.batch_execute(&set).await.unwrap();
        }
    }
}

impl World for Database {
    async fn break_it(&self) {
        let situation = *self.situation.lock().unwrap();
        match situation {
            Situation::Restart => {
                // Those that serve a connection of PostgreSQL outlive its first process for a moment. Nothing reaches them.
                self.proxy.requests(Fault::stall());
                self.server.lock().await.kill().await;
                self.proxy.refuse();
                self.close().await;
            }
            // A failover breaks every connection.
            Situation::ReadOnly => {
                self.read_only(true).await;
                self.way.anew(self.proxy.addr());
            }
            Situation::Full => match self.full {
                Some(full) => self.way.anew(full),
                None => {
                    self.way.anew(self.proxy.addr());
                    self.proxy.cut();
                    let url = self.server.lock().await.url();
                    let mut held = self.held.lock().await;
                    // Those that were cut leave one by one.
                    while held.len() < CONNECTIONS {
                        match connect_postgres(url.clone()).await {
                            Ok(client) => held.push(client),
                            Err(_) => glance().await,
                        }
                    }
                }
            },
            Situation::Idle => self.close().await,
            Situation::HalfOpen => {
                self.proxy.requests(Fault::stall());
                self.proxy.answers(Fault::stall());
            }
            Situation::Truncated => self.proxy.answers(Fault::cut(3)),
            Situation::Stranger => self.way.anew(self.stranger),
        }
    }

    async fn mend(&self) {
        let situation = *self.situation.lock().unwrap();
        self.held.lock().await.clear();
        match situation {
            Situation::Restart => self.server.lock().await.restart().await.unwrap(),
            Situation::ReadOnly => self.read_only(false).await,
            Situation::HalfOpen => self.proxy.cut(),
            _ => {}
        }
        self.proxy.heal();
        self.way.anew(self.proxy.addr());
    }

    async fn written(&self, id: i64) -> i64 {
        if self.full.is_some() {
            let url = self.server.lock().await.url();
            let mut redis = connect_redis(url).await.unwrap();
            let all = ::redis::cmd("LRANGE").arg(&["written", "0", "-1"]).to_owned();
            let all: Vec<i64> = all.query_async(&mut redis).await.unwrap();
            return all.iter().filter(|&&one| one == id).count() as i64;
        }
        let count = "SELECT count(*) FROM written WHERE id = $1";
        self.admin().await.query_one(count, &[&id]).await.unwrap().get(0)
    }
}

// === impl Way ===

impl Way {
    /// Everybody connects anew, to `address`.
    fn anew(&self, address: SocketAddr) {
        *self.address.lock().unwrap() = address;
        self.generation.fetch_add(1, SeqCst);
    }

    fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap()
    }
}

// === impl Keeper ===

impl<C> Keeper<C> {
    fn new(way: &Arc<Way>) -> Arc<Self> {
        Arc::new(Self { way: Arc::clone(way), kept: StdMutex::new(None) })
    }

    /// The connection that was kept, if it still counts.
    fn take(&self) -> Option<C> {
        let kept = self.kept.lock().unwrap().take();
        let now = self.way.generation.load(SeqCst);
        kept.filter(|(generation, _)| *generation == now).map(|(_, connection)| connection)
    }

    fn keep(&self, connection: C) {
        let now = self.way.generation.load(SeqCst);
        *self.kept.lock().unwrap() = Some((now, connection));
    }
}

// === the clients ===

async fn connect_redis(url: String) -> RedisResult<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    RedisClient::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

async fn connect_postgres(url: String) -> Result<PgClient, ::tokio_postgres::Error> {
    let (client, connection) = ::tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

const SCRIPT: &str = "if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then
    redis.call('RPUSH', KEYS[2], ARGV[1]) end";

fn command(write: Write) -> Cmd {
    let mut command = ::redis::cmd(if write.repeatable { "EVAL" } else { "RPUSH" });
    if write.repeatable {
        command.arg(SCRIPT).arg(2).arg("numbers");
    }
    command.arg("written").arg(write.id).to_owned()
}

/// A connection that is made anew when it breaks.
pub(crate) async fn redis() -> Vec<Row> {
    let server = Redis::new().durable().start().await.unwrap();
    let database = Database::new(server, Some(say(FULL).await), true).await;
    let keeper = Keeper::new(&database.way);
    let client = boxed(service_fn(move |write: Write| {
        let keeper = Arc::clone(&keeper);
        async move {
            let mut connection = match keeper.take() {
                Some(connection) => connection,
                None => connect_redis(format!("redis://{}", keeper.way.address())).await?,
            };
            command(write).exec_async(&mut connection).await?;
            keeper.keep(connection);
            Ok::<_, RedisError>(())
        }
    }));
    database.rows("redis", client, RedisJudge::new().gated()).await
}

/// Connections of redis for a pool of bb8, as bb8-redis makes them.
struct RedisConnections(Arc<Way>);

impl ::bb8::ManageConnection for RedisConnections {
    type Connection = MultiplexedConnection;
    type Error = RedisError;

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        connect_redis(format!("redis://{}", self.0.address())).await
    }

    async fn is_valid(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        ::redis::cmd("PING").exec_async(connection).await
    }

    fn has_broken(&self, _: &mut MultiplexedConnection) -> bool {
        false
    }
}

pub(crate) async fn bb8() -> Vec<Row> {
    let server = Redis::new().durable().start().await.unwrap();
    let database = Database::new(server, Some(say(FULL).await), true).await;
    let keeper = Keeper::<::bb8::Pool<RedisConnections>>::new(&database.way);
    let client = boxed(service_fn(move |write: Write| {
        let pool = keeper.take().unwrap_or_else(|| {
            let pool = ::bb8::Pool::builder().max_size(1).connection_timeout(ATTEMPT / 2);
            pool.build_unchecked(RedisConnections(Arc::clone(&keeper.way)))
        });
        keeper.keep(pool.clone());
        async move {
            let mut connection = pool.get().await?;
            command(write).exec_async(&mut *connection).await.map_err(RunError::User)
        }
    }));
    database.rows("redis, in a pool of bb8", client, RedisJudge::new().gated()).await
}

const TABLES: &str = "CREATE TABLE numbers (id bigint PRIMARY KEY);
    CREATE TABLE written (id bigint NOT NULL)";

fn sql(write: Write) -> String {
    let id = write.id;
    if !write.repeatable {
        return format!("INSERT INTO written VALUES ({id})");
    }
    format!(
        "WITH new AS (INSERT INTO numbers VALUES ({id}) ON CONFLICT DO NOTHING RETURNING id)
        INSERT INTO written SELECT id FROM new"
    )
}

async fn postgres(notices: bool) -> Arc<Database> {
    let limited = Postgres::new()
        .set("max_connections", &CONNECTIONS.to_string())
        .set("superuser_reserved_connections", "0")
        .set("max_wal_senders", "0");
    let database = Database::new(limited.start().await.unwrap(), None, notices).await;
    database.admin().await.batch_execute(TABLES).await.unwrap();
    database
}

/// A connection that is made anew when it breaks.
pub(crate) async fn tokio_postgres() -> Vec<Row> {
    let database = postgres(true).await;
    let keeper = Keeper::new(&database.way);
    let client = boxed(service_fn(move |write: Write| {
        let keeper = Arc::clone(&keeper);
        async move {
            let client = match keeper.take() {
                Some(client) => client,
                None => {
                    let address = keeper.way.address();
                    connect_postgres(format!("postgres://postgres@{address}/postgres")).await?
                }
            };
            client.batch_execute(&sql(write)).await?;
            keeper.keep(client);
            Ok::<_, ::tokio_postgres::Error>(())
        }
    }));
    database.rows("tokio-postgres", client, TokioPostgres::new().gated()).await
}

/// Connections of tokio-postgres for a pool of deadpool, as deadpool-postgres makes them.
#[derive(Debug)]
struct PgConnections(Arc<Way>);

impl managed::Manager for PgConnections {
    type Type = PgClient;
    type Error = ::tokio_postgres::Error;

    async fn create(&self) -> Result<PgClient, ::tokio_postgres::Error> {
        connect_postgres(format!("postgres://postgres@{}/postgres", self.0.address())).await
    }

    async fn recycle(
        &self,
        client: &mut PgClient,
        _: &Metrics,
    ) -> RecycleResult<::tokio_postgres::Error> {
        if client.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

pub(crate) async fn deadpool() -> Vec<Row> {
    let database = postgres(true).await;
    let keeper = Keeper::<managed::Pool<PgConnections>>::new(&database.way);
    let client = boxed(service_fn(move |write: Write| {
        let pool = keeper.take().unwrap_or_else(|| {
            let limit = Some(ATTEMPT / 2);
            let timeouts = Timeouts { wait: limit, create: limit, recycle: limit };
            let pool = managed::Pool::builder(PgConnections(Arc::clone(&keeper.way)));
            let pool = pool.max_size(1).timeouts(timeouts).runtime(::deadpool::Runtime::Tokio1);
            pool.build().unwrap()
        });
        keeper.keep(pool.clone());
        async move {
            let client = pool.get().await?;
            client.batch_execute(&sql(write)).await.map_err(PoolError::Backend)
        }
    }));
    let classify = TokioPostgres::new().gated();
    database.rows("tokio-postgres, in a pool of deadpool", client, classify).await
}

/// A pool of connections.
pub(crate) async fn sqlx() -> Vec<Row> {
    let database = postgres(false).await;
    let keeper = Keeper::<PgPool>::new(&database.way);
    let client = boxed(service_fn(move |write: Write| {
        let pool = keeper.take().unwrap_or_else(|| {
            let url = format!("postgres://postgres@{}/postgres", keeper.way.address());
            let options = PgPoolOptions::new().max_connections(1).acquire_timeout(ATTEMPT / 2);
            options.connect_lazy(&url).unwrap()
        });
        keeper.keep(pool.clone());
        async move { ::sqlx::raw_sql(AssertSqlSafe(sql(write))).execute(&pool).await.map(drop) }
    }));
    database.rows("sqlx, with its pool", client, Sqlx::new().gated()).await
}
