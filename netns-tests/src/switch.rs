//! A switch: a bridge in a namespace of its own, whose ports can be cut, one way or both, made
//! lossy, slow, or closed for some traffic. The faults are rules in the bridge's forwarding path, so that
//! hosts keep their carrier and no firewall of theirs is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::daemon::HEARTBEAT_PORT;
use crate::delay::Delay;
use crate::lab::Lab;
use crate::namespace::Namespace;

const BRIDGE: &str = "br0";

/// A switch.
#[derive(Debug)]
pub struct Switch {
    namespace: Arc<Namespace>,
    faults: Mutex<BTreeSet<Fault>>,
    delays: Mutex<BTreeMap<String, Delay>>,
}

/// What is wrong with a switch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    /// Nothing from here.
    From(String),
    /// Nothing to there.
    To(String),
    /// Nothing from the one to the other.
    Between(String, String),
    /// No etcd traffic to or from here.
    Store(String),
    /// No heartbeats of turnip to or from here.
    Heartbeats(String),
    /// Of every 100 frames from or to here, this many are lost.
    Loss(String, u32),
}

impl Switch {
    /// A switch without ports.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(lab: &Lab, name: &str) -> Result<Self> {
        let namespace = lab.namespace(name)?;
        namespace.bridge(BRIDGE, None)?;
        Ok(Switch { namespace, faults: Mutex::default(), delays: Mutex::default() })
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
        self.namespace.remove_link(&delayed_ends(port)[0])
    }

    /// Loses everything from and to a port, silently.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut(&self, port: &str) -> Result<()> {
        self.add([Fault::From(port.into()), Fault::To(port.into())])
    }

    /// Loses everything that a port sends; it still receives.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut_outgoing(&self, port: &str) -> Result<()> {
        self.add([Fault::From(port.into())])
    }

    /// Loses everything sent to a port; it still sends.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut_incoming(&self, port: &str) -> Result<()> {
        self.add([Fault::To(port.into())])
    }

    /// Loses everything between two ports.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut_between(&self, a: &str, b: &str) -> Result<()> {
        self.add([Fault::Between(a.into(), b.into()), Fault::Between(b.into(), a.into())])
    }

    /// Loses a port's traffic with etcd, its peers' included, and nothing else.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut_from_store(&self, port: &str) -> Result<()> {
        self.add([Fault::Store(port.into())])
    }

    /// Loses a port's heartbeats, those of turnip, both ways, and nothing else.
    ///
    /// # Errors
    /// As of nft.
    pub fn cut_heartbeats(&self, port: &str) -> Result<()> {
        self.add([Fault::Heartbeats(port.into())])
    }

    /// Loses this many percent, 99 at most, of the frames from and to a port.
    ///
    /// # Errors
    /// As of nft.
    pub fn lose(&self, port: &str, percent: u32) -> Result<()> {
        self.add([Fault::Loss(port.into(), percent)])
    }

    /// Delivers everything from and to a port later.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn delay(&self, port: &str, delay: Duration) -> Result<()> {
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        if delays.remove(port).is_none() {
            // The port goes out of the bridge, and one end of a cable in its place; the relay
            // joins the port with the other end.
            let ends = delayed_ends(port);
            self.namespace.cable(&ends[0], &self.namespace, &ends[1])?;
            self.namespace.unplug(port)?;
            self.namespace.plug(&ends[1], BRIDGE)?;
        }
        let links = [port, &delayed_ends(port)[0]];
        delays.insert(port.into(), Delay::between(&self.namespace, links, delay)?);
        Ok(())
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// As of nft.
    pub fn heal(&self) -> Result<()> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.apply()?;
        let delays =
            std::mem::take(&mut *self.delays.lock().unwrap_or_else(PoisonError::into_inner));
        for port in delays.into_keys() {
            self.namespace.remove_link(&delayed_ends(&port)[0])?;
            self.namespace.plug(&port, BRIDGE)?;
        }
        Ok(())
    }

    fn add(&self, faults: impl IntoIterator<Item = Fault>) -> Result<()> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
        self.apply()
    }

    /// Replaces all rules in one transaction.
    fn apply(&self) -> Result<()> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut rules = String::from("table bridge lab\ndelete table bridge lab\n");
        rules += "table bridge lab {\nchain faults {\n";
        rules += "type filter hook forward priority 0; policy accept;\n";
        for fault in &faults {
            match fault {
                Fault::From(port) => writeln!(rules, "{} drop", from(port))?,
                Fault::To(port) => writeln!(rules, "{} drop", to(port))?,
                Fault::Between(a, b) => writeln!(rules, "{} {} drop", from(a), to(b))?,
                Fault::Store(port) => {
                    for side in [from(port), to(port)] {
                        for end in ["sport", "dport"] {
                            writeln!(rules, "{side} tcp {end} {{ 2379, 2380 }} drop")?;
                        }
                    }
                }
                Fault::Heartbeats(port) => {
                    for side in [from(port), to(port)] {
                        writeln!(rules, "{side} udp dport {HEARTBEAT_PORT} drop")?;
                    }
                }
                Fault::Loss(port, percent) => {
                    for side in [from(port), to(port)] {
                        writeln!(rules, "{side} numgen random mod 100 < {percent} drop")?;
                    }
                }
            }
        }
        rules += "}\n}\n";
        self.namespace.nft(&rules)
    }
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
