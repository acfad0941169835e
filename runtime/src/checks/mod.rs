//! Checks of what stands behind addresses, carried out (rule 11).
//!
//! They run on a thread of their own, with an executor of its own, so that none of them keeps the daemon
//! from renewing its session. What comes of attempts is decided by core; here is only what an attempt is, and
//! that whatever it does harms nothing: it ends within its time, its output is bounded, and of one check
//! there is never more than one attempt.

mod exec;
mod http;
mod local;
mod net;
mod tls;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use turnip_core::{Attempt, CheckConfig, CheckName};

pub use http::Http;
pub use tls::TlsFiles;

/// So many results wait for the daemon; then the checks do.
const RESULTS_MAX: usize = 256;
/// So many attempts may be in calls of the system that cannot be given up, as for names and files.
const THREADS_MAX: usize = 64;
/// How long the thread of the checks may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// What checks run at is behind the daemon, which the unit puts before others.
const NICE: i32 = 5;
/// Where somebody wants to know, a reason is this long at most.
const REASON_MAX: usize = 4 << 10;

/// A check as it is configured.
#[derive(Clone, Debug)]
pub struct Check {
    /// What core knows of it.
    pub config: CheckConfig,
    /// What an attempt is.
    pub kind: Kind,
    /// From the beginning of an attempt to that of the next.
    pub interval: Duration,
    /// How long an attempt may take.
    pub timeout: Duration,
}

impl Check {
    /// Whether an attempt of the other is the same, and as often. What its outcome means is core's affair.
    pub fn is_tried_like(&self, other: &Check) -> bool {
        let tried = |check: &Check| (check.interval, check.timeout);
        tried(self) == tried(other) && self.kind == other.kind
    }
}

/// What an attempt is.
#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    /// A program with its arguments ends with 0.
    Exec(Vec<String>),
    /// A request is answered as it should be.
    Http(Arc<Http>),
    /// A connection is accepted.
    Tcp(String, u16),
    /// Interfaces are up and have a carrier.
    Interface(Vec<Arc<str>>),
    /// A file is not there.
    File(PathBuf),
    /// A process of that name runs.
    Process(String),
}

impl Kind {
    /// Its word in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Kind::Exec(_) => "exec",
            Kind::Http(_) => "http",
            Kind::Tcp(..) => "tcp",
            Kind::Interface(_) => "interface",
            Kind::File(_) => "file",
            Kind::Process(_) => "process",
        }
    }
}

/// Held by whatever an attempt leaves behind until that has ended.
type Alive = Arc<()>;

/// Tries a check once, now.
///
/// # Errors
/// With the reason why it failed, in the words of whatever was asked.
pub async fn try_once(check: &Check) -> Result<(), String> {
    attempt(check, &Alive::default()).await
}

async fn attempt(check: &Check, alive: &Alive) -> Result<(), String> {
    let within = check.timeout;
    let name = check.config.name.as_str();
    let limited = async {
        match &check.kind {
            // It has to be killed when its time is over, and says so itself.
            Kind::Exec(argv) => return exec::attempt(name, argv, within, alive).await,
            Kind::Http(http) => http.attempt(alive).await,
            Kind::Tcp(host, port) => net::connect(host, *port, alive).await.map(drop),
            Kind::Interface(names) => {
                let names = names.clone();
                net::blocking(alive, move || local::interfaces(&names)).await
            }
            Kind::File(path) => {
                let path = path.clone();
                net::blocking(alive, move || local::no_file(&path)).await
            }
            Kind::Process(name) => {
                let name = name.clone();
                net::blocking(alive, move || local::process(&name)).await
            }
        }
    };
    let ends_itself = matches!(check.kind, Kind::Exec(_));
    let result = match ends_itself {
        true => limited.await,
        false => tokio::time::timeout(within, limited)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {within:?}"))),
    };
    result.map_err(|mut why| {
        why.truncate(why.floor_char_boundary(REASON_MAX));
        why
    })
}

/// Tries one check again and again.
async fn go_on(check: Check, results: mpsc::Sender<Attempt>) {
    let alive = Alive::default();
    let mut next = tokio::time::Instant::now() + first_interval(&check);
    loop {
        let result = match Arc::strong_count(&alive) {
            1 => attempt(&check, &alive).await,
            _ => Err("the attempt before this one does not end".to_owned()),
        };
        let attempt = Attempt { check: check.config.name.clone(), result };
        if results.send(attempt).await.is_err() {
            return;
        }
        let now = tokio::time::Instant::now();
        while next <= now {
            next += check.interval;
        }
        tokio::time::sleep_until(next).await;
    }
}

/// All checks begin at once, and are not to go on all at once: each has a time of its own, by its name.
fn first_interval(check: &Check) -> Duration {
    let hash = check.config.name.as_str().bytes();
    let hash = hash.fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    check.interval.mul_f64(0.5 + f64::from(hash % 512) / 1024.0)
}

/// The checks of this host. Dropped, they end, and whatever they have begun.
#[derive(Debug)]
pub struct Checks {
    results: mpsc::Sender<Attempt>,
    /// None before the first check.
    thread: RefCell<Option<Thread>>,
    over: Arc<Notify>,
}

impl Checks {
    /// Begins to try checks; gives the results of attempts.
    ///
    /// # Errors
    /// When there is no thread for them.
    pub fn start(checks: Vec<Check>) -> io::Result<(Self, impl Stream<Item = Attempt> + Unpin)> {
        let (results, receiver) = mpsc::channel(RESULTS_MAX);
        let checks_of_host = Checks { results, thread: RefCell::default(), over: Arc::default() };
        checks_of_host.reconfigure(checks)?;
        let results = stream::unfold(receiver, async |mut receiver| match receiver.recv().await {
            Some(attempt) => Some((attempt, receiver)),
            // They have ended with the daemon.
            None => std::future::pending().await,
        });
        Ok((checks_of_host, Box::pin(results)))
    }

    /// These are tried from now on. One that is the same goes on as it was.
    ///
    /// # Errors
    /// When there is no thread for them.
    pub fn reconfigure(&self, checks: Vec<Check>) -> io::Result<()> {
        let mut thread = self.thread.borrow_mut();
        if thread.is_none() && !checks.is_empty() {
            *thread = Some(Thread::spawn(self.results.clone(), Over(Arc::clone(&self.over)))?);
        }
        if let Some(thread) = &*thread {
            // It ends when this does, or has said that it has ended.
            let _ = thread.wanted.as_ref().map(|wanted| wanted.send(checks));
        }
        Ok(())
    }

    /// Waits until they are tried no more, which is a defect: what they said last would be believed for
    /// ever.
    pub async fn ended(&self) {
        self.over.notified().await;
    }
}

/// Says that the thread has ended.
struct Over(Arc<Notify>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Where checks are tried.
#[derive(Debug)]
struct Thread {
    wanted: Option<mpsc::UnboundedSender<Vec<Check>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.wanted.take());
        let Some(thread) = self.thread.take() else { return };
        // It has nothing to wait for, unless a file system hangs.
        let end = std::time::Instant::now() + ENDS_WITHIN;
        while !thread.is_finished() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Thread {
    fn spawn(results: mpsc::Sender<Attempt>, over: Over) -> io::Result<Self> {
        let (wanted, news) = mpsc::unbounded_channel();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().max_blocking_threads(THREADS_MAX).build()?;
        let thread = std::thread::Builder::new().name("checks".into()).spawn(move || {
            exec::step_behind(NICE);
            runtime.block_on(try_wanted(news, results));
            // What is in a call of the system is not waited for.
            runtime.shutdown_background();
            drop(over);
        })?;
        Ok(Thread { wanted: Some(wanted), thread: Some(thread) })
    }
}

/// Tries what is wanted, until nobody wants anything any more.
async fn try_wanted(
    mut wanted: mpsc::UnboundedReceiver<Vec<Check>>,
    results: mpsc::Sender<Attempt>,
) {
    let mut tasks = JoinSet::new();
    let mut tried: BTreeMap<CheckName, (Check, AbortHandle)> = BTreeMap::new();
    while let Some(checks) = wanted.recv().await {
        let mut before = std::mem::take(&mut tried);
        for check in checks {
            let name = check.config.name.clone();
            let task = match before.remove(&name) {
                Some((same, task)) if same.is_tried_like(&check) => task,
                other => {
                    other.iter().for_each(|(_, task)| task.abort());
                    tasks.spawn(go_on(check.clone(), results.clone()))
                }
            };
            tried.insert(name, (check, task));
        }
        before.values().for_each(|(_, task)| task.abort());
    }
}

#[cfg(test)]
mod tests;
