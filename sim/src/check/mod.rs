//! The checker: who answered for which address when, in true time.
//!
//! It goes by addresses, not by VIPs: two hosts that call an address by different names overlap as
//! any others do.

pub mod history;
pub mod hooks;

use crate::plan::AddressId;
use crate::time::True;

/// Hosts, as bits.
pub type Hosts = u32;

/// A time in which an address was not answered for by exactly one host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Which address.
    pub address: AddressId,
    /// Who answered; two or more for an overlap, nobody for a gap.
    pub hosts: Hosts,
    /// From, in ns.
    pub from: True,
    /// To, in ns. An overlap may have no length: one host began at the instant at which the other
    /// ended, and before it.
    pub to: True,
}

impl Span {
    /// Its length in ns.
    pub fn length(&self) -> u64 {
        self.to - self.from
    }
}

/// A host answered for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Which address.
    pub address: AddressId,
    /// Which host.
    pub host: usize,
    /// From, in ns.
    pub from: True,
    /// To, in ns; the present while it lasts.
    pub to: True,
}

/// An address came to another host than the one that had it last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// Which address.
    pub address: AddressId,
    /// To which host.
    pub to: usize,
    /// When, in ns.
    pub at: True,
}

#[derive(Clone, Default)]
struct Address {
    /// Who answers for it.
    answering: Hosts,
    since: True,
    /// Since when each host has answered.
    from: Vec<True>,
    /// In which cluster each host was when it began to.
    clusters: Vec<usize>,
    last_holder: Option<usize>,
    last_change: True,
}

/// Watches who answers.
pub struct Checker {
    addresses: Vec<Address>,
    /// Each host's cluster: between two clusters an address is not turnip's to keep apart.
    clusters: Vec<usize>,
    /// Times with two hosts or more of one cluster.
    pub overlaps: Vec<Span>,
    /// Times with hosts of different clusters.
    pub foreign_overlaps: Vec<Span>,
    /// Times in which nobody answered, while gaps were watched.
    pub gaps: Vec<Span>,
    /// Who answered when.
    pub held: Vec<Held>,
    /// Addresses that came to another host. The first time is none.
    pub moves: Vec<Move>,
    watching_gaps: bool,
}

impl Checker {
    /// For addresses with numbers below `addresses`; nobody answers yet, and all hosts are of one
    /// cluster.
    pub fn new(addresses: usize, hosts: usize) -> Self {
        let address =
            Address { from: vec![0; hosts], clusters: vec![0; hosts], ..Address::default() };
        Checker {
            addresses: vec![address; addresses],
            clusters: vec![0; hosts],
            overlaps: Vec::new(),
            foreign_overlaps: Vec::new(),
            gaps: Vec::new(),
            held: Vec::new(),
            moves: Vec::new(),
            watching_gaps: true,
        }
    }

    /// A host belongs to a cluster from now on.
    pub fn joins(&mut self, host: usize, cluster: usize) {
        self.clusters[host] = cluster;
    }

    /// A host's daemon goes on with what is there: an earlier one may have put it there in another cluster,
    /// for as long as its lease lasted.
    pub fn goes_on(&mut self, host: usize) {
        for state in &mut self.addresses {
            state.clusters[host] = self.clusters[host];
        }
    }

    /// Whether a host answers for an address now.
    pub fn observe(&mut self, now: True, address: AddressId, host: usize, answers: bool) {
        let bit = 1 << host;
        let before = self.addresses[address].answering;
        let after = if answers { before | bit } else { before & !bit };
        if after == before {
            return;
        }
        self.close(address, now);
        let state = &mut self.addresses[address];
        if answers {
            state.from[host] = now;
            state.clusters[host] = self.clusters[host];
            let last = state.last_holder.replace(host);
            if last.is_some_and(|last| last != host) {
                self.moves.push(Move { address, to: host, at: now });
            }
        } else {
            self.held.push(Held { address, host, from: state.from[host], to: now });
        }
        (state.answering, state.since, state.last_change) = (after, now, now);
    }

    /// Ends what lasts until now, and counts it.
    fn close(&mut self, address: AddressId, now: True) {
        let state = &self.addresses[address];
        let span = Span { address, hosts: state.answering, from: state.since, to: now };
        if span.hosts.count_ones() > 1 {
            if share_a_cluster(&state.clusters, span.hosts) {
                self.overlaps.push(span);
            } else {
                self.foreign_overlaps.push(span);
            }
        }
        if span.hosts == 0 && span.length() > 0 && self.watching_gaps {
            self.gaps.push(span);
        }
    }

    /// From now on nobody is expected to answer.
    pub fn stop_watching_gaps(&mut self, now: True) {
        self.finish(now);
        self.watching_gaps = false;
    }

    /// Accounts for everything up to now.
    pub fn finish(&mut self, now: True) {
        for address in 0..self.addresses.len() {
            self.close(address, now);
            let state = &mut self.addresses[address];
            state.since = now;
            for host in 0..state.from.len() {
                if state.answering & (1 << host) != 0 {
                    self.held.push(Held { address, host, from: state.from[host], to: now });
                    state.from[host] = now;
                }
            }
        }
    }

    /// Who answers for an address now.
    pub fn holders(&self, address: AddressId) -> Hosts {
        self.addresses[address].answering
    }

    /// When that last changed.
    pub fn last_change(&self, address: AddressId) -> True {
        self.addresses[address].last_change
    }

    /// The most often that an address came to another host.
    pub fn moves_max(&self) -> u64 {
        let mut moves = vec![0; self.addresses.len()];
        self.moves.iter().for_each(|one| moves[one.address] += 1);
        moves.into_iter().max().unwrap_or_default()
    }

    /// The longest time that an address was answered for by two hosts of one cluster or more, in ns.
    pub fn overlap_max(&self) -> u64 {
        longest(&self.overlaps)
    }

    /// The same for hosts of different clusters.
    pub fn foreign_overlap_max(&self) -> u64 {
        longest(&self.foreign_overlaps)
    }
}

fn share_a_cluster(clusters: &[usize], hosts: Hosts) -> bool {
    let answering = |host: &usize| hosts >> host & 1 == 1;
    let mut clusters: Vec<usize> =
        (0..clusters.len()).filter(answering).map(|host| clusters[host]).collect();
    clusters.sort_unstable();
    clusters.windows(2).any(|pair| pair[0] == pair[1])
}

/// The longest of the times that the spans make up: neighbouring ones are one overlap, with different
/// hosts in it.
fn longest(spans: &[Span]) -> u64 {
    let mut spans = spans.to_vec();
    spans.sort_by_key(|span| (span.address, span.from));
    let mut longest = 0;
    let mut run: Option<Span> = None;
    for span in spans {
        run = match run {
            Some(before) if before.address == span.address && before.to == span.from => {
                Some(Span { to: span.to, ..before })
            }
            _ => Some(span),
        };
        longest = longest.max(run.map_or(0, |run| run.length()));
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hosts_that_answer_at_once_overlap_for_as_long_as_both_do() {
        let mut checker = Checker::new(1, 3);
        checker.observe(10, 0, 0, true);
        checker.observe(20, 0, 1, true);
        checker.observe(25, 0, 2, true);
        checker.observe(30, 0, 0, false);
        checker.observe(31, 0, 2, false);
        checker.finish(40);
        assert_eq!(checker.overlap_max(), 11);
        assert_eq!(checker.gaps, [Span { address: 0, hosts: 0, from: 0, to: 10 }]);
    }

    #[test]
    fn a_host_that_answers_before_the_other_is_silent_overlaps_within_an_instant_too() {
        let mut checker = Checker::new(1, 2);
        checker.observe(0, 0, 0, true);
        checker.observe(5, 0, 0, false);
        checker.observe(5, 0, 1, true);
        assert_eq!(checker.overlaps, [], "in this order nothing is wrong");
        checker.observe(7, 0, 0, true);
        checker.observe(7, 0, 1, false);
        assert_eq!(checker.overlaps, [Span { address: 0, hosts: 3, from: 7, to: 7 }]);
    }

    #[test]
    fn hosts_of_different_clusters_overlap_apart_from_the_others() {
        let mut checker = Checker::new(1, 3);
        checker.joins(2, 1);
        checker.observe(0, 0, 0, true);
        checker.observe(1, 0, 2, true);
        checker.observe(3, 0, 1, true);
        checker.observe(4, 0, 2, false);
        checker.finish(9);
        assert_eq!(checker.foreign_overlap_max(), 2);
        assert_eq!(checker.overlap_max(), 6);
    }
}
