//! What the daemon on this host knows by itself, for `turnip status` and `turnip check`: whether or not
//! etcd answers. One JSON document on a unix socket in the runtime directory.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use turnip::config::Config;
use turnip::etcd::certificates::CertificateEnd;
use turnip::host::host_id;
use turnip::kernel::Conflicts;
use turnip::peers::{Counts, Watcher};
use turnip_core::{ClusterName, HostId, NO_NEWS, NodeName, Report, VipName};

use super::growth::Concerns;

/// How long a daemon is given to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const SUFFIX: &str = "sock";

/// What a daemon knows.
#[derive(Serialize, Deserialize, Debug)]
pub struct Local {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its name.
    pub node: NodeName,
    /// The host, as it sees it: in a container its `/proc` may have another boot than that of whoever asks. An
    /// older daemon does not say.
    #[serde(default)]
    pub host: Option<HostId>,
    /// How long it may hold without etcd and without the others, in ms.
    pub lease_ms: u64,
    /// The VIPs that it holds.
    pub holds: BTreeSet<VipName>,
    /// For how long etcd has not answered, in ms; absent while it does.
    pub etcd_away_ms: Option<u64>,
    /// What it last said instead of an answer. An older daemon does not know.
    #[serde(default)]
    pub etcd_says: Option<String>,
    /// It holds because all other hosts acknowledge, and not because etcd answers (rule 10).
    pub by_consent: bool,
    /// How it hears the others; absent where it does not.
    pub heartbeats: Option<Heartbeats>,
    /// Machines that are none of turnip's and claim addresses which this host holds. An older daemon does not
    /// know.
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// How many packets with such claims were received since the start.
    #[serde(default)]
    pub claims_received: u64,
    /// What is amiss with etcd's size and history, in words.
    #[serde(default)]
    pub etcd_concerns: Vec<String>,
    /// When the certificates end that it uses, and those that etcd shows it.
    #[serde(default)]
    pub certificates: Vec<CertificateEnd>,
}

impl Local {
    /// The nodes that hold what is theirs although nothing of them comes to etcd: none where this one does
    /// not hold by consent of all.
    pub fn holding_by_consent(&self) -> Vec<NodeName> {
        let Some(heartbeats) = self.heartbeats.as_ref().filter(|_| self.by_consent) else {
            return Vec::new();
        };
        let heard = heartbeats.from.iter().filter(|(_, way)| !way.lost).map(|(node, _)| node);
        heard.chain([&self.node]).cloned().collect()
    }
}

/// A machine that claims an address which this host holds.
#[derive(Serialize, Deserialize, Debug)]
pub struct Claim {
    /// The VIP.
    pub vip: VipName,
    /// The address, as this host has it.
    pub address: IpNet,
    /// The machine's hardware address.
    pub mac: String,
    /// The interface on which it is heard.
    pub heard_on: String,
    /// How many packets of it were received.
    pub packets: u64,
    /// How long ago the first came, in ms.
    pub first_ago_ms: u64,
    /// How long ago the last came, in ms.
    pub last_ago_ms: u64,
}

/// How a daemon hears the others.
#[derive(Serialize, Deserialize, Debug)]
pub struct Heartbeats {
    /// By node.
    pub from: BTreeMap<NodeName, Way>,
    /// What became of datagrams since the start.
    pub datagrams: Counts,
}

/// The way from another node to this one.
#[derive(Serialize, Deserialize, Default, Debug)]
pub struct Way {
    /// How long ago the last heartbeat was received, in ms; absent when there was none.
    pub heard_ago_ms: Option<u64>,
    /// None came for a lease.
    pub lost: bool,
}

/// The daemon's side.
pub struct LocalStatus {
    socket: PathBuf,
    listener: Option<UnixListener>,
    state: Rc<RefCell<State>>,
}

struct State {
    cluster: ClusterName,
    node: NodeName,
    host: Option<HostId>,
    lease: Duration,
    holds: BTreeSet<VipName>,
    etcd_away_since: Option<Instant>,
    /// Why the last renewal failed that did, unless one was answered since.
    unanswered: Option<String>,
    /// None is sent, for want of news.
    is_without_news: bool,
    by_consent: bool,
    lost: BTreeSet<NodeName>,
    watcher: Option<Watcher>,
    conflicts: Conflicts,
    concerns: Concerns,
    certificates: Vec<CertificateEnd>,
}

/// Takes note of reports.
#[derive(Clone)]
pub struct Notes(Rc<RefCell<State>>);

impl LocalStatus {
    /// Serves what is known, in this directory. A host without the directory is served nothing, which
    /// the log says.
    pub fn new(
        directory: &Path,
        config: &Config,
        watcher: Option<Watcher>,
        conflicts: Conflicts,
        concerns: Concerns,
    ) -> Self {
        let socket = directory.join(config.node.as_str()).with_added_extension(SUFFIX);
        // Left by one that was killed; this process holds the lock of the host.
        let _ = std::fs::remove_file(&socket);
        let listener =
            std::fs::create_dir_all(directory).and_then(|()| UnixListener::bind(&socket));
        if let Err(error) = &listener {
            let at = socket.display();
            tracing::warn!(
                "`turnip status` on this host will not know of this daemon: {at}: {error}"
            );
        }
        let state = State {
            cluster: config.reach.cluster.clone(),
            node: config.node.clone(),
            host: host_id().ok(),
            lease: config.lease.duration(),
            holds: BTreeSet::new(),
            etcd_away_since: None,
            unanswered: None,
            is_without_news: false,
            by_consent: false,
            lost: BTreeSet::new(),
            watcher,
            conflicts,
            concerns,
            certificates: Vec::new(),
        };
        LocalStatus { socket, listener: listener.ok(), state: Rc::new(RefCell::new(state)) }
    }

    /// To be given every report.
    pub fn notes(&self) -> Notes {
        Notes(Rc::clone(&self.state))
    }

    /// Answers whoever asks, one after the other; never ends.
    pub async fn serve(&self) {
        let Some(listener) = &self.listener else { return std::future::pending().await };
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                // Too many open files: not at once again.
                tokio::time::sleep(ANSWER_WITHIN).await;
                continue;
            };
            let local = self.state.borrow().local();
            let json = serde_json::to_vec(&local).expect("its keys are strings");
            let answer = async {
                stream.write_all(&json).await?;
                stream.shutdown().await
            };
            // Whoever does not read is not waited for.
            let _ = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        }
    }
}

impl Drop for LocalStatus {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Notes {
    /// Takes note of a transition.
    pub fn report(&self, report: &Report) {
        self.0.borrow_mut().report(report);
    }

    /// Takes note of when certificates end.
    pub fn certificates(&self, ends: Vec<CertificateEnd>) {
        self.0.borrow_mut().certificates = ends;
    }
}

impl State {
    fn report(&mut self, report: &Report) {
        match report {
            Report::Assumed { vip, .. } | Report::Kept { vip, .. } => {
                self.holds.insert(vip.clone());
            }
            Report::Forfeited { vip, .. } => {
                self.holds.remove(vip);
            }
            Report::RenewalsFail { why, .. } => {
                self.unanswered = Some(why.clone());
                self.etcd_away_since.get_or_insert_with(Instant::now);
            }
            Report::RenewingStopped { .. } => {
                self.is_without_news = true;
                self.etcd_away_since.get_or_insert_with(Instant::now);
            }
            Report::RenewalAnswered => self.unanswered = None,
            Report::RenewingGoesOn => self.is_without_news = false,
            Report::RenewalsSucceed
            | Report::SessionOpened { .. }
            | Report::SessionResumed { .. } => {
                self.etcd_away_since = None;
                (self.unanswered, self.is_without_news) = (None, false);
                self.by_consent = false;
            }
            Report::HeldByConsent => self.by_consent = true,
            Report::ConsentMissing { .. } | Report::SessionLost { .. } => self.by_consent = false,
            Report::PathsLost { nodes } => self.lost.extend(nodes.iter().cloned()),
            Report::PathsFound { nodes } => self.lost.retain(|node| !nodes.contains(node)),
            _ => {}
        }
    }

    fn local(&self) -> Local {
        Local {
            cluster: self.cluster.clone(),
            node: self.node.clone(),
            host: self.host.clone(),
            lease_ms: millis(self.lease),
            holds: self.holds.clone(),
            etcd_away_ms: self.etcd_away_since.map(|since| millis(since.elapsed())),
            etcd_says: self.etcd_says(),
            by_consent: self.by_consent,
            heartbeats: self.watcher.as_ref().map(|watcher| self.heartbeats(watcher)),
            claims: self.claims(),
            claims_received: self.conflicts.packets(),
            etcd_concerns: self.concerns.texts(),
            certificates: self.certificates.clone(),
        }
    }

    /// What keeps renewals from succeeding: with which words they failed, or that none is sent.
    fn etcd_says(&self) -> Option<String> {
        let no_news = || self.is_without_news.then(|| NO_NEWS.to_owned());
        self.unanswered.clone().or_else(no_news)
    }

    fn claims(&self) -> Vec<Claim> {
        let now = Instant::now();
        let recent = self.conflicts.recent(now).into_iter();
        let shown = recent.map(|(conflict, heard)| Claim {
            vip: conflict.assignment.vip.clone(),
            address: conflict.assignment.address,
            mac: conflict.mac.to_string(),
            heard_on: conflict.heard_on.to_string(),
            packets: heard.packets,
            first_ago_ms: millis(now.duration_since(heard.first)),
            last_ago_ms: millis(now.duration_since(heard.last)),
        });
        shown.collect()
    }

    fn heartbeats(&self, watcher: &Watcher) -> Heartbeats {
        let mut from: BTreeMap<NodeName, Way> = watcher
            .heard_ago()
            .map(|(node, ago)| (node, Way { heard_ago_ms: Some(millis(ago)), lost: false }))
            .collect();
        for node in &self.lost {
            from.entry(node.clone()).or_default().lost = true;
        }
        Heartbeats { from, datagrams: watcher.counts() }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the daemon of that cluster on this host knows, if one runs and may be asked.
pub fn ask(directory: &Path, cluster: &ClusterName) -> Option<Local> {
    let sockets = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let sockets = sockets.filter(|path| path.extension().is_some_and(|ending| ending == SUFFIX));
    sockets.filter_map(|socket| read(&socket).ok()).find(|local| local.cluster == *cluster)
}

fn read(socket: &Path) -> io::Result<Local> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut json = Vec::new();
    stream.read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}
