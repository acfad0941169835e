//! Who asks PostgreSQL: a client that connects to the floating address again and again, and somebody on each
//! host who looks at what its own PostgreSQL is, whatever the network does.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use turnip_netns_tests::background::Background;
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::priority::raise_priority;

/// How often the client connects.
pub const CLIENT_PERIOD: Duration = Duration::from_millis(25);

/// How often somebody on each host looks.
pub const ROLE_PERIOD: Duration = Duration::from_millis(20);

/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_millis(400);

/// What PostgreSQL on a host is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows another one.
    Standby,
    /// It does not answer.
    None,
}

/// An answer to the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// When it came.
    pub at: Instant,
    /// From which host.
    pub host: String,
    /// Whether that takes writes.
    pub is_primary: bool,
}

/// A client that opens a connection to the floating address every [`CLIENT_PERIOD`], and asks who is there.
#[derive(Debug)]
pub struct SqlClient {
    answers: Arc<Mutex<Vec<Answer>>>,
    _thread: Background,
}

impl SqlClient {
    /// Starts it in a namespace.
    pub fn start(namespace: &Arc<Namespace>, address: IpAddr) -> Self {
        let answers = Arc::<Mutex<Vec<Answer>>>::default();
        let noted = Arc::clone(&answers);
        let ask_all = async move {
            let mut ticks = interval(CLIENT_PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    if let Ok(Ok((host, is_primary))) = timeout(PATIENCE, ask_once(address)).await {
                        let answer = Answer { at: Instant::now(), host, is_primary };
                        noted.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                    }
                });
            }
        };
        SqlClient { answers, _thread: in_background(namespace, ask_all) }
    }

    /// All answers so far, in the order in which they came.
    pub fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest answer.
    pub fn last(&self) -> Option<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }
}

/// What PostgreSQL on a host was from when on.
#[derive(Clone, Debug, Default)]
pub struct Roles(Arc<Mutex<Vec<(Instant, Role)>>>);

impl Roles {
    /// Every change, in order.
    pub fn changes(&self) -> Vec<(Instant, Role)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it is now.
    pub fn now(&self) -> Role {
        let changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changes.last().map_or(Role::None, |(_, role)| *role)
    }

    /// Looks every [`ROLE_PERIOD`], on the host with this namespace.
    pub fn watch(&self, namespace: &Arc<Namespace>) -> Background {
        let roles = self.clone();
        in_background(namespace, async move {
            loop {
                // The connection lasts until PostgreSQL ends it.
                let _: Result<()> = roles.watch_one_connection().await;
                roles.note(Role::None);
                sleep(ROLE_PERIOD).await;
            }
        })
    }

    async fn watch_one_connection(&self) -> Result<()> {
        let (client, connection) = connect(Ipv4Addr::LOCALHOST.into()).await?;
        let _ends_it = Aborted(tokio::spawn(connection));
        loop {
            let (_, is_primary) = timeout(PATIENCE, ask(&client)).await??;
            self.note(if is_primary { Role::Primary } else { Role::Standby });
            sleep(ROLE_PERIOD).await;
        }
    }

    fn note(&self, role: Role) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.last().map(|(_, role)| *role) != Some(role) {
            changes.push((Instant::now(), role));
        }
    }
}

/// Runs a future in a namespace, until the answer is dropped.
fn in_background(
    namespace: &Arc<Namespace>,
    work: impl Future<Output = ()> + Send + 'static,
) -> Background {
    let namespace = Arc::clone(namespace);
    Background::start(move |stop| {
        raise_priority();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = namespace.enter().and_then(|()| Ok(runtime?));
        // A thread that cannot observe ends, and everything after it fails for want of answers.
        let Ok(runtime) = runtime else { return eprintln!("an observer cannot enter") };
        drop(namespace);
        runtime.block_on(async {
            tokio::select! {
                () = work => {}
                () = stopped(stop) => {}
            }
        });
    })
}

async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(20)).await;
    }
}

/// A task that ends with its owner.
struct Aborted<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Connection =
    tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>;

async fn connect(address: IpAddr) -> Result<(Client, Connection)> {
    let mut config = Config::new();
    config.host(address.to_string()).user("postgres").dbname("postgres");
    config.connect_timeout(PATIENCE);
    Ok(config.connect(NoTls).await?)
}

async fn ask_once(address: IpAddr) -> Result<(String, bool)> {
    let (client, connection) = connect(address).await?;
    let _ends_it = Aborted(tokio::spawn(connection));
    ask(&client).await
}

/// Which host this is, and whether it takes writes.
async fn ask(client: &Client) -> Result<(String, bool)> {
    let question = "SELECT current_setting('lab.host'), pg_is_in_recovery()";
    let answer = client.simple_query(question).await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.context("a row")?;
    Ok((row.get(0).context("a name")?.to_owned(), row.get(1) == Some("f")))
}

/// How many standbys follow the primary on the host with this namespace.
///
/// # Errors
/// When that does not answer.
pub fn followers(namespace: &Namespace) -> Result<usize> {
    namespace.block_on(|| async {
        let (client, connection) = connect(Ipv4Addr::LOCALHOST.into()).await?;
        let _ends_it = Aborted(tokio::spawn(connection));
        let question = "SELECT FROM pg_stat_replication WHERE state = 'streaming'";
        let answer = timeout(PATIENCE, client.simple_query(question)).await??;
        let is_row = |message: &&SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
        Ok(answer.iter().filter(is_row).count())
    })
}
