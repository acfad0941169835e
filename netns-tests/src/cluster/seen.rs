//! Waiting for a state of the cluster, and what the observers saw.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use super::Cluster;
use super::daemons::daemon_log;
use crate::address_event::AddressEvent;
use crate::daemon::Vip;
use crate::host::Host;
use crate::measure::{self, Span};
use crate::poll::Poll;
use crate::probe::{Probe, Target, Transport};

/// What the observers saw in a span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// How long two hosts had a VIP at once, be it different addresses of it.
    pub overlap: Duration,
    /// How long two hosts answered at once, each asked itself, at whatever address of the VIP.
    pub answers_overlap: Duration,
    /// The longest time without an answer for a client that sends datagrams.
    pub gap: Duration,
    /// The same for one that connects.
    pub gap_tcp: Duration,
    /// The longest time in which no host had the address.
    pub absence: Duration,
    /// The longest time in which an observer that should have asked did not ([`measure::blind`]):
    /// a gap that was briefer, and an overlap of answers that was briefer than twice that, may be
    /// missing. Zero where all observers kept their time.
    pub blind: Duration,
}

/// How often a condition is checked. Not more often: the checks take processor time from the daemons.
const POLL: Poll = Poll::every(Duration::from_millis(10));

/// How often turnip is asked for its status, which is a process each time.
const ASK: Poll = Poll::every(Duration::from_millis(50));

/// The longest time without probes after which something can be said nonetheless.
const BLIND_MAX: Duration = Duration::from_secs(1);

impl Cluster {
    /// The hosts that have the address now.
    ///
    /// # Errors
    /// When events were lost.
    pub fn holders(&self) -> Result<Vec<usize>> {
        self.holders_of(self.address())
    }

    /// The hosts that have `address` now.
    ///
    /// # Errors
    /// When events were lost.
    pub fn holders_of(&self, address: IpAddr) -> Result<Vec<usize>> {
        let names = self.address_monitor.holders(address, Instant::now())?;
        let index = |name: String| self.hosts.iter().position(|host| host.name == name);
        Ok(names.into_iter().filter_map(index).collect())
    }

    /// Whether no host has any of the addresses that clients probe.
    ///
    /// # Errors
    /// When events were lost.
    pub fn nobody_has_it(&self) -> Result<bool> {
        self.probed()
            .try_fold(true, |none, address| Ok(none && self.holders_of(address)?.is_empty()))
    }

    /// Waits until one host has the address, or all that the first VIP has, and clients get
    /// answers from it.
    ///
    /// # Errors
    /// When that is not so within 30 s; with what the daemons said.
    pub fn wait_for_owner(&self) -> Result<usize> {
        self.wait_for_owner_among(|_| true)
    }

    /// Waits until the address is where placement wants it: the first to start takes what another
    /// should have, and gives it up after a while.
    ///
    /// # Errors
    /// When that is not so within 30 s; with what the daemons said.
    pub fn wait_until_settled(&self) -> Result<usize> {
        let Some(settles_within) = self.plan.daemon.settles_within() else {
            self.wait_for_status("every VIP is where placement wants it", || self.is_settled())?;
            return self.wait_for_owner();
        };
        let mut since = (self.wait_for_owner()?, Instant::now());
        self.wait("the address has settled", || {
            match self.holders()?[..] {
                [owner] if owner == since.0 => {}
                _ => since = (self.wait_for_owner()?, Instant::now()),
            }
            Ok(since.1.elapsed() > settles_within)
        })?;
        Ok(since.0)
    }

    /// Waits until each address that clients probe is on one host and answers, and has stayed there for so long, and
    /// every daemon has a session.
    ///
    /// # Errors
    /// When that is not so within 30 s, or so long as they are to stay; with what the daemons said.
    pub fn wait_until_all_stay(&self, stay: Duration) -> Result<()> {
        let asked = Instant::now();
        let owners = || -> Result<Option<Vec<usize>>> {
            let targets = self.client_prober.targets();
            let datagrams = targets.filter(|target| target.transport == Transport::Udp);
            datagrams.map(|target| self.sole_owner(target, asked)).collect()
        };
        self.wait_for_status("every daemon has a session", || self.all_have_sessions())?;
        let mut since = (owners()?, Instant::now());
        let poll = POLL.within(POLL.patience() + stay);
        self.wait_by(poll, "every VIP stays on one host and answers", || {
            let now = owners()?;
            if now != since.0 {
                since = (now, Instant::now());
            }
            Ok(since.0.is_some() && since.1.elapsed() > stay)
        })
    }

    /// Waits until no daemon waits for etcd any more.
    ///
    /// # Errors
    /// When one does for 30 s; with what the daemons said.
    pub(crate) fn wait_until_none_waits_for_etcd(&self) -> Result<()> {
        self.wait_for_status("every daemon has heard of etcd", || self.none_waits_for_etcd())
    }

    /// Waits until one host that `wanted` accepts has the address, or all that the first VIP has,
    /// and clients get answers from it.
    ///
    /// # Errors
    /// When that is not so within 30 s; with what the daemons said.
    pub fn wait_for_owner_among(&self, wanted: impl Fn(usize) -> bool) -> Result<usize> {
        let asked = Instant::now();
        let mut found = None;
        self.wait("one host has the address and answers", || {
            let of_first: Vec<IpAddr> =
                self.plan.vips[0].addresses.iter().map(IpNet::addr).collect();
            let targets = self.client_prober.targets();
            let owners: Vec<Option<usize>> = targets
                .filter(|target| {
                    target.transport == Transport::Udp && of_first.contains(&target.address)
                })
                .map(|target| self.sole_owner(target, asked))
                .collect::<Result<_>>()?;
            let first = owners.first().copied().flatten();
            let has_all = |&one: &usize| owners.iter().all(|&owner| owner == Some(one));
            found = first.filter(has_all).filter(|&one| wanted(one));
            Ok(found.is_some())
        })?;
        found.context("an owner")
    }

    /// The host that has the target's address, no other having it, and was the last to answer a
    /// client at it, after `asked`.
    fn sole_owner(&self, target: Target, asked: Instant) -> Result<Option<usize>> {
        let last = self.client_prober.last_answer(target).filter(|(at, _)| *at > asked);
        Ok(match (&self.holders_of(target.address)?[..], last) {
            (&[owner], Some((_, name))) if self.hosts[owner].name == *name => Some(owner),
            _ => None,
        })
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// When it is not within 30 s; with what the daemons said.
    pub fn wait(&self, what: &str, so: impl FnMut() -> Result<bool>) -> Result<()> {
        self.wait_by(POLL, what, so)
    }

    /// Waits until turnip's status says that something is so.
    ///
    /// # Errors
    /// As of [`wait`](Self::wait).
    pub(super) fn wait_for_status(
        &self,
        what: &str,
        so: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        self.wait_by(ASK, what, so)
    }

    fn wait_by(&self, poll: Poll, what: &str, so: impl FnMut() -> Result<bool>) -> Result<()> {
        if !poll.is_so(so)? {
            bail!("not within {:?}: {what}\n{}", poll.patience(), self.logs());
        }
        Ok(())
    }

    /// The journal, and the logs of all daemons.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for (at, what) in self.lab.journal().entries() {
            let after = at.duration_since(self.lab.journal().start());
            logs += &format!("{:9.3} {what}\n", after.as_secs_f64());
        }
        for host in &self.hosts {
            let log = std::fs::read_to_string(daemon_log(host));
            logs += &format!("--- {}\n{}\n", host.name, ends_of(&log.unwrap_or_default()));
        }
        logs
    }

    /// What the observers saw since `from`.
    ///
    /// # Errors
    /// When events were lost.
    pub fn since(&self, from: Instant) -> Result<Seen> {
        self.seen(Span { from, to: Instant::now() })
    }

    /// What the observers saw in `span`.
    ///
    /// # Errors
    /// When events were lost, or nobody asked for a second.
    ///
    /// # Panics
    /// When an observer has ended.
    pub fn seen(&self, span: Span) -> Result<Seen> {
        let mut seen = Seen {
            overlap: Duration::ZERO,
            answers_overlap: Duration::ZERO,
            gap: Duration::ZERO,
            gap_tcp: Duration::ZERO,
            absence: Duration::ZERO,
            blind: Duration::ZERO,
        };
        let mut by_address = self.address_monitor.events_by_address()?;
        for vip in &self.plan.vips {
            let addresses = take(&mut by_address, vip);
            for events in &addresses {
                seen.absence = seen.absence.max(measure::longest_absence(events, span));
            }
            seen.overlap = seen.overlap.max(measure::overlap(&measure::any_of(addresses), span));
        }
        for address in self.probed() {
            for host in &self.hosts {
                let probes = host.answers(address);
                // Nobody asks a host without power.
                seen.blind = seen.blind.max(measure::blind(&probes, span, host.has_power()));
            }
        }
        seen.answers_overlap = self.answers_overlap(&self.probed().collect::<Vec<_>>(), span);
        for (target, probes) in self.client_prober.records() {
            let gap = measure::gap(&probes, span).length();
            let longest =
                if target.transport == Transport::Tcp { &mut seen.gap_tcp } else { &mut seen.gap };
            *longest = gap.max(*longest);
            seen.blind = seen.blind.max(measure::blind(&probes, span, true));
        }
        if seen.blind > BLIND_MAX {
            bail!("the observers were kept from asking: nothing can be said of {seen:?}");
        }
        Ok(seen)
    }

    /// How long two hosts answered at once at addresses that move as one, as far as the observers could see.
    pub(crate) fn answers_overlap(&self, addresses: &[IpAddr], span: Span) -> Duration {
        // Of each host, one address after the other.
        let of_host = |host: &Host| addresses.iter().flat_map(|it| host.answers(*it)).collect();
        let answers: Vec<Vec<Probe>> = self.hosts.iter().map(of_host).collect();
        measure::answers_overlap(&answers, span)
    }

    /// How long no host had an address of a VIP, at the longest.
    ///
    /// # Errors
    /// When events were lost.
    pub(crate) fn absence_of(&self, vip: usize, span: Span) -> Result<Duration> {
        let mut by_address = self.address_monitor.events_by_address()?;
        let addresses = take(&mut by_address, &self.plan.vips[vip]);
        let absences = addresses.iter().map(|events| measure::longest_absence(events, span));
        Ok(absences.max().unwrap_or_default())
    }

    /// How long two hosts had a VIP at once, these left aside.
    ///
    /// # Errors
    /// When events were lost.
    pub(crate) fn overlap_without(&self, aside: &[usize], span: Span) -> Result<Duration> {
        let mut by_address = self.address_monitor.events_by_address()?;
        let overlaps = self.plan.vips.iter().map(|vip| {
            let events = measure::any_of(take(&mut by_address, vip));
            let is_aside = |event: &AddressEvent| {
                aside.iter().any(|&host| *event.host == *self.hosts[host].name)
            };
            let others = events.iter().filter(|event| !is_aside(event));
            measure::overlap(others, span)
        });
        Ok(overlaps.max().unwrap_or_default())
    }

    /// The longest time in which a host did not answer its out-of-band prober, at any address that clients
    /// probe.
    pub(super) fn own_gap(&self, host: usize, span: Span) -> Duration {
        let gaps = self
            .probed()
            .map(|address| measure::gap(&self.hosts[host].answers(address), span).length());
        gaps.max().unwrap_or_default()
    }

    /// The addresses that clients probe.
    pub fn probed(&self) -> impl Iterator<Item = IpAddr> {
        self.plan.probed_addresses().into_iter().map(|address| address.addr())
    }

    /// The host, or whoever else, that was the last to answer the client's datagrams to an address
    /// of the first VIP.
    pub fn last_to_answer(&self, address: IpAddr) -> Option<Arc<str>> {
        let target = Target { address, transport: Transport::Udp };
        self.client_prober.last_answer(target).map(|(_, who)| who)
    }

    /// The client's datagrams to an address, and what became of them.
    pub fn datagrams_to(&self, address: IpAddr) -> Vec<Probe> {
        let target = Target { address, transport: Transport::Udp };
        let found = self.client_prober.records().into_iter().find(|(asked, _)| *asked == target);
        found.map_or(Vec::new(), |(_, probes)| probes)
    }

    /// The client's probes of the first address.
    pub fn client_probes(&self, transport: Transport) -> Vec<Probe> {
        let address = self.address();
        let mut records = self.client_prober.records().into_iter();
        let found = records.find(|(target, _)| *target == Target { address, transport });
        found.map_or(Vec::new(), |(_, probes)| probes)
    }
}

/// What happened to each address of a VIP.
fn take(by_address: &mut BTreeMap<IpAddr, Vec<AddressEvent>>, vip: &Vip) -> Vec<Vec<AddressEvent>> {
    let take = |net: &IpNet| by_address.remove(&net.addr()).unwrap_or_default();
    vip.addresses.iter().map(take).collect()
}

/// The first and last lines of a log: that of a host with thousands of addresses is long.
fn ends_of(log: &str) -> String {
    const KEPT: usize = 40;
    let lines: Vec<&str> = log.lines().collect();
    if lines.len() <= 2 * KEPT {
        return lines.join("\n");
    }
    let (first, last) = (&lines[..KEPT], &lines[lines.len() - KEPT..]);
    let left_out = format!("... {} lines ...", lines.len() - 2 * KEPT);
    [first, &[left_out.as_str()], last].concat().join("\n")
}
