//! A switch: a bridge in a namespace of its own, whose ports can be cut, one way or both, made
//! lossy, slow, or closed for some traffic. The faults are rules in the bridge's forwarding path, so that
//! hosts keep their carrier and no firewall of theirs is touched.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::daemon::HEARTBEAT_PORT;
use crate::delay::{Delay, Paths};
use crate::lab::Lab;
use crate::namespace::Namespace;

const BRIDGE: &str = "br0";

/// A switch.
#[derive(Debug)]
pub struct Switch {
    namespace: Arc<Namespace>,
    /// Of two that are alike, one may end while the other goes on.
    faults: Mutex<Vec<Fault>>,
    paths: Arc<Paths>,
    delays: Mutex<BTreeMap<String, Delay>>,
}

/// What is wrong with a switch. Ports are told by their names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing from here.
    From(String),
    /// Nothing to there.
    To(String),
    /// Nothing from the one to the other.
    Between(String, String),
    /// No etcd traffic to or from here, members' among themselves included.
    Store(String),
    /// A client here reaches no member of etcd elsewhere.
    ClientOfStore(String),
    /// A member here hears no other member, and none hears it.
    MemberOfStore(String),
    /// No heartbeats of turnip to or from here.
    Heartbeats(String),
    /// No heartbeats from the one to the other.
    HeartbeatsBetween(String, String),
    /// Of a million frames from or to here, this many are lost.
    Loss(String, u32),
    /// Of a million frames from the one to the other, this many are lost.
    LossBetween(String, String, u32),
}

impl Switch {
    /// A switch without ports.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(lab: &Lab, name: &str) -> Result<Self> {
        let namespace = lab.namespace(name)?;
        namespace.bridge(BRIDGE, None)?;
        let (faults, paths, delays) = Default::default();
        Ok(Switch { namespace, faults, paths, delays })
    }

    /// The namespace that it is in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Connects `link` of a host with a port named `port`.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn connect(&self, port: &str, host: &Namespace, link: &str) -> Result<()> {
        self.namespace.cable(port, host, link)?;
        self.namespace.plug(port, BRIDGE)
    }

    /// Pulls the cable out of a port: at once, and the other end is gone too. A delay of the port
    /// goes with it; other faults stay.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn disconnect(&self, port: &str) -> Result<()> {
        self.namespace.remove_link(port)?;
        self.delays.lock().unwrap_or_else(PoisonError::into_inner).remove(port);
        self.paths.set_port(port, Duration::ZERO);
        self.namespace.remove_link(&delayed_ends(port)[0])
    }

    /// Loses everything from and to a port, silently.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut(&self, port: &str) -> Result<()> {
        self.begin(&[Fault::From(port.into()), Fault::To(port.into())])
    }

    /// Loses everything that a port sends; it still receives.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut_outgoing(&self, port: &str) -> Result<()> {
        self.begin(&[Fault::From(port.into())])
    }

    /// Loses everything sent to a port; it still sends.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut_incoming(&self, port: &str) -> Result<()> {
        self.begin(&[Fault::To(port.into())])
    }

    /// Loses everything between two ports.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut_between(&self, a: &str, b: &str) -> Result<()> {
        self.begin(&[Fault::Between(a.into(), b.into()), Fault::Between(b.into(), a.into())])
    }

    /// Loses a port's traffic with etcd, its peers' included, and nothing else.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut_from_store(&self, port: &str) -> Result<()> {
        self.begin(&[Fault::Store(port.into())])
    }

    /// Loses a port's heartbeats, those of turnip, both ways, and nothing else.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut_heartbeats(&self, port: &str) -> Result<()> {
        self.begin(&[Fault::Heartbeats(port.into())])
    }

    /// Loses this many percent, 99 at most, of the frames from and to a port.
    ///
    /// # Errors
    /// As of nft.
    pub fn lose(&self, port: &str, percent: u32) -> Result<()> {
        self.begin(&[Fault::Loss(port.into(), percent * 10_000)])
    }

    /// Delivers everything from and to a port later, each way by so much.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn delay(&self, port: &str, delay: Duration) -> Result<()> {
        self.relay(port)?;
        self.paths.set_port(port, delay);
        Ok(())
    }

    /// Delivers what goes from one port to another later by so much, beside what each of them is delayed by.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn delay_between(&self, from: &str, to: &str, delay: Duration) -> Result<()> {
        // Who is at the first port shows in what it sends.
        self.relay(from)?;
        self.relay(to)?;
        self.paths.set_between(from, to, delay);
        Ok(())
    }

    /// Has a relay of the switch's pass what comes and goes at a port, without a delay as yet. To begin that interrupts
    /// the port for a moment.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn relay(&self, port: &str) -> Result<()> {
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        if delays.contains_key(port) {
            return Ok(());
        }
        // The port goes out of the bridge, and one end of a cable in its place; the relay
        // joins the port with the other end.
        let ends = delayed_ends(port);
        self.namespace.cable(&ends[0], &self.namespace, &ends[1])?;
        self.namespace.unplug(port)?;
        self.namespace.plug(&ends[1], BRIDGE)?;
        let links = [port, &ends[0]];
        delays.insert(port.into(), Delay::of_port(&self.namespace, links, &self.paths)?);
        Ok(())
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// As of nft.
    pub fn heal(&self) -> Result<()> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.apply()?;
        self.paths.clear();
        let delays =
            std::mem::take(&mut *self.delays.lock().unwrap_or_else(PoisonError::into_inner));
        for port in delays.into_keys() {
            self.namespace.remove_link(&delayed_ends(&port)[0])?;
            self.namespace.plug(&port, BRIDGE)?;
        }
        Ok(())
    }

    /// Begins faults.
    ///
    /// # Errors
    /// As of nft.
    pub fn begin(&self, faults: &[Fault]) -> Result<()> {
        if faults.is_empty() {
            return Ok(());
        }
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults.iter().cloned());
        self.apply()
    }

    /// Ends faults that were begun, each once.
    ///
    /// # Errors
    /// As of nft.
    pub fn end(&self, faults: &[Fault]) -> Result<()> {
        if faults.is_empty() {
            return Ok(());
        }
        {
            let mut all = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            for fault in faults {
                if let Some(number) = all.iter().position(|one| one == fault) {
                    all.remove(number);
                }
            }
        }
        self.apply()
    }

    /// Replaces all rules in one transaction.
    fn apply(&self) -> Result<()> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut rules = String::from("table bridge lab\ndelete table bridge lab\n");
        rules += "table bridge lab {\nchain faults {\n";
        rules += "type filter hook forward priority 0; policy accept;\n";
        for fault in &faults {
            for rule in fault.rules() {
                writeln!(rules, "{rule} drop")?;
            }
        }
        rules += "}\n}\n";
        self.namespace.nft(&rules)
    }
}

impl Fault {
    /// What the frames are like that it loses.
    fn rules(&self) -> Vec<String> {
        let both = |port: &str, what: &str| {
            [from(port), to(port)].map(|side| format!("{side} {what}")).to_vec()
        };
        match self {
            Fault::From(port) => vec![from(port)],
            Fault::To(port) => vec![to(port)],
            Fault::Between(a, b) => vec![format!("{} {}", from(a), to(b))],
            Fault::Store(port) => ["sport", "dport"]
                .iter()
                .flat_map(|end| both(port, &format!("tcp {end} {{ 2379, 2380 }}")))
                .collect(),
            Fault::ClientOfStore(port) => {
                vec![
                    format!("{} tcp dport 2379", from(port)),
                    format!("{} tcp sport 2379", to(port)),
                ]
            }
            Fault::MemberOfStore(port) => ["sport", "dport"]
                .iter()
                .flat_map(|end| both(port, &format!("tcp {end} 2380")))
                .collect(),
            Fault::Heartbeats(port) => both(port, &format!("udp dport {HEARTBEAT_PORT}")),
            Fault::HeartbeatsBetween(a, b) => {
                vec![format!("{} {} udp dport {HEARTBEAT_PORT}", from(a), to(b))]
            }
            Fault::Loss(port, ppm) => both(port, &lost(*ppm)),
            Fault::LossBetween(a, b, ppm) => vec![format!("{} {} {}", from(a), to(b), lost(*ppm))],
        }
    }
}

/// Matches so many of a million frames, all of them too; at least one.
fn lost(ppm: u32) -> String {
    let highest = ppm.saturating_sub(1).min(999_999);
    format!("numgen random mod 1000000 <= {highest}")
}

/// Matches what comes in at a port, delayed or not.
fn from(port: &str) -> String {
    let [_, delayed] = delayed_ends(port);
    format!("iifname {{ {port:?}, {delayed:?} }}")
}

/// Matches what goes out at a port, delayed or not.
fn to(port: &str) -> String {
    let [_, delayed] = delayed_ends(port);
    format!("oifname {{ {port:?}, {delayed:?} }}")
}

/// The two ends of the cable that takes the place of a delayed port: the relay's, and the bridge's.
fn delayed_ends(port: &str) -> [String; 2] {
    [format!("{port}-in"), format!("{port}-out")]
}
