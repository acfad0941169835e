//! What can be done to etcd: to the whole of it, and to the hosts of an etcd apart, which run a member
//! each, and nothing else.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Cluster;
use crate::daemon::CLUSTER;
use crate::etcd::{self, Member};
use crate::network::port_beside;
use crate::switch::Switch;

/// How long somebody looks at a member that was restarted before the next one.
const LOOK: Duration = Duration::from_secs(2);

impl Cluster {
    /// Makes a backup of etcd's data, for which it is stopped for a moment.
    ///
    /// # Errors
    /// When a member does not end, cannot be copied or started, or none leads then.
    pub fn back_up_etcd(&mut self) -> Result<()> {
        self.restart_etcd(|member| member.back_up())
    }

    /// Restores etcd from the backup: what was written since then is lost, and its revision goes back.
    ///
    /// # Errors
    /// When a member does not end, cannot be restored or started, or none leads then.
    pub fn restore_etcd(&mut self) -> Result<()> {
        self.restart_etcd(|member| member.restore())
    }

    /// Ends all of etcd, and starts it as another version.
    ///
    /// # Errors
    /// When a member does not end or cannot be started, or none leads then.
    pub fn upgrade_etcd(&mut self, binary: &str) -> Result<()> {
        self.restart_etcd(|member| {
            member.install(binary);
            Ok(())
        })
    }

    /// Restarts etcd's members one by one, this one last, as somebody does who looks after each.
    ///
    /// # Errors
    /// When a member does not end, or does not follow a leader when it was started again.
    pub fn roll_etcd(&mut self, last: usize) -> Result<()> {
        let count = self.members.len();
        for member in (1..=count).map(|further| (last + further) % count) {
            self.members[member].restart()?;
            etcd::wait_for_leader(&self.members)?;
            sleep(LOOK);
        }
        Ok(())
    }

    /// Puts new certificates in the place of etcd's and its clients', valid for so long, or for good.
    ///
    /// # Errors
    /// When etcd is without, or they cannot be written.
    pub fn renew_certificates(&self, valid_for: Option<Duration>) -> Result<()> {
        self.security.as_ref().context("etcd has certificates")?.renew_certificates(valid_for)
    }

    /// Puts a new certificate in the place of the authority's, valid for so long, or for good.
    ///
    /// # Errors
    /// When etcd is without, or it cannot be written.
    pub fn renew_authority(&self, valid_for: Option<Duration>) -> Result<()> {
        self.security.as_ref().context("etcd has certificates")?.renew_authority(valid_for)
    }

    /// Puts another password for turnip into its file.
    ///
    /// # Errors
    /// When etcd is without, or it cannot be written.
    pub fn write_password(&self, password: &str) -> Result<()> {
        self.security.as_ref().context("etcd has a password")?.write_password(password)
    }

    /// Makes it the password that etcd wants of turnip.
    ///
    /// # Errors
    /// When etcd is without, or does not do so.
    pub fn change_password(&self, password: &str) -> Result<()> {
        let security = self.security.as_ref().context("etcd has a password")?;
        let leader = etcd::wait_for_leader(&self.members)?;
        self.members[leader].change_password(security, password)
    }

    /// Ends all of etcd's members in an orderly way.
    ///
    /// # Errors
    /// When one does not end.
    pub fn stop_etcd(&mut self) -> Result<()> {
        self.members.iter_mut().try_for_each(Member::stop)
    }

    /// Starts all of etcd's members.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start_etcd(&mut self) -> Result<()> {
        self.members.iter_mut().try_for_each(Member::start)
    }

    /// Stops the execution of all of etcd's members.
    ///
    /// # Errors
    /// When one does not run.
    pub fn freeze_etcd(&self) -> Result<()> {
        self.members.iter().try_for_each(Member::freeze)
    }

    /// Lets them go on, and waits until one of them leads.
    ///
    /// # Errors
    /// When one does not run, or none leads within a while.
    pub fn thaw_etcd(&self) -> Result<()> {
        self.members.iter().try_for_each(Member::thaw)?;
        etcd::wait_for_leader(&self.members).map(drop)
    }

    /// Waits until the session of each host lists all other hosts: from their next heartbeats on they
    /// need no store to go on.
    ///
    /// # Errors
    /// When that is not so within 30 s; with what the daemons said.
    pub fn wait_until_sessions_list_all_others(&self) -> Result<()> {
        (0..self.size()).try_for_each(|host| self.wait_until_session_lists(host, self.size() - 1))
    }

    /// Waits until the session of a host lists so many others.
    ///
    /// # Errors
    /// When that is not so within 30 s; with what the daemons said.
    pub fn wait_until_session_lists(&self, host: usize, others: usize) -> Result<()> {
        let what = format!("the session of h{} lists {others} others", host + 1);
        self.wait(&what, || Ok(self.listed_by(host)? == Some(others)))
    }

    /// Whether the session of each host lists all other hosts.
    ///
    /// # Errors
    /// Without a quorum.
    pub fn sessions_list_all_others(&self) -> Result<bool> {
        let others = Some(self.size() - 1);
        (0..self.size()).try_fold(true, |all, host| Ok(all && self.listed_by(host)? == others))
    }

    /// How many others the session of a host lists; none without a session.
    ///
    /// # Errors
    /// Without a quorum.
    pub fn listed_by(&self, host: usize) -> Result<Option<usize>> {
        let key = format!("/turnip/{CLUSTER}/sessions/{}", self.host(host).name);
        let Some(value) = self.members[0].value(&key)? else { return Ok(None) };
        let session: serde_json::Value = serde_json::from_slice(&value)?;
        Ok(Some(session["witnesses"].as_array().map_or(0, Vec::len)))
    }

    fn restart_etcd(&mut self, meanwhile: impl Fn(&mut Member) -> Result<()>) -> Result<()> {
        self.stop_etcd()?;
        self.members.iter_mut().try_for_each(meanwhile)?;
        self.start_etcd()?;
        etcd::wait_for_leader(&self.members).map(drop)
    }

    /// Cuts a member off from all other members, while the daemons still reach it.
    ///
    /// # Errors
    /// As of the switch, or when they are not apart.
    pub fn cut_member_from_peers(&self, member: usize) -> Result<()> {
        let (switch, port) = self.port_of_member(member)?;
        let peers = (0..self.members.len()).filter(|&peer| peer != member);
        for peer in peers {
            switch.cut_between(&port, &self.port_of_member(peer)?.1)?;
        }
        Ok(())
    }

    /// Removes a member from etcd, as an operator does at another one; its process goes on.
    ///
    /// # Errors
    /// When etcd refuses, or has no leader for long.
    pub fn remove_member(&self, member: usize) -> Result<()> {
        let id = self.members[member].status()?.id;
        let others = (0..self.members.len()).filter(|&other| other != member).cycle();
        let mut others = others.map(|other| &self.members[other]);
        self.wait("etcd removes the member", || {
            let via = others.next().context("there is another member")?;
            let removed = via.ask(Duration::from_secs(5), |mut client| async move {
                client.member_remove(id).await?;
                Ok(())
            });
            Ok(removed.is_ok())
        })
    }

    /// Takes the power from a member's host: its link is gone at once, then the member.
    ///
    /// # Errors
    /// As of the switch, or when it is not apart.
    pub fn power_off_member(&mut self, member: usize) -> Result<()> {
        let (switch, port) = self.port_of_member(member)?;
        switch.disconnect(&port)?;
        self.members[member].kill();
        Ok(())
    }

    /// Gives its machine its power back, and starts nothing on it.
    ///
    /// # Errors
    /// When it is not apart, or its network cannot be laid.
    pub fn plug_in_member(&mut self, member: usize) -> Result<()> {
        let (_, port) = self.port_of_member(member)?;
        let (on_hosts, host) = (self.members_on_hosts(), &self.members[member]);
        self.network.attach(&port, member - on_hosts, host.namespace()?)?;
        Ok(())
    }

    /// How many of etcd's members run on hosts; they are the first.
    pub fn members_on_hosts(&self) -> usize {
        (0..self.size()).filter(|&host| self.plan.etcd.member_on(host).is_some()).count()
    }

    fn port_of_member(&self, member: usize) -> Result<(&Switch, String)> {
        let Some(beside) = member.checked_sub(self.members_on_hosts()) else {
            bail!("etcd's member {} is on a host of turnip's: hit that", member + 1);
        };
        // There is a place for other machines on one switch only.
        Ok((self.network.switch(0), port_beside(beside)))
    }
}
