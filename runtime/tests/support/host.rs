//! The binary on a host of its own: a network namespace with a real etcd in it. Needs root, etcd
//! and iproute2, and fails without.

use std::convert::Infallible;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use turnip_netns_tests::etcd::{self, Access, EtcdSettings, Member, Place};
use turnip_netns_tests::lab::Lab;
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::poll::Poll;

pub const PEER: &str = "10.99.0.1";
pub const POLL: Poll = Poll::every(Duration::from_millis(50)).within(Duration::from_secs(20));

/// A host of a lab with an etcd member whose peer address is `PEER`.
pub struct Host {
    // Ends before the namespace that it is in.
    pub etcd: Option<Member>,
    pub namespace: Arc<Namespace>,
    pub directory: PathBuf,
    _lab: Arc<Lab>,
}

impl Host {
    pub fn bare() -> Self {
        let lab = Lab::new().unwrap();
        let namespace = lab.namespace("host").expect("this test needs root");
        let directory = lab.directory_of("host").unwrap();
        namespace.add_address("lo", format!("{PEER}/32").parse().unwrap()).unwrap();
        Host { etcd: None, namespace, directory, _lab: lab }
    }

    pub fn with_etcd() -> Self {
        let host = Self::with_etcd_and(&Access::Open);
        within("etcd answers", || host.etcdctl(&["endpoint", "health"]).status.success());
        host
    }

    pub fn with_etcd_and(access: &Access) -> Self {
        Self::with_etcd_settings(&EtcdSettings::default(), access)
    }

    /// With an etcd that has these arguments besides.
    pub fn with_etcd_arguments(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let settings = EtcdSettings { arguments, ..EtcdSettings::default() };
        let host = Self::with_etcd_settings(&settings, &Access::Open);
        within("etcd answers", || host.etcdctl(&["endpoint", "health"]).status.success());
        host
    }

    fn with_etcd_settings(settings: &EtcdSettings, access: &Access) -> Self {
        let mut host = Self::bare();
        let place = Place {
            name: "default".to_owned(),
            namespace: Some(Arc::clone(&host.namespace)),
            directory: host.directory.clone(),
            clients: "127.0.0.1:2379".parse().unwrap(),
            peers: format!("{PEER}:2380").parse().unwrap(),
            listens_everywhere: false,
        };
        let mut members = etcd::members(&[place], settings, access);
        let mut member = members.pop().unwrap();
        member.start().expect("this test needs etcd");
        host.etcd = Some(member);
        host
    }

    pub fn command(&self, program: &str) -> Command {
        self.namespace.command(program)
    }

    pub fn etcdctl(&self, arguments: &[&str]) -> Output {
        self.command("etcdctl").env("ETCDCTL_API", "3").args(arguments).output().unwrap()
    }

    /// turnip with the original's four variables.
    pub fn turnip(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_turnip"));
        command
            .args(arguments)
            .env("TURNIP_IP", "10.0.0.50")
            .env("TURNIP_NETMASK", "/32")
            .env("TURNIP_DEV", "lo")
            .env("TURNIP_ID", PEER)
            .env_remove("TURNIP_CONFIG");
        command
    }

    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    pub fn start_with(&self, variables: &[(&str, &str)]) -> Daemon {
        let mut command = self.turnip(&["run"]);
        command.envs(variables.iter().copied());
        self.start_command(command)
    }

    /// Starts this, as systemd does.
    pub fn start_command(&self, mut command: Command) -> Daemon {
        let path = self.directory.join("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let log = self.directory.join("turnip.log");
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "200000")
            .stderr(std::fs::File::create(&log).unwrap());
        Daemon { child: command.spawn().unwrap(), socket, messages: String::new(), log }
    }

    pub fn has_vip(&self) -> bool {
        self.has_address("10.0.0.50/32")
    }

    pub fn has_address(&self, address: &str) -> bool {
        self.namespace.output("ip", &["addr", "show"]).unwrap().contains(address)
    }

    pub fn has_fence(&self) -> bool {
        let tables = self.command("nft").args(["list", "tables"]).output().unwrap();
        assert!(tables.status.success(), "this test needs nft");
        text(&tables.stdout).contains("turnip")
    }

    #[track_caller]
    pub fn is_untouched(&self) {
        assert!(!self.has_vip(), "an address was left");
        assert!(!self.has_fence(), "a fence was left");
    }
}

/// A running daemon, as systemd sees it.
pub struct Daemon {
    pub child: Child,
    socket: UnixDatagram,
    pub messages: String,
    log: PathBuf,
}

impl Daemon {
    /// Whether the service manager was notified of `what`.
    pub fn notified(&mut self, what: &str) -> bool {
        let mut buffer = [0; 1024];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.messages += &String::from_utf8_lossy(&buffer[..length]);
            self.messages.push('\n');
        }
        self.messages.lines().any(|line| line.starts_with(what))
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub fn wait(&mut self) -> Option<i32> {
        let ended = POLL.find(|| {
            // As systemd does: a queue that nobody reads fills up, and stops whoever writes.
            self.notified("");
            self.child.try_wait()
        });
        let ended = ended.unwrap();
        ended.unwrap_or_else(|| panic!("the daemon does not end:\n{}", self.log())).code()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let in_time = POLL.is_so(|| Ok::<_, Infallible>(holds()));
    assert!(in_time == Ok(true), "not within {:?}: {what}", POLL.patience());
}

#[track_caller]
pub fn refused(command: &mut Command, words: &[&str]) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    POLL.find(|| child.try_wait()).unwrap();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{said}\nlacks {word:?}");
    }
}
