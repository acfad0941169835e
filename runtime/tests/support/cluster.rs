//! An etcd cluster of one or more members.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use turnip::etcd::{Etcd, EtcdSettings, TlsSettings};
use turnip_netns_tests::etcd::{self, Access, Member, Place};

use super::certificates::Certificates;
use super::{PATIENCE, eventually};

/// Members on loopback that end with this value.
pub struct Cluster {
    members: Vec<Member>,
    tls: Option<Certificates>,
    server_name: Option<String>,
    _directory: TempDir,
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
        let ports = free_ports(2 * count);
        let place = |(index, ports): (usize, &[u16])| {
            let own = directory.path().join(format!("m{index}"));
            std::fs::create_dir(&own).unwrap();
            Place::on_loopback(format!("m{index}"), [ports[0], ports[1]], own)
        };
        let places: Vec<Place> = ports.chunks(2).enumerate().map(place).collect();
        let settings = etcd::EtcdSettings {
            heartbeat_ms: 50,
            election_ms: 500,
            arguments: extra.iter().map(|&flag| flag.to_owned()).collect(),
            ..etcd::EtcdSettings::default()
        };
        let access = tls.as_ref().map_or(Access::Open, |tls| Access::Tls(tls.etcd_arguments()));
        let members = etcd::members(&places, &settings, &access);
        let mut cluster = Cluster { members, tls, server_name, _directory: directory };
        for index in 0..count {
            cluster.restart(index);
        }
        cluster.healthy().await;
        cluster
    }

    /// Waits until every member that runs says that there is a leader.
    pub async fn healthy(&self) {
        let etcd = Etcd::new(&self.settings()).unwrap();
        for index in (0..self.members.len()).filter(|&i| self.members[i].runs()) {
            eventually("a healthy cluster", async || {
                match etcd.endpoint_status(&self.url(index), Duration::from_secs(1)).await {
                    Ok(status) if status.leader_id != 0 => Ok(()),
                    other => Err(format!("{other:?}; its log: {}", self.members[index].log_text())),
                }
            })
            .await;
        }
    }

    /// Starts a member, with the data that it has if it ran before.
    pub fn restart(&mut self, index: usize) {
        self.members[index]
            .start()
            .expect("this test needs etcd (Debian's etcd-server) in the PATH");
    }

    /// Ends a member at once, as a crash does.
    pub fn kill(&mut self, index: usize) {
        self.members[index].kill();
    }

    /// Stops a member's process: its connections stay, and it says nothing.
    pub fn freeze(&self, index: usize) {
        self.members[index].freeze().unwrap();
    }

    /// Lets a frozen member go on.
    pub fn thaw(&self, index: usize) {
        self.members[index].thaw().unwrap();
    }

    /// Where clients reach a member.
    pub fn url(&self, index: usize) -> String {
        self.members[index].client_url()
    }

    /// A member's port for clients.
    pub fn client_port(&self, index: usize) -> u16 {
        self.members[index].client_address().port()
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
