//! Patroni and PostgreSQL of Debian on a host of a lab, as the user `postgres`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, User};
use turnip_netns_tests::background::Background;
use turnip_netns_tests::cluster::Cluster;
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::poll::Poll;
use turnip_netns_tests::process::Process;

/// The name of Patroni's cluster, as its documentation has it.
pub const SCOPE: &str = "batman";

/// The key in which Patroni names its leader.
pub const LEADER_KEY: &str = "/service/batman/leader";

/// Where Debian has PostgreSQL 15.
const BINARIES: &str = "/usr/lib/postgresql/15/bin";

/// What is killed is gone by then.
const DEATH: Poll = Poll::every(Duration::from_millis(10)).within(Duration::from_secs(10));

/// Which of etcd's interfaces Patroni speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EtcdApi {
    /// `etcd3` in its configuration.
    V3,
    /// `etcd` in its configuration, which etcd has with `--enable-v2` only.
    V2,
}

/// Patroni on a host. When it is dropped, its PostgreSQL is killed with it.
#[derive(Debug)]
pub struct Patroni {
    process: Process,
    namespace: Arc<Namespace>,
    configuration: PathBuf,
}

impl Patroni {
    /// Starts it on a host, with the data that is there.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(cluster: &Cluster, host: usize, api: EtcdApi) -> Result<Self> {
        let place = cluster.host(host);
        let user = User::from_name("postgres")?.context("a user postgres: Debian's packages")?;
        let directory = place.directory.join("postgres");
        std::fs::create_dir_all(&directory)?;
        std::os::unix::fs::chown(&directory, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        let configuration = place.directory.join("patroni.yml");
        std::fs::write(&configuration, yaml(cluster, host, api, &directory))?;
        let namespace = Arc::clone(place.shared_namespace());
        // Of PostgreSQL that is killed System V's shared memory would stay, but for an IPC namespace of its own.
        let mut command = namespace.command("unshare");
        command.args(["--ipc", "setpriv", "--reuid=postgres", "--regid=postgres"]);
        command.args(["--init-groups", "--pdeathsig", "KILL", "patroni"]).arg(&configuration);
        command.current_dir(&directory).env("HOME", &directory);
        let log = place.directory.join("patroni.log");
        let process = Process::start(command, &format!("Patroni of {}", place.name), log)?;
        Ok(Patroni { process, namespace, configuration })
    }

    /// Its own process, without PostgreSQL's.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Runs `patronictl` on this host.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        let configuration = self.configuration.display().to_string();
        let all = [&["-c", configuration.as_str()], arguments].concat();
        self.namespace.output("patronictl", &all)
    }

    /// Kills every process of PostgreSQL on this host, and nothing else.
    ///
    /// # Errors
    /// When none runs, or one does not end.
    pub fn kill_postgres(&self) -> Result<()> {
        ensure!(!self.postgres()?.is_empty(), "no PostgreSQL runs in {}", self.namespace.name());
        for process in self.postgres()? {
            let _ = kill(process, Signal::SIGKILL);
        }
        Ok(())
    }

    fn postgres(&self) -> Result<Vec<Pid>> {
        let all = self.namespace.processes()?.into_iter();
        Ok(all
            .filter(|id| name_and_state(*id).is_some_and(|(name, _)| name == "postgres"))
            .map(Pid::from_raw)
            .collect())
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        // First the one that would start PostgreSQL again.
        self.process.kill();
        let all_ended = DEATH.is_so(|| {
            let left = self.postgres()?;
            for process in &left {
                let _ = kill(*process, Signal::SIGKILL);
            }
            anyhow::Ok(left.is_empty())
        });
        if !matches!(all_ended, Ok(true)) {
            eprintln!("PostgreSQL is left in {}: {all_ended:?}", self.namespace.name());
        }
    }
}

/// Waits for processes of PostgreSQL that have lost their parent and ended, as a machine's first process
/// does: as long as nobody has, PostgreSQL takes its predecessor for alive and does not start.
pub fn reap_orphans() -> Background {
    Background::start(|stop| {
        while !stop.load(Ordering::Relaxed) {
            for id in own_children() {
                if name_and_state(id) == Some(("postgres".into(), 'Z')) {
                    let _ = waitpid(Pid::from_raw(id), None);
                }
            }
            sleep(Duration::from_millis(20));
        }
    })
}

fn own_children() -> Vec<i32> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let ids = |list: String| -> Vec<i32> {
        list.split_whitespace().filter_map(|id| id.parse().ok()).collect()
    };
    lists.flat_map(ids).collect()
}

/// What the kernel calls a process, and its state, as one letter.
fn name_and_state(id: i32) -> Option<(String, char)> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    Some((name.to_owned(), rest.chars().next()?))
}

/// With the shortest times that Patroni takes.
fn yaml(cluster: &Cluster, host: usize, api: EtcdApi, directory: &Path) -> String {
    let name = &cluster.host(host).name;
    let own = cluster.network().address(host);
    let count = cluster.etcd_addresses().len();
    let etcd = (0..count).map(|next| cluster.etcd_addresses()[(host + next) % count]);
    let etcd: Vec<String> = etcd.map(|ip| format!("{ip}:2379")).collect();
    let section = match api {
        EtcdApi::V3 => "etcd3",
        EtcdApi::V2 => "etcd",
    };
    format!(
        "scope: {SCOPE}
namespace: /service/
name: {name}
restapi:
  listen: 0.0.0.0:8008
  connect_address: {own}:8008
{section}:
  hosts: [{etcd}]
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    postgresql:
      use_pg_rewind: true
      parameters:
        max_connections: 60
        shared_buffers: 32MB
        wal_log_hints: 'on'
  initdb:
    - encoding: UTF8
    - auth-local: trust
    - auth-host: trust
postgresql:
  listen: 0.0.0.0:5432
  connect_address: {own}:5432
  bin_dir: {BINARIES}
  data_dir: {directory}/data
  pgpass: {directory}/pgpass
  authentication:
    superuser: {{username: postgres, password: lab}}
    replication: {{username: replicator, password: lab}}
  parameters:
    unix_socket_directories: {directory}
    dynamic_shared_memory_type: mmap
    lab.host: {name}
  pg_hba:
    - local all all trust
    - host all all 0.0.0.0/0 trust
    - host replication all 0.0.0.0/0 trust
",
        etcd = etcd.join(", "),
        directory = directory.display(),
    )
}
