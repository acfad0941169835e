//! The names of endpoints, and the addresses that they have.
//!
//! A resolver may be dead exactly when it matters, and may itself need what turnip keeps up. So the last good
//! addresses of each name are kept, in memory and on disk: those over which a connection came about. They are
//! used when the resolver says nothing at once, or that it does not know. It goes on being asked meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the resolver has for itself when addresses are known already. One that works needs less.
const HEAD_START: Duration = Duration::from_millis(50);
/// No name has more addresses than this; what the file holds beyond is not taken.
const ADDRESSES_MAX: usize = 64;

/// What is known of names. Clones share it.
#[derive(Clone)]
pub(super) struct Names(Arc<Shelf>);

struct Shelf {
    ask: Ask,
    known: Mutex<Known>,
}

/// Asks the system's resolver, for as long as that takes.
type Ask = Box<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// The answer that is waited for. The resolver goes on when nobody does.
type Answer = Shared<BoxFuture<'static, Result<Vec<IpAddr>, Arc<str>>>>;

#[derive(Default)]
struct Known {
    /// What the resolver said last.
    resolved: BTreeMap<String, Vec<IpAddr>>,
    /// Of these, those with which a connection came about.
    good: BTreeMap<String, Vec<IpAddr>>,
    /// One at a time for each name: a dead resolver takes many seconds to be given up.
    under_way: BTreeMap<String, Answer>,
    /// The names of which it has been said that the resolver does not answer.
    told: BTreeSet<String>,
    file: Option<PathBuf>,
}

/// A name without addresses.
#[derive(Debug)]
pub(super) struct NoAddress {
    name: String,
    why: String,
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the resolver gives no address for {}: {}; look at /etc/resolv.conf and /etc/hosts, or write the endpoint with its address",
            self.name, self.why
        )
    }
}

impl std::error::Error for NoAddress {}

impl Names {
    /// Asks the system's resolver.
    pub(super) fn of_system() -> Self {
        Names::asking(|name| Ok((name, 0).to_socket_addrs()?.map(|found| found.ip()).collect()))
    }

    fn asking(ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Names(Arc::new(Shelf { ask: Box::new(ask), known: Mutex::default() }))
    }

    /// Takes what an earlier process left in this file, and leaves there what is found out.
    ///
    /// # Errors
    /// When there is a file and it cannot be read. What is found out is kept there all the same.
    pub(super) fn keep_in(&self, file: PathBuf) -> Result<(), String> {
        let read = match std::fs::read(&file) {
            Ok(json) => serde_json::from_slice::<BTreeMap<String, Vec<IpAddr>>>(&json)
                .map_err(|error| format!("{}: {error}", file.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(format!("{}: {error}", file.display())),
        };
        let mut known = self.known();
        known.file = Some(file);
        for (name, mut addresses) in read? {
            addresses.truncate(ADDRESSES_MAX);
            known.good.entry(name).or_insert(addresses);
        }
        Ok(())
    }

    /// The addresses of a name: the resolver's, or the last good ones.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, NoAddress> {
        let last = self.last(name);
        let answer = self.answer(name);
        let why = match &last {
            None => match answer.await {
                Ok(addresses) => return Ok(addresses),
                Err(why) => why,
            },
            Some(_) => match timeout(HEAD_START, answer).await {
                Ok(Ok(addresses)) => return Ok(addresses),
                Ok(Err(why)) => why,
                Err(_) => "no answer yet".into(),
            },
        };
        let Some(last) = last else {
            return Err(NoAddress { name: name.to_owned(), why: why.to_string() });
        };
        if self.known().told.insert(name.to_owned()) {
            let shown: Vec<String> = last.iter().map(ToString::to_string).collect();
            tracing::warn!(
                "the resolver gives no address for {name} ({why}): going on with the last good ones, {}",
                shown.join(", ")
            );
        }
        Ok(last)
    }

    /// What is known of a name without asking anybody.
    pub(super) fn last(&self, name: &str) -> Option<Vec<IpAddr>> {
        let known = self.known();
        known.good.get(name).or_else(|| known.resolved.get(name)).cloned()
    }

    /// Whether the resolver has been asked for this name, and has not answered.
    pub(super) fn is_being_asked(&self, name: &str) -> bool {
        self.known().under_way.contains_key(name)
    }

    /// A connection to one of its addresses came about.
    pub(super) fn note_good(&self, name: &str) {
        let mut known = self.known();
        let Some(resolved) = known.resolved.get(name).cloned() else { return };
        if known.good.get(name) == Some(&resolved) {
            return;
        }
        known.good.insert(name.to_owned(), resolved);
        let Some(file) = &known.file else { return };
        if let Err(error) = write(file, &known.good) {
            tracing::warn!(
                "the addresses of endpoints cannot be kept for the next start: {}: {error}",
                file.display()
            );
        }
    }

    fn answer(&self, name: &str) -> Answer {
        let mut known = self.known();
        if let Some(under_way) = known.under_way.get(name) {
            return under_way.clone();
        }
        let (tell, told) = oneshot::channel();
        let answer = async move { told.await.unwrap_or_else(|_| Err("not asked".into())) };
        let answer = answer.boxed().shared();
        known.under_way.insert(name.to_owned(), answer.clone());
        let (shelf, name) = (Names(Arc::clone(&self.0)), name.to_owned());
        let asked = std::thread::Builder::new().name("resolver".into());
        // A thread of its own, for nobody can end a lookup: tokio would wait for it before the process ends.
        let asked = asked.spawn({
            let name = name.clone();
            move || {
                let found = (shelf.0.ask)(&name);
                let _ = tell.send(shelf.note(&name, found));
            }
        });
        if let Err(error) = asked {
            known.under_way.remove(&name);
            return futures::future::ready(Err(error.to_string().into())).boxed().shared();
        }
        answer
    }

    /// Takes note of the resolver's answer.
    fn note(&self, name: &str, found: io::Result<Vec<IpAddr>>) -> Result<Vec<IpAddr>, Arc<str>> {
        let mut known = self.known();
        known.under_way.remove(name);
        match found {
            Ok(addresses) if addresses.is_empty() => Err("it knows none".into()),
            Ok(mut addresses) => {
                // One for each kind of socket.
                let mut seen = BTreeSet::new();
                addresses.retain(|address| seen.insert(*address));
                addresses.truncate(ADDRESSES_MAX);
                if known.told.remove(name) {
                    tracing::info!("the resolver gives addresses for {name} again");
                }
                known.resolved.insert(name.to_owned(), addresses.clone());
                Ok(addresses)
            }
            Err(error) => Err(error.to_string().into()),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces the file as a whole: one that a power failure cut short would be of no use.
fn write(file: &std::path::Path, good: &BTreeMap<String, Vec<IpAddr>>) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let fresh = file.with_added_extension("new");
    std::fs::write(&fresh, serde_json::to_vec(good)?)?;
    std::fs::File::open(&fresh)?.sync_all()?;
    std::fs::rename(&fresh, file)
}

/// The resolver of a connector.
impl tower::Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NoAddress;
    type Future = BoxFuture<'static, Result<Self::Response, NoAddress>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoAddress>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let names = self.clone();
        let addresses = async move {
            let found = names.addresses(name.as_str()).await?;
            // The connector adds the port.
            let found: Vec<_> = found.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(found.into_iter())
        };
        Box::pin(addresses) as Pin<Box<_>>
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use super::*;

    const NAME: &str = "etcd-1.example";

    fn run<F: Future>(test: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    fn ip(text: &str) -> Vec<IpAddr> {
        vec![text.parse().unwrap()]
    }

    /// The resolver answers once, and then never again.
    fn dies_after_one_answer() -> Names {
        let asked = AtomicUsize::new(0);
        Names::asking(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(ip("10.0.0.1")),
            _ => loop {
                std::thread::park();
            },
        })
    }

    #[test]
    fn a_resolver_that_falls_silent_costs_a_moment_and_not_the_addresses() {
        run(async {
            let names = dies_after_one_answer();
            assert_eq!(names.addresses(NAME).await.unwrap(), ip("10.0.0.1"));
            for _ in 0..3 {
                let began = Instant::now();
                assert_eq!(names.addresses(NAME).await.unwrap(), ip("10.0.0.1"));
                assert!(began.elapsed() < HEAD_START * 10, "{:?}", began.elapsed());
            }
            assert!(names.is_being_asked(NAME));
        });
    }

    #[test]
    fn who_was_reached_is_known_after_a_restart_too() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("state/a.names");
            let before = dies_after_one_answer();
            before.keep_in(file.clone()).unwrap();
            before.addresses(NAME).await.unwrap();
            assert!(!file.exists(), "nobody was reached yet");
            before.note_good(NAME);

            let after = Names::asking(|_| Err(io::Error::other("the server is dead")));
            after.keep_in(file.clone()).unwrap();
            assert_eq!(after.addresses(NAME).await.unwrap(), ip("10.0.0.1"));

            std::fs::write(&file, "{").unwrap();
            let error = Names::of_system().keep_in(file).unwrap_err();
            assert!(error.contains("a.names"), "{error}");
        });
    }

    #[test]
    fn a_fresh_answer_takes_the_place_of_what_was_known() {
        run(async {
            let asked = AtomicUsize::new(1);
            let names = Names::asking(move |_| {
                Ok(ip(&format!("10.0.0.{}", asked.fetch_add(1, Ordering::Relaxed))))
            });
            for address in ["10.0.0.1", "10.0.0.2"] {
                assert_eq!(names.addresses(NAME).await.unwrap(), ip(address));
                names.note_good(NAME);
                assert_eq!(names.last(NAME).unwrap(), ip(address));
            }
        });
    }

    #[test]
    fn a_name_that_was_never_known_is_the_resolvers_fault_in_words() {
        run(async {
            let names = Names::asking(|_| Err(io::Error::other("the server is dead")));
            let error = names.addresses(NAME).await.unwrap_err().to_string();
            assert!(error.contains("the resolver") && error.contains(NAME), "{error}");
            assert!(error.contains("the server is dead"), "{error}");
        });
    }
}
