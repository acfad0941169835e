//! How a scenario must have gone, and how it ends.

use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use super::{Cluster, Seen};
use crate::daemon::{CLUSTER, runtime_directory};
use crate::etcd::{self, Member};
use crate::measure::Span;
use crate::namespace::Namespace;

/// A busy machine that runs tests may stop for so long: gaps up to this are not asserted. An address
/// that was away for a microsecond shows in the kernel's events nonetheless.
const STALL: Duration = Duration::from_secs(1);

/// A planned move takes some milliseconds; one that stalls at either end, so much.
const MOVE_MAX: Duration = Duration::from_secs(3);

/// And less than this part of a lease: that of a host that says nothing takes four fifths at least,
/// and must not pass for one.
const MOVE_MAX_OF_LEASE: u32 = 2;

/// A holder that stays one answers those who are wired to it all the time; so late may it be while
/// the machine is busy.
const OWN_GAP_MAX: Duration = Duration::from_millis(150);

/// After the end of its lease a holder that could not take its address away has it, silently, until
/// the kernel's lifetime is over, which counts whole seconds and is looked at now and then.
pub(crate) const SILENT_MAX: Duration = Duration::from_secs(2);

/// A lease of 3 s, an election of etcd's, the successor's turn, and a busy machine that stops
/// several times meanwhile.
const FAILOVER_MAX: Duration = Duration::from_secs(10);

/// How a scenario must have gone for the address and its clients. No two hosts ever had an address
/// at once, nor answered at once; the rest is said when it is made. The bounds are generous: how
/// fast something is, the benchmark measures; here no client is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    gap_max: GapMax,
    gaps_since: Option<Instant>,
    stayed_on: Option<usize>,
    silent_holder: Option<usize>,
}

/// The longest time that clients were without an answer, and any address without a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum GapMax {
    /// That of a move between hosts that are well.
    OfAMove,
    Fixed(Duration),
}

impl Outcome {
    /// The address stayed on this host, and clients noticed nothing.
    pub fn stayed_on(host: usize) -> Self {
        Outcome { stayed_on: Some(host), ..Self::gap_at_most(STALL) }
    }

    /// It moved, if at all, from one host that was well to another, and nobody had to wait for a
    /// lease to end.
    pub fn moved() -> Self {
        Outcome { gap_max: GapMax::OfAMove, ..Self::gap_at_most(Duration::ZERO) }
    }

    /// It was assumed by another host once the lease of the holder was over.
    pub fn failed_over() -> Self {
        Self::gap_at_most(FAILOVER_MAX)
    }

    /// Clients were left without an answer for so long at most, whether they connect or not; and
    /// no address was without a host for longer, whether a client asked for it or not.
    pub fn gap_at_most(gap_max: Duration) -> Self {
        Outcome {
            gap_max: GapMax::Fixed(gap_max),
            gaps_since: None,
            stayed_on: None,
            silent_holder: None,
        }
    }

    /// Gaps count from `moment` on only: until then the address could not be anywhere.
    #[must_use]
    pub fn since(self, moment: Instant) -> Self {
        Outcome { gaps_since: Some(moment), ..self }
    }

    /// This host could not take its address away, and had it beside another for a while, but
    /// kept silent.
    #[must_use]
    pub fn beside_a_silent_holder(self, host: usize) -> Self {
        Outcome { silent_holder: Some(host), ..self }
    }
}

impl Cluster {
    /// Fails unless all went so since `from`, and all daemons are well.
    ///
    /// # Errors
    /// When it did not; with what the daemons said.
    pub fn check(&mut self, from: Instant, outcome: Outcome) -> Result<Seen> {
        self.assert_daemons_are_well()?;
        let now = Instant::now();
        let seen = self.seen(Span { from, to: now })?;
        let two_had_it = match outcome.silent_holder {
            None => !seen.overlap.is_zero(),
            Some(silent) => {
                let beside = self.overlap_without(&[silent], Span { from, to: now })?;
                seen.overlap > SILENT_MAX || !beside.is_zero()
            }
        };
        if two_had_it || !seen.answers_overlap.is_zero() {
            bail!("two hosts at once: {seen:?}\n{}", self.logs());
        }
        let counted = Span { from: outcome.gaps_since.unwrap_or(from), to: now };
        let gaps = self.seen(counted)?;
        let gap_max = match outcome.gap_max {
            GapMax::Fixed(gap_max) => gap_max,
            GapMax::OfAMove => self.move_max(),
        };
        if gaps.gap.max(gaps.gap_tcp).max(gaps.absence) > gap_max {
            bail!("a gap of more than {gap_max:?}: {gaps:?}\n{}", self.logs());
        }
        if let Some(host) = outcome.stayed_on
            && (!seen.absence.is_zero() || self.holders()? != [host])
        {
            bail!("it did not stay on h{}: {seen:?}\n{}", host + 1, self.logs());
        }
        if let Some(host) = outcome.stayed_on {
            let own_gap = self.own_gap(host, counted);
            // While the whole machine stops, nobody answers, and nobody asks.
            if own_gap > OWN_GAP_MAX + gaps.blind {
                bail!("h{} was silent for {own_gap:?}: {seen:?}\n{}", host + 1, self.logs());
            }
        }
        Ok(seen)
    }

    /// The longest gap of a move between hosts that are well.
    fn move_max(&self) -> Duration {
        let lease = self.plan.daemon.lease();
        lease.map_or(MOVE_MAX, |lease| MOVE_MAX.min(lease / MOVE_MAX_OF_LEASE))
    }

    /// Ends a scenario: every VIP is on one host, and on no other a part of it; all went as in
    /// `outcome` since `from`; then all daemons are stopped, still without an overlap, and leave
    /// nothing behind.
    ///
    /// # Errors
    /// When it is not so; with what the daemons said.
    pub fn conclude(&mut self, from: Instant, outcome: Outcome) -> Result<()> {
        self.wait_for_owner()?;
        self.wait_until_each_is_on_one_host()?;
        self.check(from, outcome)?;
        // Without a leader of etcd a daemon that is stopped cannot say so.
        if self.members.iter().any(Member::runs) {
            etcd::wait_for_leader(&self.members)?;
        }
        self.note("the scenario is over: all daemons are stopped");
        for host in 0..self.size() {
            self.stop_daemon(host)?;
        }
        let gap_max = GapMax::Fixed(Duration::MAX);
        self.check(from, Outcome { gap_max, stayed_on: None, ..outcome })?;
        self.assert_nothing_is_left()
    }

    /// Fails unless nothing of turnip is left on any host that has power, nor in etcd.
    ///
    /// # Errors
    /// When something is; with what the daemons said.
    pub fn assert_nothing_is_left(&self) -> Result<()> {
        for host in self.hosts_with_power() {
            let left = self.left_behind(host)?;
            if !left.is_empty() {
                bail!("left behind on h{}: {left:?}\n{}", host + 1, self.logs());
            }
        }
        let left = self.left_in_etcd()?;
        if !left.is_empty() {
            bail!("left behind in etcd: {left:?}\n{}", self.logs());
        }
        Ok(())
    }

    /// The keys in etcd, where it runs, of daemons that run and VIPs that are owned.
    fn left_in_etcd(&self) -> Result<Vec<String>> {
        if !self.members.iter().any(Member::runs) {
            return Ok(Vec::new());
        }
        // Another member may be cut off, and would not know.
        let member = &self.members[etcd::wait_for_leader(&self.members)?];
        let kinds =
            ["sessions", "vips"].map(|kind| member.keys(&format!("/turnip/{CLUSTER}/{kind}/")));
        Ok(kinds.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    /// What is left of turnip on a host: addresses, what the kernel routes because of them, tables, and
    /// the record of its addresses.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn left_behind(&self, host: usize) -> Result<Vec<String>> {
        let namespace = self.hosts[host].namespace();
        let addresses: Vec<IpNet> =
            self.plan.vips.iter().flat_map(|vip| vip.all_addresses()).collect();
        let present = namespace.addresses()?;
        let there = addresses.iter().filter(|net| present.contains(&net.addr()));
        let mut left: Vec<String> = there.map(ToString::to_string).collect();
        for family in ["-4", "-6"] {
            for table in [&["route", "show", "table", "all"][..], &["neighbour", "show", "proxy"]] {
                let lines = namespace.output("ip", &[&[family], table].concat())?;
                let of_a_vip = |line: &&str| addresses.iter().any(|net| is_about(line, net));
                left.extend(lines.lines().filter(of_a_vip).map(str::to_owned));
            }
        }
        left.extend(companions(namespace)?);
        left.extend(namespace.link_names()?.into_iter().filter(|name| name.starts_with(OWN_LINK)));
        let tables = namespace.output("nft", &["list", "tables"])?;
        // As in `table inet turnip`, or `turnip_probe`.
        let name = |table: &str| table.split_whitespace().nth(2).map(str::to_owned);
        let own = |table: &&str| name(table).is_some_and(|name| name.starts_with("turnip"));
        left.extend(tables.lines().filter(own).map(str::to_owned));
        left.extend(self.recorded(host)?);
        Ok(left)
    }

    /// The files in the host's runtime directory, which are records of addresses, that name one.
    fn recorded(&self, host: usize) -> Result<Vec<String>> {
        let mut recorded = Vec::new();
        for entry in std::fs::read_dir(runtime_directory(&self.hosts[host].directory))? {
            let entry = entry?;
            // Of a daemon that was killed: the next one takes its place.
            if entry.file_type()?.is_socket() {
                continue;
            }
            let file = entry.path();
            // What is owed for hooks.
            if entry.file_type()?.is_dir() {
                recorded.push(file.display().to_string());
                continue;
            }
            let text =
                std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            if text.trim() != "[]" {
                recorded.push(format!("{}: {text}", file.display()));
            }
        }
        Ok(recorded)
    }

    /// Waits until all addresses of each VIP are on one host, and none of them elsewhere.
    ///
    /// # Errors
    /// When that is not so within 30 s; with what the daemons said.
    pub(crate) fn wait_until_each_is_on_one_host(&self) -> Result<()> {
        self.wait("every VIP is on one host, and nothing of it elsewhere", || {
            self.each_vip_is_on_one_host()
        })
    }

    /// By the kernels' own tables, and for all addresses of each VIP.
    fn each_vip_is_on_one_host(&self) -> Result<bool> {
        let present: Vec<_> = self
            .hosts_with_power()
            .map(|host| self.hosts[host].namespace().addresses().context("the kernel's table"))
            .collect::<Result<_>>()?;
        Ok(self.plan.vips.iter().all(|vip| {
            let here = |table: &Vec<_>| {
                vip.addresses.iter().filter(|net| table.contains(&net.addr())).count()
            };
            let mut counts = present.iter().map(here).filter(|&count| count > 0);
            counts.next() == Some(vip.addresses.len()) && counts.next().is_none()
        }))
    }

    fn hosts_with_power(&self) -> impl Iterator<Item = usize> {
        (0..self.size()).filter(|&host| self.hosts[host].has_power())
    }
}

/// Whether a line of `ip` is about an address, or about the anycast address of its network, which
/// a host that routes has because of it.
fn is_about(line: &str, net: &IpNet) -> bool {
    let (address, anycast) = (net.addr().to_string(), net.network().to_string());
    let words: Vec<&str> = line.split_whitespace().collect();
    words.contains(&&*address) || words.starts_with(&["anycast", &anycast])
}

/// What the names of turnip's own links begin with.
pub const OWN_LINK: &str = "tn";

/// The routes and rules of a host that carry turnip's number.
///
/// # Errors
/// When the kernel does not list them.
pub fn companions(namespace: &Namespace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let routes = ["route", "show", "table", "all", "proto", "116"];
        let routes = namespace.output("ip", &[&[family][..], &routes].concat())?;
        found.extend(routes.lines().map(|line| line.trim().to_owned()));
        let rules = namespace.output("ip", &[family, "rule", "show"])?;
        let own = rules.lines().filter(|line| line.contains("proto 116"));
        found.extend(own.map(|line| line.trim().replace('\t', " ")));
    }
    Ok(found)
}
