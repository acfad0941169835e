//! Real etcd members in a lab.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use etcd_client::{Client, ConnectOptions, GetOptions};

use crate::namespace::Namespace;
use crate::process::Process;
use crate::security::Security;

/// The variable that names the etcd to run, when it is not Debian's.
pub const BINARY_VARIABLE: &str = "TURNIP_LAB_ETCD";

/// Members find a leader by then, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The etcd to run.
pub fn binary() -> String {
    std::env::var(BINARY_VARIABLE).unwrap_or_else(|_| "etcd".into())
}

/// How the members are set up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EtcdSettings {
    /// How often the leader is heard, in ms.
    pub heartbeat_ms: u32,
    /// How long silence of the leader is borne, in ms.
    pub election_ms: u32,
    /// Whether they speak TLS, with certificates at both ends, and ask for a password.
    pub secured: bool,
    /// Further arguments of every member.
    pub arguments: Vec<String>,
}

impl Default for EtcdSettings {
    /// etcd's own.
    fn default() -> Self {
        EtcdSettings { heartbeat_ms: 100, election_ms: 1000, secured: false, arguments: Vec::new() }
    }
}

/// A member, running or not.
#[derive(Debug)]
pub struct Member {
    name: String,
    namespace: Arc<Namespace>,
    arguments: Vec<String>,
    directory: PathBuf,
    security: Option<Security>,
    slow_disk: Option<Process>,
    process: Option<Process>,
}

/// What a member says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// Its id.
    pub id: u64,
    /// The leader that it follows; 0 when it knows none.
    pub leader: u64,
    /// In which term.
    pub term: u64,
}

/// Prepares the members of a new cluster, one for each host with its address. None runs yet.
pub fn members(
    hosts: &[(String, Arc<Namespace>, IpAddr, PathBuf)],
    settings: &EtcdSettings,
    security: Option<&Security>,
) -> Vec<Member> {
    let scheme = if security.is_some() { "https" } else { "http" };
    let peers: Vec<String> = hosts
        .iter()
        .map(|(name, _, ip, _)| format!("{name}=http://{}:2380", bracket(*ip)))
        .collect();
    let make = |(name, namespace, ip, directory): &(String, Arc<Namespace>, IpAddr, PathBuf)| {
        let ip = bracket(*ip);
        let mut arguments: Vec<String> = [
            ("name", name.clone()),
            ("data-dir", directory.join("etcd").display().to_string()),
            ("listen-client-urls", format!("{scheme}://0.0.0.0:2379")),
            ("advertise-client-urls", format!("{scheme}://{ip}:2379")),
            ("listen-peer-urls", "http://0.0.0.0:2380".into()),
            ("initial-advertise-peer-urls", format!("http://{ip}:2380")),
            ("initial-cluster", peers.join(",")),
            ("heartbeat-interval", settings.heartbeat_ms.to_string()),
            ("election-timeout", settings.election_ms.to_string()),
            ("logger", "zap".into()),
            ("log-level", "warn".into()),
        ]
        .map(|(key, value)| format!("--{key}={value}"))
        .into();
        arguments.extend(settings.arguments.iter().cloned());
        arguments.extend(security.into_iter().flat_map(Security::member_arguments));
        Member {
            name: name.clone(),
            namespace: Arc::clone(namespace),
            arguments,
            directory: directory.clone(),
            security: security.cloned(),
            slow_disk: None,
            process: None,
        }
    };
    hosts.iter().map(make).collect()
}

impl Member {
    /// Starts it, with the data that it has.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.namespace.command(&binary());
        command.args(&self.arguments);
        let log = self.directory.join("etcd.log");
        self.process = Some(Process::start(command, &format!("etcd {}", self.name), log)?);
        Ok(())
    }

    /// Its name, which is also that of its host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace of its host.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// Ends it in an orderly way, starts it again, and waits until it follows a leader, or leads.
    ///
    /// # Errors
    /// When it does not end, or does not follow within 20 s.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start()?;
        let deadline = Instant::now() + PATIENCE;
        while !self.status().is_ok_and(|status| status.leader != 0) {
            ensure!(Instant::now() < deadline, "etcd {} follows nobody", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("etcd {} does not run", self.name))
    }

    /// Whether it was started, and neither stopped nor killed since.
    pub fn runs(&self) -> bool {
        self.process.is_some()
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

    /// Stops its execution, and waits until it stands still.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&mut self) -> Result<()> {
        self.process()?.freeze()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&mut self) -> Result<()> {
        self.process()?.thaw()
    }

    /// Makes its disk take this long over each write that has to be durable, by a tracer that delays
    /// the return of its system calls.
    ///
    /// # Errors
    /// When it does not run, or strace cannot trace it.
    pub fn slow_disk(&mut self, delay: Duration) -> Result<()> {
        let etcd = self.process()?.id();
        let mut command = self.namespace.command("strace");
        command.args(["-f", "-qq", "-p", &etcd.to_string(), "-o", "/dev/null"]);
        command.args(["-e", "trace=fsync,fdatasync", "-e"]);
        command.arg(format!("inject=fsync,fdatasync:delay_exit={}", delay.as_micros()));
        let log = self.directory.join("strace.log");
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

    /// Writes something by way of it, and says how long that took.
    ///
    /// # Errors
    /// When it was not done within 10 s.
    pub fn time_to_commit(&self) -> Result<Duration> {
        self.ask(Duration::from_secs(10), |mut client| async move {
            let begun = Instant::now();
            client.put("/lab", "", None).await?;
            Ok(begun.elapsed())
        })
    }

    /// Gives it another namespace, that of its host after a reboot.
    pub fn move_to(&mut self, namespace: Arc<Namespace>) {
        self.namespace = namespace;
    }

    /// Asks it what it knows.
    ///
    /// # Errors
    /// When it does not answer within 300 ms.
    pub fn status(&self) -> Result<MemberStatus> {
        self.ask(Duration::from_millis(300), |mut client| async move {
            let status = client.status().await?;
            let id = status.header().map_or(0, etcd_client::ResponseHeader::member_id);
            Ok(MemberStatus { id, leader: status.leader(), term: status.raft_term() })
        })
    }

    /// Makes it hand its leadership to another member.
    ///
    /// # Errors
    /// When it is not the leader, or the other does not take it.
    pub fn move_leader_to(&self, id: u64) -> Result<()> {
        self.ask(Duration::from_secs(5), |mut client| async move {
            client.move_leader(id).await?;
            Ok(())
        })
    }

    /// The store's revision.
    ///
    /// # Errors
    /// Without a quorum.
    pub fn revision(&self) -> Result<i64> {
        self.ask(Duration::from_secs(5), |mut client| async move {
            let answer = client.get("/", None).await?;
            Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
        })
    }

    /// The keys that begin with `prefix`.
    ///
    /// # Errors
    /// Without a quorum.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        self.ask(Duration::from_secs(5), |mut client| async move {
            let options = GetOptions::new().with_prefix().with_keys_only();
            let answer = client.get(prefix, Some(options)).await?;
            Ok(answer.kvs().iter().map(|kv| String::from_utf8_lossy(kv.key()).into()).collect())
        })
    }

    /// Has the cluster ask for its password from now on.
    ///
    /// # Errors
    /// When it is not secured, or as of etcd.
    pub fn demand_password(&self) -> Result<()> {
        let security = self.security.as_ref().context("no password was made")?;
        self.ask(Duration::from_secs(5), |client| security.demand_password(client))
    }

    /// Uses etcd's client on its host.
    ///
    /// # Errors
    /// As of the client, or after `patience`.
    pub fn ask<T: Send, F: Future<Output = Result<T>>>(
        &self,
        patience: Duration,
        f: impl FnOnce(Client) -> F + Send,
    ) -> Result<T> {
        let ask = || async move {
            let asked = async {
                let mut options = ConnectOptions::new().with_connect_timeout(patience);
                let mut endpoint = "http://127.0.0.1:2379";
                if let Some(security) = &self.security {
                    options = security.options(options)?;
                    endpoint = "https://127.0.0.1:2379";
                }
                f(Client::connect([endpoint], Some(options)).await?).await
            };
            tokio::time::timeout(patience, asked).await.map_err(|_| anyhow!("no answer"))?
        };
        self.namespace.block_on(ask).with_context(|| format!("etcd {}", self.name))
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
/// When none does within 20 s; with what the members said.
pub fn wait_for_leader(members: &[Member]) -> Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(index) = leader(members) {
            return Ok(index);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let said: Vec<String> =
        members.iter().filter_map(|member| Some(member.process.as_ref()?.log_text())).collect();
    bail!("no etcd leader within 20 s; the members said:\n{}", said.join("\n"))
}

fn bracket(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
