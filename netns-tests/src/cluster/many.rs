//! What a cluster of many hosts needs, and what they send.

use std::fs;

use anyhow::{Context, Result};

use super::Cluster;
use crate::namespace::Namespace;
use crate::plan::LINK;

/// Of UDP over IPv4: a line of names, and one of numbers.
const COUNTERS: &str = "/proc/thread-self/net/snmp";

impl Cluster {
    /// Has all hosts and etcd's members apart know each other's hardware addresses. All that they learn
    /// by themselves lies in one table, whose size is that of the machine: that of a lab with more than
    /// some thirty hosts that all talk to each other is too small.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn introduce(&self) -> Result<()> {
        let hosts = self.hosts.iter().enumerate();
        let hosts = hosts.map(|(index, host)| (host.namespace(), self.network.address(index)));
        let mut machines: Vec<(&Namespace, _)> = hosts.collect();
        for (member, address) in self.members.iter().zip(&self.etcd_addresses) {
            if !machines.iter().any(|(_, known)| known == address) {
                machines.push((&**member.namespace()?, *address));
            }
        }
        let macs = machines.iter().map(|(namespace, address)| Ok((*address, namespace.mac(LINK)?)));
        let macs: Vec<_> = macs.collect::<Result<_>>()?;
        for (namespace, own) in machines {
            let others = macs.iter().filter(|(address, _)| *address != own);
            namespace.add_neighbours(LINK, others.copied().collect())?;
        }
        Ok(())
    }

    /// How many datagrams a host has sent since it was booted, heartbeats and all others.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn datagrams_sent(&self, host: usize) -> Result<u64> {
        let text = self.hosts[host].namespace().run(|| Ok(fs::read_to_string(COUNTERS)?))?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, numbers) = (lines.next(), lines.next());
        let (names, numbers) = names.zip(numbers).with_context(|| format!("Udp in {COUNTERS}"))?;
        let mut columns = names.split_whitespace().zip(numbers.split_whitespace());
        let sent = columns.find(|(name, _)| *name == "OutDatagrams").context("OutDatagrams")?;
        Ok(sent.1.parse()?)
    }
}
