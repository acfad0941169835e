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

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use turnip_core::{Attempt, CheckConfig};

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

/// What an attempt is.
#[derive(Clone, Debug)]
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

/// Checks that are being tried. Dropped, they end, and whatever they have begun.
#[derive(Debug)]
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    over: oneshot::Receiver<()>,
}

impl Running {
    /// Waits until they are tried no more, which is a defect: what they said last would be believed for
    /// ever. Without checks, for ever.
    pub async fn ended(running: &mut Option<Running>) {
        match running {
            Some(running) => {
                // Nothing is sent by it: it ends.
                let _ = (&mut running.over).await;
            }
            None => std::future::pending().await,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        // It has nothing to wait for, unless a file system hangs.
        let end = std::time::Instant::now() + ENDS_WITHIN;
        while !thread.is_finished() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Begins to try checks; gives the results of attempts.
///
/// # Errors
/// When there is no thread for them.
pub fn start(
    checks: Vec<Check>,
) -> io::Result<(Option<Running>, impl Stream<Item = Attempt> + Unpin)> {
    let (sender, receiver) = mpsc::channel(RESULTS_MAX);
    let running = match checks.is_empty() {
        true => None,
        false => Some(spawn(checks, sender)?),
    };
    let results = stream::unfold(receiver, async |mut receiver| match receiver.recv().await {
        Some(attempt) => Some((attempt, receiver)),
        // There is none, or they have ended with the daemon.
        None => std::future::pending().await,
    });
    Ok((running, Box::pin(results)))
}

fn spawn(checks: Vec<Check>, results: mpsc::Sender<Attempt>) -> io::Result<Running> {
    let (stop, mut stopped) = oneshot::channel::<()>();
    let (alive, over) = oneshot::channel::<()>();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(THREADS_MAX).build()?;
    let thread = std::thread::Builder::new().name("checks".into()).spawn(move || {
        exec::step_behind(NICE);
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for check in checks {
                tasks.spawn(go_on(check, results.clone()));
            }
            // None of them ends by itself.
            tokio::select! {
                _ = &mut stopped => {}
                _ = tasks.join_next() => {}
            }
        });
        // What is in a call of the system is not waited for.
        runtime.shutdown_background();
        drop(alive);
    })?;
    Ok(Running { stop: Some(stop), thread: Some(thread), over })
}

#[cfg(test)]
mod tests;
