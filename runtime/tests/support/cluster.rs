//! An etcd cluster of one or more members.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use turnip::etcd::{Etcd, EtcdSettings, TlsSettings};

use super::certificates::Certificates;
use super::{PATIENCE, eventually};

/// Members that end with this value.
pub struct Cluster {
    members: Vec<Member>,
    directory: TempDir,
    tls: Option<Certificates>,
    server_name: Option<String>,
    extra: Vec<String>,
}

struct Member {
    client_port: u16,
    peer_port: u16,
    process: Option<Child>,
}

impl Cluster {
    /// `count` members, healthy.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, None, &[]).await
    }

    /// `count` members with certificates and more flags.
    pub async fn start_with(count: usize, tls: Option<Certificates>, extra: &[&str]) -> Self {
        Self::launch(count, tls, None, extra).await
    }

    /// `count` members whose certificate bears `server_name`.
    pub async fn start_named(count: usize, tls: Certificates, server_name: &str) -> Self {
        Self::launch(count, Some(tls), Some(server_name.to_owned()), &[]).await
    }

    async fn launch(
        count: usize,
        tls: Option<Certificates>,
        server_name: Option<String>,
        extra: &[&str],
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut ports = free_ports(2 * count).into_iter();
        let member = |_| Member {
            client_port: ports.next().unwrap(),
            peer_port: ports.next().unwrap(),
            process: None,
        };
        let members = (0..count).map(member).collect();
        let extra = extra.iter().map(|&flag| flag.to_owned()).collect();
        let mut cluster = Cluster { members, directory, tls, server_name, extra };
        for index in 0..count {
            cluster.restart(index);
        }
        cluster.healthy().await;
        cluster
    }

    /// Waits until every member that runs says that there is a leader.
    pub async fn healthy(&self) {
        let etcd = Etcd::new(&self.settings()).unwrap();
        for index in (0..self.members.len()).filter(|&i| self.members[i].process.is_some()) {
            eventually("a healthy cluster", async || {
                match etcd.endpoint_status(&self.url(index), Duration::from_secs(1)).await {
                    Ok(status) if status.leader_id != 0 => Ok(()),
                    other => Err(format!("{other:?}; its log: {}", self.log(index))),
                }
            })
            .await;
        }
    }

    /// Starts a member, with the data that it has if it ran before.
    pub fn restart(&mut self, index: usize) {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", self.members[index].client_port);
        let peer = |index: usize| format!("http://127.0.0.1:{}", self.members[index].peer_port);
        let all: Vec<_> = (0..self.members.len()).map(|i| format!("m{i}={}", peer(i))).collect();
        let log = File::create(self.log_file(index)).unwrap();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{index}"), "--data-dir"])
            .arg(self.directory.path().join(format!("m{index}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(index)])
            .args(["--initial-advertise-peer-urls", &peer(index)])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(["--logger", "zap"])
            .args(&self.extra)
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(certificates) = &self.tls {
            command.args(certificates.server_flags());
        }
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("this test needs etcd (Debian's etcd-server) in the PATH: {error}")
        });
        self.members[index].process = Some(process);
    }

    /// Ends a member at once, as a crash does.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops a member's process: its connections stay, and it says nothing.
    pub fn freeze(&self, index: usize) {
        self.signal(index, Signal::SIGSTOP);
    }

    /// Lets a frozen member go on.
    pub fn thaw(&self, index: usize) {
        self.signal(index, Signal::SIGCONT);
    }

    fn signal(&self, index: usize, signal: Signal) {
        let process = self.members[index].process.as_ref().expect("the member runs");
        kill(Pid::from_raw(process.id().cast_signed()), signal).unwrap();
    }

    /// Where clients reach a member.
    pub fn url(&self, index: usize) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.members[index].client_port)
    }

    /// A member's port for clients.
    pub fn client_port(&self, index: usize) -> u16 {
        self.members[index].client_port
    }

    /// All members as endpoints; the first is the local one.
    pub fn settings(&self) -> EtcdSettings {
        self.settings_beginning_at(0)
    }

    /// All members as endpoints; the first, and the local one, is member `first`.
    pub fn settings_beginning_at(&self, first: usize) -> EtcdSettings {
        let count = self.members.len();
        let endpoints: Vec<_> = (0..count).map(|i| self.url((first + i) % count)).collect();
        let tls =
            self.tls.as_ref().map_or_else(TlsSettings::default, Certificates::client_settings);
        let tls = TlsSettings { server_name: self.server_name.clone(), ..tls };
        EtcdSettings { local: endpoints.first().cloned(), endpoints, tls, user: None }
    }

    /// A handle that prefers member `first`.
    pub fn handle(&self, first: usize) -> Etcd {
        Etcd::new(&self.settings_beginning_at(first)).unwrap()
    }

    /// The member that leads, as it says itself.
    pub async fn leader(&self) -> usize {
        let etcd = self.handle(0);
        eventually("a raft leader", async || {
            for index in 0..self.members.len() {
                match etcd.endpoint_status(&self.url(index), PATIENCE).await {
                    Ok(status) if status.is_leader() => return Ok(index),
                    _ => {}
                }
            }
            Err("none leads")
        })
        .await
    }

    fn log_file(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("m{index}.log"))
    }

    fn log(&self, index: usize) -> String {
        let log = std::fs::read_to_string(self.log_file(index)).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}

/// Ports that were free a moment ago, each another, and below those that the kernel gives to
/// connections by itself.
pub fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at once begin in different places.
    let start = u16::try_from(std::process::id() % 1000).unwrap() * 20;
    let candidates = std::iter::repeat_with(|| {
        10_000 + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000
    });
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    candidates.take(20_000).filter(free).take(count).collect()
}
