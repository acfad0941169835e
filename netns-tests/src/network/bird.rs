//! BGP sessions between the hosts and their router, by bird.

use std::path::Path;

use anyhow::Result;

use super::addressing::{ends, network_of};
use crate::namespace::Namespace;
use crate::process::Process;

/// How the hosts and the router speak BGP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bgp {
    /// Whether they also watch each other by BFD, three times 100 ms. Without, only BGP's hold
    /// time shows a router that a host is gone whose link is still up.
    pub bfd: bool,
}

/// Where floating addresses are.
const FLOATING: &str = "10.80.200.0/24";

/// BGP's hold time in s, as short as it goes with a margin; bird's own is 240.
const HOLD_S: u32 = 9;

const ROUTER_AS: u32 = 65_000;

impl Bgp {
    fn session(self, own_as: u32, host: usize, neighbour: &str, channel: &str) -> String {
        let neighbour_as = if own_as == ROUTER_AS { host_as(host) } else { ROUTER_AS };
        format!(
            "protocol bgp session{host} {{\n  local as {own_as};\n  neighbor {neighbour} as {neighbour_as};\n  \
             bfd {bfd};\n  hold time {HOLD_S};\n  connect delay time 1;\n  connect retry time 1;\n  \
             error wait time 1, 2;\n  ipv4 {{ {channel} }};\n}}\n",
            bfd = if self.bfd { "on" } else { "off" },
        )
    }

    fn watch(self) -> &'static str {
        if !self.bfd {
            return "";
        }
        "protocol bfd {\n  interface \"*\" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; };\n}\n"
    }
}

fn host_as(host: usize) -> u32 {
    ROUTER_AS + 1 + u32::try_from(host).expect("few hosts")
}

/// A host announces the floating addresses that it has on `lo`.
pub(super) fn on_host(
    bgp: &Bgp,
    namespace: &Namespace,
    directory: &Path,
    host: usize,
) -> Result<Process> {
    let (router, own) = ends(network_of(host));
    let export = format!("import none; export where net ~ [ {FLOATING}+ ];");
    let configuration = format!(
        "log stderr all;\nrouter id {};\nprotocol device {{}}\n\
         protocol direct {{ ipv4; interface \"lo\"; }}\n{}{}",
        own.0.addr(),
        bgp.watch(),
        bgp.session(host_as(host), host, &router.0.addr().to_string(), &export)
    );
    start(namespace, directory, &configuration)
}

/// The router believes every host.
pub(super) fn on_router(
    bgp: &Bgp,
    namespace: &Namespace,
    directory: &Path,
    hosts: usize,
) -> Result<Process> {
    let mut configuration = format!(
        "log stderr all;\nrouter id 10.80.100.1;\nprotocol device {{}}\n\
         protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; }}\n{}",
        bgp.watch()
    );
    for host in 0..hosts {
        let neighbour = ends(network_of(host)).1.0.addr().to_string();
        configuration += &bgp.session(ROUTER_AS, host, &neighbour, "import all; export none;");
    }
    start(namespace, directory, &configuration)
}

fn start(namespace: &Namespace, directory: &Path, configuration: &str) -> Result<Process> {
    let file = directory.join("bird.conf");
    std::fs::write(&file, configuration)?;
    let mut command = namespace.command("bird");
    command.arg("-f").arg("-c").arg(file).arg("-s").arg(directory.join("bird.ctl"));
    Process::start(command, "bird", directory.join("bird.log"))
}
