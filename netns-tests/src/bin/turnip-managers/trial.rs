//! One host with its network manager, etcd and turnip, and what becomes of its addresses.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use turnip_netns_tests::binary;
use turnip_netns_tests::lab::Lab;
use turnip_netns_tests::namespace::LinkState;
use turnip_netns_tests::switch::Switch;

use crate::container::Container;
use crate::managers::{Act, How, Manager, OWN_V4, OWN_V6, Setup};
use crate::observers::{Observers, OwnSeen, Pair, Period, VipSeen};

const LINK: &str = "eth0";
const PORT_OF_HOST: &str = "host";
const CLIENT_V4: &str = "10.77.0.200/24";
const CLIENT_V6: &str = "fd77::200/64";

/// The VIPs, each with another prefix length.
pub const VIPS: [&str; 4] = ["10.77.0.100/24", "10.77.0.101/32", "fd77::100/64", "fd77::101/128"];

/// What turnip's own log says of a VIP.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Said {
    /// Somebody took it away.
    pub taken: bool,
    /// turnip put it behind an address of the host's own that had come.
    pub put_behind: bool,
    /// turnip gave it up.
    pub given_up: bool,
}

/// What one act came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Of each VIP.
    pub vips: Vec<(VipSeen, Said)>,
    /// Of the own addresses, IPv4 and IPv6.
    pub own: Vec<OwnSeen>,
    /// What the manager said when it did not do it.
    pub refusal: Option<String>,
    /// Whether all was as it should be again within half a minute.
    pub is_right: bool,
    /// What turnip has logged meanwhile.
    pub log: String,
}

/// A host under trial.
#[derive(Debug)]
pub struct Trial {
    // In this order they end.
    observers: Observers,
    container: Container,
    switch: Switch,
    vips: Vec<IpNet>,
    _lab: Arc<Lab>,
}

impl Trial {
    /// Boots a host, and has turnip hold its VIPs.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn start(setup: &Setup, tree: &Path) -> Result<Self> {
        let lab = Lab::new()?;
        let switch = Switch::new(&lab, "switch")?;
        let (host, client) = (lab.namespace("host")?, lab.namespace("client")?);
        switch.connect(PORT_OF_HOST, &host, LINK)?;
        switch.connect("client", &client, LINK)?;
        client.configure_link(LINK, CLIENT_V4.parse()?, CLIENT_V6.parse()?)?;
        let pair = |own: &str, client: &str| -> Result<Pair> {
            Ok(Pair { own: own.parse()?, client: client.parse::<IpNet>()?.addr() })
        };
        let pairs = [pair(OWN_V4, CLIENT_V4)?, pair(OWN_V6, CLIENT_V6)?];
        let vips = VIPS.iter().map(|vip| Ok(vip.parse()?)).collect::<Result<Vec<IpNet>>>()?;

        let container = Container::boot(&lab, &host, tree)?;
        let observers = Observers::start(&lab, &host, &client, &pairs, &vips)?;
        container.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
        for (path, text) in setup.files {
            container.write(path, text)?;
        }
        container.run(setup.start).context("the network manager")?;
        container.run("systemctl start etcd").context("etcd")?;
        container.install(&binary::turnip()?, "/usr/local/bin/turnip")?;
        let unit = include_str!("../../../../runtime/dist/turnip.service");
        container.write("/etc/systemd/system/turnip.service", unit)?;
        container.write("/etc/turnip/turnip.toml", &configuration(setup))?;
        container.run("systemctl daemon-reload; systemctl start turnip")?;
        let trial = Trial { observers, container, switch, vips, _lab: lab };
        ensure!(
            trial.observers.wait_until_settled()?,
            "turnip does not hold its VIPs, or the host's own addresses are not there:\n{}{}",
            trial.container.run("ip address; ip route; ip -6 route")?,
            trial.container.run("journalctl --output=cat --lines=50")?,
        );
        Ok(trial)
    }

    /// The versions of what is on the host.
    ///
    /// # Errors
    /// When something does not run.
    pub fn versions(&self, manager: &Manager) -> Result<Vec<String>> {
        let commands = [
            manager.version,
            "turnip --version",
            "etcd --version | head -1",
            "uname -sr | cut -d- -f1",
        ];
        let version = |command: &&str| Ok(self.container.run(command)?.trim().to_owned());
        commands.iter().map(version).collect()
    }

    /// Does something to the host, and waits until all is as it should be again.
    ///
    /// # Errors
    /// When the lab fails.
    pub fn perform(&self, act: &Act) -> Result<Outcome> {
        self.news()?;
        let begun = Instant::now();
        let (mut possible, mut refusal) = (begun, None);
        match act.how {
            How::Script(script) => {
                refusal = self.container.run(script).err().map(|error| format!("{error:#}"));
            }
            How::Carrier(lost_for) => {
                self.switch.namespace().set_link(PORT_OF_HOST, LinkState::Down)?;
                sleep(lost_for);
                possible = Instant::now();
                self.switch.namespace().set_link(PORT_OF_HOST, LinkState::Up)?;
            }
        }
        let is_right = self.observers.wait_until_settled()?;
        let period = Period { begun, possible, to: Instant::now() };
        let news = self.news()?;
        let vips = self.vips.iter().map(|vip| {
            let said = |what: &str| {
                let of_vip = format!("{vip} on ");
                news.lines().any(|line| line.contains(&of_vip) && line.contains(what))
            };
            let said = Said {
                taken: said("is missing although"),
                put_behind: said("there anew"),
                given_up: said("forfeiting"),
            };
            Ok((self.observers.vip(vip, period)?, said))
        });
        let vips = vips.collect::<Result<Vec<_>>>()?;
        let own = [0, 1].map(|index| self.observers.own(index, period));
        let own = own.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Outcome { vips, own, refusal, is_right, log: news })
    }

    /// What turnip has logged since this was last asked.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn news(&self) -> Result<String> {
        let since = "--cursor-file=/run/turnip-log-read-to";
        self.container.run(&format!(
            "journalctl --sync; journalctl --quiet --unit=turnip --output=cat {since}"
        ))
    }
}

/// turnip's configuration.
fn configuration(setup: &Setup) -> String {
    let mut text = String::from("node = \"host\"\n");
    for vip in VIPS {
        let is_single = vip.parse::<Ipv4Net>().is_ok_and(|net| net.prefix_len() == 32)
            || vip.parse::<Ipv6Net>().is_ok_and(|net| net.prefix_len() == 128);
        let interface = if is_single { setup.interface_of_single } else { LINK };
        let name = vip.split('/').next_back().unwrap_or_default();
        let _ = writeln!(
            text,
            "\n[[vip]]\nname = \"v{name}\"\naddress = \"{vip}\"\ninterface = \"{interface}\""
        );
    }
    text
}
