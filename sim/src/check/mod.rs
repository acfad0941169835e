//! The checker: who answered for which VIP when, in true time.

use crate::time::True;

/// Hosts, as bits.
pub type Hosts = u32;

/// A time in which a VIP was not answered for by exactly one host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Which VIP.
    pub vip: usize,
    /// Who answered; two or more for an overlap, nobody for a gap.
    pub hosts: Hosts,
    /// From, in ns.
    pub from: True,
    /// To, in ns.
    pub to: True,
}

impl Span {
    /// Its length in ns.
    pub fn length(&self) -> u64 {
        self.to - self.from
    }
}

/// A host answered for a VIP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Which VIP.
    pub vip: usize,
    /// Which host.
    pub host: usize,
    /// From, in ns.
    pub from: True,
    /// To, in ns; the present while it lasts.
    pub to: True,
}

#[derive(Clone, Default)]
struct Vip {
    /// Who answers on one of its addresses at least.
    some: Hosts,
    /// Who answers on all of them.
    all: Hosts,
    since: True,
    /// Since when each host has answered.
    from: Vec<True>,
}

/// Watches who answers.
pub struct Checker {
    vips: Vec<Vip>,
    /// Times with two hosts or more.
    pub overlaps: Vec<Span>,
    /// Times with none that answered on all of a VIP's addresses, while gaps were watched.
    pub gaps: Vec<Span>,
    /// Who answered when.
    pub held: Vec<Held>,
    /// When each VIP last came to another host, or to none.
    pub last_change: Vec<True>,
    /// How often each VIP came to another host.
    pub moves: Vec<u64>,
    last_holder: Vec<Option<usize>>,
    watching_gaps: bool,
}

impl Checker {
    /// Nobody answers for so many VIPs.
    pub fn new(vips: usize, hosts: usize) -> Self {
        let vip = Vip { from: vec![0; hosts], ..Vip::default() };
        Checker {
            vips: vec![vip; vips],
            overlaps: Vec::new(),
            gaps: Vec::new(),
            held: Vec::new(),
            last_change: vec![0; vips],
            moves: vec![0; vips],
            last_holder: vec![None; vips],
            watching_gaps: true,
        }
    }

    /// What a host answers now: on some of the VIP's addresses, on all of them.
    pub fn observe(&mut self, now: True, vip: usize, host: usize, some: bool, all: bool) {
        let state = &mut self.vips[vip];
        let bit = 1 << host;
        let set = |hosts: Hosts, on: bool| if on { hosts | bit } else { hosts & !bit };
        let (some, all) = (set(state.some, some), set(state.all, all));
        if (some, all) == (state.some, state.all) {
            return;
        }
        self.close(vip, now);
        let state = &mut self.vips[vip];
        if some & !state.some != 0 {
            state.from[host] = now;
            if self.last_holder[vip] != Some(host) {
                self.last_holder[vip] = Some(host);
                self.moves[vip] += 1;
            }
        } else if state.some & !some != 0 {
            self.held.push(Held { vip, host, from: state.from[host], to: now });
        }
        (state.some, state.all, state.since) = (some, all, now);
        self.last_change[vip] = now;
    }

    /// Ends what lasts until now, and counts it.
    fn close(&mut self, vip: usize, now: True) {
        let state = &self.vips[vip];
        let span = Span { vip, hosts: state.some, from: state.since, to: now };
        if span.length() == 0 {
            return;
        }
        if state.some.count_ones() > 1 {
            self.overlaps.push(span);
        }
        if state.all == 0 && self.watching_gaps {
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
        for vip in 0..self.vips.len() {
            self.close(vip, now);
            let state = &mut self.vips[vip];
            state.since = now;
            for host in 0..state.from.len() {
                if state.some & (1 << host) != 0 {
                    self.held.push(Held { vip, host, from: state.from[host], to: now });
                    state.from[host] = now;
                }
            }
        }
    }

    /// Who answers for a VIP now.
    pub fn holders(&self, vip: usize) -> Hosts {
        self.vips[vip].some
    }

    /// Who answers on all addresses of a VIP now.
    pub fn whole_holders(&self, vip: usize) -> Hosts {
        self.vips[vip].all
    }

    /// The longest time that a VIP was answered for by two hosts or more, in ns.
    pub fn overlap_max(&self) -> u64 {
        // Neighbouring spans are one overlap, with different hosts in it.
        let mut longest = 0;
        let mut spans = self.overlaps.clone();
        spans.sort_by_key(|span| (span.vip, span.from));
        let mut run: Option<Span> = None;
        for span in spans {
            run = match run {
                Some(before) if before.vip == span.vip && before.to == span.from => {
                    Some(Span { to: span.to, ..before })
                }
                _ => Some(span),
            };
            longest = longest.max(run.map_or(0, |run| run.length()));
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hosts_that_answer_at_once_overlap_for_as_long_as_both_do() {
        let mut checker = Checker::new(1, 3);
        checker.observe(10, 0, 0, true, true);
        checker.observe(20, 0, 1, true, true);
        checker.observe(25, 0, 2, true, true);
        checker.observe(30, 0, 0, false, false);
        checker.observe(31, 0, 2, false, false);
        checker.finish(40);
        assert_eq!(checker.overlap_max(), 11);
        assert_eq!(checker.gaps, [Span { vip: 0, hosts: 0, from: 0, to: 10 }]);
    }

    #[test]
    fn a_vip_that_answers_on_one_of_its_addresses_only_is_a_gap_and_may_overlap() {
        let mut checker = Checker::new(1, 2);
        checker.observe(0, 0, 0, true, false);
        checker.observe(5, 0, 1, true, true);
        checker.finish(7);
        assert_eq!(checker.gaps.len(), 1);
        assert_eq!(checker.overlap_max(), 2);
    }
}
