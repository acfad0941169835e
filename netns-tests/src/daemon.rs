//! What keeps the floating addresses: turnip, or keepalived and vip-manager to compare it with.

use std::ffi::CString;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;

use crate::binary;
use crate::namespace::Namespace;
use crate::process;
use crate::security::Security;

/// The name of the cluster: turnip's default, which the original's variables cannot change.
pub const CLUSTER: &str = "main";

/// The UDP port at which turnip receives heartbeats, unless configured otherwise.
pub const HEARTBEAT_PORT: u16 = 7746;
/// See [`TurnipSettings::address`].
pub const OWN: &str = "OWN";

/// A floating address, or several that move as one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vip {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// The link that carries it on every host.
    pub interface: String,
    /// More addresses of it, each with the link that carries it on every host.
    pub elsewhere: Vec<(IpNet, String)>,
    /// More lines of it, as they are written in the file.
    pub lines: Vec<String>,
}

impl Vip {
    /// All its addresses.
    pub fn all_addresses(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.addresses.iter().copied().chain(self.elsewhere.iter().map(|(net, _)| *net))
    }
}

/// Which daemon, and how it is set up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Daemon {
    /// turnip.
    Turnip(TurnipSettings),
    /// keepalived.
    Keepalived {
        /// How often the master sends an advertisement, in ms.
        advert_ms: u32,
    },
    /// vip-manager, as it comes; it reads one address.
    VipManager {
        /// The key of etcd that names the host which is to have the address.
        key: &'static str,
    },
}

/// Who should own a VIP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The host whose member leads.
    Leader,
    /// The winner of the hashing.
    Spread,
    /// The first host, then the second, and so on.
    Priority {
        /// Whether a better host takes it back.
        preempt: bool,
    },
    /// The host whose name a key of etcd has for its value: what is written of it in the file.
    Follow(&'static str),
}

/// What a test changes of turnip's configuration. The defaults are turnip's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TurnipSettings {
    /// The lease, as it is written in the file; its default when absent.
    pub lease: Option<String>,
    /// The fence, as it is written in the file; its default when absent.
    pub fence: Option<String>,
    /// Where heartbeats are received, as it is written in the file, or `off`; its default when absent.
    pub listen: Option<String>,
    /// Where the others are told to send them, on every host; what turnip finds out when absent. [`OWN`]
    /// in it stands for the host's own address, where etcd has a member on each.
    pub address: Option<String>,
    /// How often addresses are announced again, as it is written in the file; its default when absent.
    pub announce_every: Option<String>,
    /// Where metrics are served, as it is written in the file; nowhere when absent.
    pub metrics: Option<String>,
    /// Whether all VIPs are announced against machines that claim them.
    pub defend: bool,
    /// Of all VIPs.
    pub policy: Policy,
    /// More lines of every VIP, as they are written in the file.
    pub vip_lines: Vec<String>,
    /// Whether every host asks the etcd member on it first, and the others when that fails; else
    /// all ask the first host's first.
    pub own_member_first: bool,
    /// Whether etcd's members are reached by names, which each host's [`hosts_file`] knows and no server.
    pub by_name: bool,
    /// Configured by the original's four variables alone; a member on each host, and one VIP with one
    /// address, are needed for that, and the policy is `leader`.
    pub by_variables: bool,
    /// Configured by the file that the host has already, as somebody has written it.
    pub by_own_file: bool,
}

impl Default for TurnipSettings {
    fn default() -> Self {
        TurnipSettings {
            lease: None,
            fence: None,
            listen: None,
            address: None,
            announce_every: None,
            metrics: None,
            defend: false,
            policy: Policy::Spread,
            vip_lines: Vec::new(),
            own_member_first: false,
            by_name: false,
            by_variables: false,
            by_own_file: false,
        }
    }
}

/// The host that a daemon is to run on.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its name.
    pub host: &'a str,
    /// Which of the hosts it is.
    pub index: usize,
    /// Its namespace.
    pub namespace: &'a Namespace,
    /// Where it keeps its files.
    pub directory: &'a Path,
    /// Whether an etcd member runs on it.
    pub has_member: bool,
    /// All of etcd's addresses.
    pub etcd: &'a [IpAddr],
    /// How to get into etcd.
    pub security: Option<&'a Security>,
}

impl TurnipSettings {
    /// The lease: turnip's own is 3 s.
    ///
    /// # Panics
    /// When it is neither in seconds nor in milliseconds.
    pub fn lease(&self) -> Duration {
        let Some(text) = &self.lease else { return Duration::from_secs(3) };
        let ms = text.strip_suffix("ms").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
        let s = || text.strip_suffix('s').and_then(|s| s.parse().ok()).map(Duration::from_secs);
        ms.or_else(s).unwrap_or_else(|| panic!("a lease of {text}: neither 5s nor 600ms"))
    }
}

impl Daemon {
    /// Its lease, if it has one.
    pub fn lease(&self) -> Option<Duration> {
        match self {
            Daemon::Turnip(settings) => Some(settings.lease()),
            Daemon::Keepalived { .. } | Daemon::VipManager { .. } => None,
        }
    }

    /// The longest time that an address stays where it is not to stay; none when the daemon reports
    /// where that is.
    pub fn settles_within(&self) -> Option<Duration> {
        match self {
            Daemon::Turnip(_) => None,
            Daemon::Keepalived { advert_ms } => {
                Some(Duration::from_millis(u64::from(advert_ms * 4)))
            }
            // It is where the key says as soon as it has looked, which it does every second.
            Daemon::VipManager { .. } => Some(Duration::from_secs(2)),
        }
    }

    /// Writes its configuration for a host, and makes the command that runs it there.
    ///
    /// # Errors
    /// When the binary is not there.
    pub fn command(&self, place: Place<'_>, vips: &[Vip]) -> Result<Command> {
        match self {
            Daemon::Turnip(settings) if settings.by_variables => {
                let vip = vips.first().context("a VIP")?;
                let net = vip.addresses.first().context("an address")?;
                let own = place.etcd.get(place.index).context("a member on each host")?;
                let mut command = place.turnip_command()?;
                command.arg("run").env(RUNTIME_DIRECTORY, runtime_directory(place.directory));
                command.env(STATE_DIRECTORY, state_directory(place.directory));
                command.env("TURNIP_IP", net.addr().to_string());
                command.env("TURNIP_NETMASK", format!("/{}", net.prefix_len()));
                command.env("TURNIP_DEV", &vip.interface).env("TURNIP_ID", own.to_string());
                if let Some(listen) = &settings.listen {
                    command.env("TURNIP_PEERS_LISTEN", listen);
                }
                Ok(command)
            }
            Daemon::Turnip(settings) => {
                let file = turnip_file(place.directory);
                if !settings.by_own_file {
                    std::fs::write(&file, turnip_toml(settings, place, vips))?;
                }
                let mut command = place.turnip_command()?;
                if settings.by_own_file {
                    // Machines of their own have hostnames of their own.
                    command.env("TURNIP_NODE", place.host);
                }
                command.arg("run").arg("--config").arg(file);
                command.env(RUNTIME_DIRECTORY, runtime_directory(place.directory));
                command.env(STATE_DIRECTORY, state_directory(place.directory));
                if settings.by_name {
                    place.resolve_names(&mut command)?;
                }
                Ok(command)
            }
            Daemon::Keepalived { advert_ms } => {
                let file = place.directory.join("keepalived.conf");
                std::fs::write(&file, keepalived_conf(*advert_ms, place, vips))?;
                let mut command = place.namespace.command("keepalived");
                command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(file);
                command.arg("--pid").arg(place.directory.join("keepalived.pid"));
                command.arg("--vrrp_pid").arg(place.directory.join("vrrp.pid"));
                Ok(command)
            }
            Daemon::VipManager { key } => {
                let vip = vips.first().context("a VIP")?;
                let net = vip.addresses.first().context("an address")?;
                let mut command = place.namespace.command("vip-manager");
                command.args(["--ip", &net.addr().to_string()]);
                command.args(["--netmask", &net.prefix_len().to_string()]);
                command.args(["--interface", &vip.interface]);
                command.args(["--trigger-key", key, "--trigger-value", place.host]);
                let local = endpoints(&[Ipv4Addr::LOCALHOST.into()], place.security);
                command.args(["--dcs-type", "etcd", "--dcs-endpoints", &local.concat()]);
                Ok(command)
            }
        }
    }
}

impl Place<'_> {
    /// The turnip that was installed on the host, else the common one.
    fn turnip_command(&self) -> Result<Command> {
        let mut command = match installed_in(self.directory) {
            own if own.is_file() => self.namespace.command(&own.display().to_string()),
            _ => turnip_command(self.namespace)?,
        };
        without_variables_of_the_lab(&mut command);
        see_ids_of(self.directory, &mut command)?;
        Ok(command)
    }
}

impl Place<'_> {
    /// Names are resolved by the host's own files. A test that has changed them keeps them over a restart.
    fn resolve_names(&self, command: &mut Command) -> Result<()> {
        let hosts = hosts_file(self.directory);
        if !hosts.exists() {
            let lines = self.etcd.iter().enumerate();
            let lines = lines.map(|(index, ip)| format!("{ip} {}\n", member_name(index)));
            std::fs::write(&hosts, lines.collect::<String>())?;
        }
        // A server that never answers: this address is reserved for documentation.
        let resolver = self.directory.join("resolv.conf");
        std::fs::write(&resolver, "nameserver 192.0.2.1\n")?;
        let seen = |path: PathBuf| CString::new(path.as_os_str().as_bytes());
        let files = vec![(seen(hosts)?, c"/etc/hosts"), (seen(resolver)?, c"/etc/resolv.conf")];
        process::see(command, files);
        Ok(())
    }
}

/// The name of etcd's member.
fn member_name(index: usize) -> String {
    format!("etcd-{}.lab", index + 1)
}

/// What a host that keeps its files in `directory` has for `/etc/hosts`, where names are used.
pub fn hosts_file(directory: &Path) -> PathBuf {
    directory.join("hosts")
}

/// What a host that keeps its files in `directory` has for `/etc/turnip/turnip.toml`.
pub fn turnip_file(directory: &Path) -> PathBuf {
    directory.join("turnip.toml")
}

/// The variable in which systemd passes turnip the directory of what outlives a boot.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// What a host that keeps its files in `directory` has of `/var/lib`, which stays.
pub fn state_directory(directory: &Path) -> PathBuf {
    directory.join("state")
}

/// The variable in which systemd passes turnip its runtime directory.
pub const RUNTIME_DIRECTORY: &str = "RUNTIME_DIRECTORY";

/// What a host that keeps its files in `directory` has of `/run`, which is empty after a boot.
pub fn runtime_directory(directory: &Path) -> PathBuf {
    directory.join("run")
}

/// Where a host that keeps its files in `directory` has its machine id, which stays.
pub fn machine_id(directory: &Path) -> PathBuf {
    directory.join("machine-id")
}

/// Where it has the id of its boot.
pub fn boot_id(directory: &Path) -> PathBuf {
    directory.join("boot-id")
}

/// Where a host that keeps its files in `directory` has a turnip of its own, if it has one.
pub fn installed_in(directory: &Path) -> PathBuf {
    directory.join("turnip")
}

/// A command of turnip in a namespace, without arguments.
///
/// # Errors
/// When the binary is not there, or older than its sources.
pub fn turnip_command(namespace: &Namespace) -> Result<Command> {
    let mut command = namespace.command(&binary::turnip()?.display().to_string());
    without_variables_of_the_lab(&mut command);
    Ok(command)
}

/// Has a command see the ids of the machine and of its boot of a host that keeps its files in `directory`.
///
/// # Errors
/// When the directory has a name that no file has.
pub fn see_ids_of(directory: &Path, command: &mut Command) -> Result<()> {
    let own = |path: PathBuf| CString::new(path.as_os_str().as_bytes());
    let ids = vec![
        (own(machine_id(directory))?, c"/etc/machine-id"),
        (own(boot_id(directory))?, c"/proc/sys/kernel/random/boot_id"),
    ];
    process::see(command, ids);
    Ok(())
}

/// They begin as turnip's own do, which would warn of each.
fn without_variables_of_the_lab(command: &mut Command) {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| name.starts_with("TURNIP_LAB_")).for_each(|name| {
        command.env_remove(name);
    });
}

/// The URLs of etcd's members.
pub fn endpoints(addresses: &[IpAddr], security: Option<&Security>) -> Vec<String> {
    let scheme = if security.is_some() { "https" } else { "http" };
    addresses.iter().map(|ip| format!("{scheme}://{}", SocketAddr::new(*ip, 2379))).collect()
}

fn turnip_toml(settings: &TurnipSettings, place: Place<'_>, vips: &[Vip]) -> String {
    let quoted = |url: &String| format!("\"{url}\"");
    let mut urls: Vec<String> = match settings.by_name {
        true => {
            (0..place.etcd.len()).map(|i| format!("\"http://{}:2379\"", member_name(i))).collect()
        }
        false => endpoints(place.etcd, place.security).iter().map(quoted).collect(),
    };
    if settings.own_member_first && place.has_member {
        urls.rotate_left(place.index);
    }
    let mut toml = format!("cluster = \"{CLUSTER}\"\nnode = \"{}\"\n", place.host);
    let top = [
        ("lease", &settings.lease),
        ("fence", &settings.fence),
        ("announce_every", &settings.announce_every),
        // An older turnip does not know the key.
        ("metrics", &settings.metrics),
    ];
    for (key, value) in top {
        if let Some(value) = value {
            let _ = writeln!(toml, "{key} = \"{value}\"");
        }
    }
    let _ = writeln!(toml, "\n[etcd]\nendpoints = [{}]", urls.join(", "));
    if place.has_member {
        let local = endpoints(&[Ipv4Addr::LOCALHOST.into()], place.security);
        let _ = writeln!(toml, "local = \"{}\"", local.concat());
    }
    for (key, value) in place.security.iter().flat_map(|security| security.turnip_settings()) {
        let _ = writeln!(toml, "{key} = \"{value}\"");
    }
    let peers = [("listen", &settings.listen), ("address", &settings.address)];
    let written = peers.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    let own = place.etcd.get(place.index).map(ToString::to_string).unwrap_or_default();
    // An older turnip does not know the table.
    for (index, (key, value)) in written.enumerate() {
        let table = if index == 0 { "\n[peers]\n" } else { "" };
        let value = value.replace(OWN, &own);
        let _ = writeln!(toml, "{table}{key} = \"{value}\"");
    }
    let policy = match settings.policy {
        Policy::Leader => "policy = \"leader\"\n".to_owned(),
        Policy::Spread => "policy = \"spread\"\n".to_owned(),
        Policy::Priority { preempt } => {
            let priority = 100 - place.index;
            format!("policy = \"priority\"\npriority = {priority}\npreempt = {preempt}\n")
        }
        Policy::Follow(follow) => format!("policy = \"follow\"\nfollow = {{ {follow} }}\n"),
    };
    // An older turnip does not know the key.
    let defend = if settings.defend { "defend = true\n" } else { "" };
    let more: String = settings.vip_lines.iter().map(|line| format!("{line}\n")).collect();
    for vip in vips {
        let own = vip.addresses.iter().map(|address| format!("\"{address}\""));
        let elsewhere = vip.elsewhere.iter().map(|(net, link)| format!("\"{net} dev {link}\""));
        let addresses: Vec<String> = own.chain(elsewhere).collect();
        let lines: String = vip.lines.iter().map(|line| format!("{line}\n")).collect();
        let _ = write!(
            toml,
            "\n[[vip]]\nname = \"{}\"\naddresses = [{}]\ninterface = \"{}\"\n{policy}{defend}{more}{lines}",
            vip.name,
            addresses.join(", "),
            vip.interface,
        );
    }
    toml
}

fn keepalived_conf(advert_ms: u32, place: Place<'_>, vips: &[Vip]) -> String {
    let interface = vips.first().map_or("eth0", |vip| vip.interface.as_str());
    let mut all = vips.iter().flat_map(|vip| &vip.addresses);
    // An advertisement lists its addresses, and has room for so many; the rest go unlisted.
    let listed: Vec<String> = all.by_ref().take(20).map(ToString::to_string).collect();
    let unlisted: Vec<String> = all.map(ToString::to_string).collect();
    format!(
        "global_defs {{\n  router_id {host}\n  vrrp_version 3\n}}\n\
         vrrp_instance lab {{\n  state BACKUP\n  interface {interface}\n  virtual_router_id 51\n  \
         priority {priority}\n  advert_int {seconds}.{ms:03}\n  \
         virtual_ipaddress {{\n    {listed}\n  }}\n  \
         virtual_ipaddress_excluded {{\n    {unlisted}\n  }}\n}}\n",
        host = place.host,
        // keepalived's own is 100: the one that takes over has that, and waits as it is known to.
        priority = 200 >> place.index,
        seconds = advert_ms / 1000,
        ms = advert_ms % 1000,
        listed = listed.join("\n    "),
        unlisted = unlisted.join("\n    "),
    )
}
