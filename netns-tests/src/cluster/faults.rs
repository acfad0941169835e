//! What can be done to hosts and to the network between them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Cluster;
use crate::etcd;
use crate::network::port;
use crate::plan::NetworkPlan;

impl Cluster {
    /// Pulls the cable of a host, whose link disappears with it.
    ///
    /// # Errors
    /// As of the switch.
    pub fn unplug(&mut self, host: usize) -> Result<()> {
        self.network.switch(host).disconnect(&port(host))
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// As of the switch, or when the host has more on the network than that cable.
    pub fn plug_in(&mut self, host: usize) -> Result<()> {
        ensure!(
            self.plan.network == NetworkPlan::OneSwitch,
            "h{} cannot be plugged in again: in {:?} more than that cable connects it",
            host + 1,
            self.plan.network,
        );
        self.hosts[host].plug(&*self.network)
    }

    /// Cuts a host off from everything; its link stays up.
    ///
    /// # Errors
    /// As of the switch.
    pub fn isolate(&self, host: usize) -> Result<()> {
        self.network.switch(host).cut(&port(host))
    }

    /// Cuts two hosts off from each other.
    ///
    /// # Errors
    /// As of the switch, or when they are not on one.
    pub fn cut(&self, a: usize, b: usize) -> Result<()> {
        ensure!(
            self.plan.network == NetworkPlan::OneSwitch,
            "h{} and h{} cannot be cut off from each other: {:?} has no switch that joins them",
            a + 1,
            b + 1,
            self.plan.network,
        );
        self.network.switch(a).cut_between(&port(a), &port(b))
    }

    /// Cuts a host off from etcd on all other hosts, while clients still reach it.
    ///
    /// # Errors
    /// As of the switch.
    pub fn cut_from_store(&self, host: usize) -> Result<()> {
        self.network.switch(host).cut_from_store(&port(host))
    }

    /// Loses a host's heartbeats, both ways, as a firewall does that knows nothing of them.
    ///
    /// # Errors
    /// As of the switch.
    pub fn cut_heartbeats(&self, host: usize) -> Result<()> {
        self.network.switch(host).cut_heartbeats(&port(host))
    }

    /// Loses what a host sends; it still receives.
    ///
    /// # Errors
    /// As of the switch.
    pub fn cut_outgoing(&self, host: usize) -> Result<()> {
        self.network.switch(host).cut_outgoing(&port(host))
    }

    /// Loses what is sent to a host; it still sends.
    ///
    /// # Errors
    /// As of the switch.
    pub fn cut_incoming(&self, host: usize) -> Result<()> {
        self.network.switch(host).cut_incoming(&port(host))
    }

    /// Loses this many percent of a host's frames.
    ///
    /// # Errors
    /// As of the switch.
    pub fn lose(&self, host: usize, percent: u32) -> Result<()> {
        self.network.switch(host).lose(&port(host), percent)
    }

    /// Delivers everything from and to a host later, each way by so much.
    ///
    /// # Errors
    /// As of the switch.
    pub fn slow(&self, host: usize, delay: Duration) -> Result<()> {
        self.network.switch(host).delay(&port(host), delay)
    }

    /// Ends all faults of the network.
    ///
    /// # Errors
    /// As of the switch.
    pub fn heal(&self) -> Result<()> {
        (0..self.hosts.len()).try_for_each(|host| self.network.switch(host).heal())
    }

    /// Has this member of etcd lead, if it does not yet.
    ///
    /// # Errors
    /// When it does not within 30 s.
    pub fn lead_from(&self, member: usize) -> Result<()> {
        self.wait("the leadership has moved", || {
            let leader = etcd::wait_for_leader(&self.members)?;
            if leader == member {
                return Ok(true);
            }
            // One that does not answer yet cannot be named, nor does it take the leadership.
            if let Ok(next) = self.members[member].status() {
                let _ = self.members[leader].move_leader_to(next.id);
            }
            Ok(false)
        })
    }

    /// Takes the power from a host: its links are gone at once, then all that ran on it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn power_off(&mut self, host: usize) -> Result<()> {
        self.network.switch(host).disconnect(&port(host))?;
        self.hosts[host].power_off()?;
        if let Some(member) = self.plan.etcd.member_on(host) {
            self.members[member].kill();
        }
        Ok(())
    }

    /// Gives a host its power back: it starts with nothing but its files, then etcd, then the
    /// daemon.
    ///
    /// # Errors
    /// When something cannot be started.
    pub fn power_on(&mut self, index: usize) -> Result<()> {
        self.boot(index)?;
        if let Some(member) = self.plan.etcd.member_on(index) {
            self.members[member].start()?;
        }
        self.start_daemon(index)
    }

    /// Gives a host its power back, and starts nothing on it.
    ///
    /// # Errors
    /// When its network cannot be laid.
    pub fn boot(&mut self, index: usize) -> Result<()> {
        let Cluster { network, hosts, address_monitor, lab, .. } = self;
        hosts[index].boot(lab, address_monitor, &**network)?;
        if let Some(member) = self.plan.etcd.member_on(index) {
            self.members[member].move_to(Arc::clone(self.hosts[index].shared_namespace()));
        }
        Ok(())
    }
}
