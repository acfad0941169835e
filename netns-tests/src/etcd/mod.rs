//! Real etcd members, on the hosts of a lab or on loopback.

mod ask;
mod snapshot;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cleanup;
use crate::namespace::Namespace;
use crate::poll::Poll;
use crate::process::{self, Process};
use crate::security::Security;

pub use ask::MemberStatus;

/// The variable that names the etcd to run, when it is not Debian's.
pub const BINARY_VARIABLE: &str = "TURNIP_LAB_ETCD";
/// Members find a leader by then, on however busy a machine.
const ELECTION: Poll = Poll::every(Duration::from_millis(20)).within(Duration::from_secs(20));

/// Where members on hosts listen for clients.
pub const CLIENT_PORT: u16 = 2379;

/// The directory of a member's data, within that of its files.
const DATA: &str = "etcd";

/// The same of a copy of the data.
const BACKUP: &str = "etcd-backup";

/// The variable that names an etcd 3.4, for what begins with that, when it is not Debian's.
pub const OLDER_VARIABLE: &str = "TURNIP_LAB_ETCD_3_4";

/// The variable that names an etcd 3.5, for what ends with that.
pub const NEWER_VARIABLE: &str = "TURNIP_LAB_ETCD_3_5";

/// The etcd to run.
pub fn binary() -> String {
    std::env::var(BINARY_VARIABLE).unwrap_or_else(|_| "etcd".into())
}

/// An etcd 3.4.
pub fn older() -> String {
    std::env::var(OLDER_VARIABLE).unwrap_or_else(|_| "etcd".into())
}

/// An etcd 3.5.
///
/// # Errors
/// When nobody has said where.
pub fn newer() -> Result<String> {
    let wanted = format!("{NEWER_VARIABLE} names no etcd 3.5: {NEWER_VARIABLE}=$(ci/etcd-3.5)");
    std::env::var(NEWER_VARIABLE).context(wanted)
}

/// How the members are set up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EtcdSettings {
    /// How often the leader sends a heartbeat, in ms.
    pub heartbeat_ms: u32,
    /// After how long without a heartbeat there is an election, in ms.
    pub election_ms: u32,
    /// Whether they speak TLS, with certificates at both ends, and ask for a password.
    pub secured: bool,
    /// Further arguments of every member.
    pub arguments: Vec<String>,
    /// The etcd that they run; the [`binary`] when absent.
    pub program: Option<String>,
}

impl Default for EtcdSettings {
    /// etcd's own.
    fn default() -> Self {
        EtcdSettings {
            heartbeat_ms: 100,
            election_ms: 1000,
            secured: false,
            arguments: Vec::new(),
            program: None,
        }
    }
}

/// Where a member runs, and where it is reached.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// The network namespace of its host; that of this process when absent.
    pub namespace: Option<Arc<Namespace>>,
    /// Its data and its log are in here.
    pub directory: PathBuf,
    /// Where clients reach it.
    pub clients: SocketAddr,
    /// Where the other members reach it.
    pub peers: SocketAddr,
    /// Whether it listens at all addresses of its host, and not only at these two.
    pub listens_everywhere: bool,
}

impl Place {
    /// On a host of its own, with etcd's own ports.
    pub fn on_host(
        name: String,
        namespace: Arc<Namespace>,
        address: IpAddr,
        directory: PathBuf,
    ) -> Self {
        let at = |port| SocketAddr::new(address, port);
        let (clients, peers) = (at(CLIENT_PORT), at(2380));
        Place {
            name,
            namespace: Some(namespace),
            directory,
            clients,
            peers,
            listens_everywhere: true,
        }
    }

    /// On loopback, beside other members; needs no privileges.
    pub fn on_loopback(name: String, [clients, peers]: [u16; 2], directory: PathBuf) -> Self {
        let at = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let (clients, peers) = (at(clients), at(peers));
        Place { name, namespace: None, directory, clients, peers, listens_everywhere: false }
    }
}

/// How clients get into a cluster.
#[derive(Clone, Debug)]
pub enum Access {
    /// Without TLS, and without a password.
    Open,
    /// By TLS, for which these are etcd's arguments.
    Tls(Vec<String>),
    /// As a lab's hosts do: certificates at both ends, and a password.
    Secured(Security),
}

impl Access {
    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if matches!(self, Access::Open) { "http" } else { "https" }
    }

    fn arguments(&self) -> Vec<String> {
        match self {
            Access::Open => Vec::new(),
            Access::Tls(arguments) => arguments.clone(),
            Access::Secured(security) => security.etcd_arguments(),
        }
    }
}

/// A member, running or not.
#[derive(Debug)]
pub struct Member {
    place: Place,
    access: Access,
    arguments: Vec<String>,
    program: String,
    slow_disk: Option<Process>,
    process: Option<Process>,
}

/// Prepares the members of a new cluster, one for each place. None runs yet.
pub fn members(places: &[Place], settings: &EtcdSettings, access: &Access) -> Vec<Member> {
    let peers = places.iter().map(|place| format!("{}=http://{}", place.name, place.peers));
    let peers = peers.collect::<Vec<_>>().join(",");
    let scheme = access.scheme();
    let make = |place: &Place| {
        let listens = |at: SocketAddr| {
            let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port());
            if place.listens_everywhere { any } else { at }
        };
        let mut arguments: Vec<String> = [
            ("name", place.name.clone()),
            ("data-dir", place.directory.join(DATA).display().to_string()),
            ("listen-client-urls", format!("{scheme}://{}", listens(place.clients))),
            ("advertise-client-urls", format!("{scheme}://{}", place.clients)),
            ("listen-peer-urls", format!("http://{}", listens(place.peers))),
            ("initial-advertise-peer-urls", format!("http://{}", place.peers)),
            ("initial-cluster", peers.clone()),
            ("heartbeat-interval", settings.heartbeat_ms.to_string()),
            ("election-timeout", settings.election_ms.to_string()),
            ("logger", "zap".into()),
            ("log-level", "warn".into()),
        ]
        .map(|(key, value)| format!("--{key}={value}"))
        .into();
        arguments.extend(settings.arguments.iter().cloned());
        arguments.extend(access.arguments());
        Member {
            place: place.clone(),
            access: access.clone(),
            arguments,
            program: settings.program.clone().unwrap_or_else(binary),
            slow_disk: None,
            process: None,
        }
    };
    places.iter().map(make).collect()
}

impl Member {
    /// Starts it, with the data that it has.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.command(&self.program);
        command.args(&self.arguments);
        let log = self.place.directory.join("etcd.log");
        self.process = Some(Process::start(command, &format!("etcd {}", self.name()), log)?);
        Ok(())
    }

    /// Has it run this etcd from its next start on.
    pub fn install(&mut self, program: &str) {
        program.clone_into(&mut self.program);
    }

    /// Its name, which is also that of its host.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// The namespace of its host.
    ///
    /// # Errors
    /// When it has none of its own.
    pub fn namespace(&self) -> Result<&Arc<Namespace>> {
        let namespace = self.place.namespace.as_ref();
        namespace.with_context(|| format!("etcd {} has no namespace of its own", self.name()))
    }

    /// Where clients reach it.
    pub fn client_address(&self) -> SocketAddr {
        self.place.clients
    }

    /// Where clients reach it, as etcd writes it.
    pub fn client_url(&self) -> String {
        format!("{}://{}", self.access.scheme(), self.place.clients)
    }

    fn command(&self, program: &str) -> Command {
        match &self.place.namespace {
            Some(namespace) => namespace.command(program),
            None => process::command(program, None),
        }
    }

    /// Ends it in an orderly way, starts it again, and waits until it follows a leader, or leads.
    ///
    /// # Errors
    /// When it does not end, or does not follow within 20 s.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start()?;
        let follows = || Ok(self.status().is_ok_and(|status| status.leader != 0));
        let follows = ELECTION.is_so::<anyhow::Error>(follows)?;
        ensure!(follows, "etcd {} follows nobody", self.name());
        Ok(())
    }

    /// Its process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self) -> Result<&Process> {
        let name = &self.place.name;
        self.process.as_ref().with_context(|| format!("etcd {name} does not run"))
    }

    /// What its process has logged, if one runs.
    pub fn log_text(&self) -> String {
        self.process.as_ref().map(Process::log_text).unwrap_or_default()
    }

    /// Whether it was started, and neither stopped nor killed since.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Copies its data beside it, for [`restore`](Self::restore).
    ///
    /// # Errors
    /// When it runs, or the data cannot be copied.
    pub fn back_up(&self) -> Result<()> {
        self.copy_data(DATA, BACKUP)
    }

    /// Puts the data back that was backed up, as somebody does who restores etcd.
    ///
    /// # Errors
    /// When it runs, or there is no backup.
    pub fn restore(&self) -> Result<()> {
        self.copy_data(BACKUP, DATA)
    }

    fn copy_data(&self, from: &str, to: &str) -> Result<()> {
        ensure!(!self.runs(), "etcd {} runs: its data cannot be copied consistently", self.name());
        let [from, to] = [from, to].map(|data| self.place.directory.join(data));
        cleanup::remove_directory(&to)?;
        let status = Command::new("cp").arg("-a").arg(&from).arg(&to).status().context("cp")?;
        ensure!(status.success(), "copying {} to {}: {status}", from.display(), to.display());
        Ok(())
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.slow_disk = None;
        self.process = None;
    }

    /// Ends it in an orderly way.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.fast_disk()?;
        if let Some(mut process) = self.process.take() {
            process.stop(Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// Stops its execution, and waits until it has stopped.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> Result<()> {
        self.process()?.freeze()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> Result<()> {
        self.process()?.thaw()
    }

    /// Makes its disk take this long over each write that has to be durable, by a tracer that delays
    /// the return of its system calls.
    ///
    /// # Errors
    /// When it does not run, or strace cannot trace it.
    pub fn slow_disk(&mut self, delay: Duration) -> Result<()> {
        let etcd = self.process()?.id();
        let mut command = self.command("strace");
        command.args(["-f", "-qq", "-p", &etcd.to_string(), "-o", "/dev/null"]);
        command.args(["-e", "trace=fsync,fdatasync", "-e"]);
        command.arg(format!("inject=fsync,fdatasync:delay_exit={}", delay.as_micros()));
        let log = self.place.directory.join("strace.log");
        self.slow_disk = Some(Process::start(command, "strace", log)?);
        Ok(())
    }

    /// Makes its disk as fast as it was.
    ///
    /// # Errors
    /// When the tracer does not end.
    pub fn fast_disk(&mut self) -> Result<()> {
        if let Some(mut tracer) = self.slow_disk.take() {
            tracer.stop(Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// Gives it another namespace, that of its host after a reboot.
    pub fn move_to(&mut self, namespace: Arc<Namespace>) {
        self.place.namespace = Some(namespace);
    }
}

/// Which member leads, when a majority says so.
pub fn leader(members: &[Member]) -> Option<usize> {
    let status: Vec<_> = members
        .iter()
        .map(|member| if member.runs() { member.status().ok() } else { None })
        .collect();
    (0..members.len()).find(|&index| {
        let Some(own) = status[index] else { return false };
        let followers = status
            .iter()
            .flatten()
            .filter(|other| (other.leader, other.term) == (own.id, own.term));
        own.leader == own.id && followers.count() * 2 > members.len()
    })
}

/// Waits until a member leads.
///
/// # Errors
/// When none does within 20 s; with their logs.
pub fn wait_for_leader(members: &[Member]) -> Result<usize> {
    if let Some(index) = ELECTION.find(|| Ok::<_, anyhow::Error>(leader(members)))? {
        return Ok(index);
    }
    let logs: Vec<String> =
        members.iter().filter_map(|member| Some(member.process.as_ref()?.log_text())).collect();
    bail!("no etcd leader within 20 s; their logs:\n{}", logs.join("\n"))
}
