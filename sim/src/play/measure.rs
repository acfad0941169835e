//! Gaps, overlaps, moves and owners, made of who answered when. Pure, and the same for both worlds.

use std::time::Duration;

use super::{Held, VipRun};

/// A time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Interval {
    /// From.
    pub from: Duration,
    /// To.
    pub to: Duration,
}

impl Interval {
    /// How long it is.
    pub fn length(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// Who answered for one address of a VIP when.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Observed {
    /// To somebody beside each host: whom a fault cuts off from the client answers there all the same.
    pub held: Vec<Held>,
    /// To the client.
    pub reached: Vec<Held>,
}

impl VipRun {
    /// What came of a VIP with these addresses in a run of this length. What is before 0 and after the end is
    /// left aside. A gap of one address is a gap of the VIP, and so is an overlap; it moves as often as the
    /// address that moves most.
    pub fn of(vip: &str, addresses: &[Observed], lasts: Duration) -> Self {
        let of_all = |wanted: fn(usize) -> bool, spans: fn(&Observed) -> &[Held]| {
            let all =
                addresses.iter().flat_map(|one| within(&joined(spans(one), lasts), wanted, lasts));
            union(all.collect())
        };
        let held: Vec<Vec<Held>> = addresses.iter().map(|one| joined(&one.held, lasts)).collect();
        let mut owners: Vec<String> = held
            .iter()
            .flatten()
            .filter(|one| one.to == lasts)
            .map(|one| one.host.clone())
            .collect();
        owners.sort();
        owners.dedup();
        VipRun {
            vip: vip.to_owned(),
            gaps: of_all(|hosts| hosts == 0, |one| &one.reached),
            overlaps: of_all(|hosts| hosts > 1, |one| &one.held),
            moves: held.iter().map(|held| moves(held)).max().unwrap_or_default(),
            spans: held.into_iter().next().unwrap_or_default(),
            owners,
        }
    }
}

/// In the order in which they begin, within the run, and one where a host went on answering.
fn joined(spans: &[Held], lasts: Duration) -> Vec<Held> {
    let mut spans: Vec<Held> = spans
        .iter()
        .filter(|one| one.from < lasts && one.to > Duration::ZERO)
        .map(|one| Held { to: one.to.min(lasts), ..one.clone() })
        .collect();
    spans.sort();
    let mut all: Vec<Held> = Vec::new();
    for span in spans {
        match all.last_mut() {
            Some(last) if last.host == span.host && last.to >= span.from => {
                last.to = last.to.max(span.to);
            }
            _ => all.push(span),
        }
    }
    all.sort_by_key(|one| (one.from, one.to));
    all
}

/// When so many hosts answered.
fn within(spans: &[Held], wanted: fn(usize) -> bool, lasts: Duration) -> Vec<Interval> {
    let mut changes: Vec<(Duration, bool)> = Vec::new();
    for one in spans {
        changes.extend([(one.from, true), (one.to, false)]);
    }
    // Who ends at the instant at which another one begins does not overlap with it.
    changes.sort();
    changes.push((lasts, false));
    let (mut hosts, mut since) = (0_usize, Duration::ZERO);
    let mut all = Vec::new();
    for (at, begins) in changes {
        if wanted(hosts) && at > since {
            all.push(Interval { from: since, to: at });
        }
        hosts = if begins { hosts + 1 } else { hosts.saturating_sub(1) };
        since = at;
    }
    union(all)
}

/// Those that touch are one.
fn union(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort();
    let mut all: Vec<Interval> = Vec::new();
    for one in intervals {
        match all.last_mut() {
            Some(last) if last.to >= one.from => last.to = last.to.max(one.to),
            _ => all.push(one),
        }
    }
    all
}

/// How often it came to another host than the one that had it last.
fn moves(held: &[Held]) -> u64 {
    held.windows(2).filter(|pair| pair[0].host != pair[1].host).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(host: &str, from: u64, to: u64) -> Held {
        let [from, to] = [from, to].map(Duration::from_millis);
        Held { host: host.into(), from, to }
    }

    fn interval(from: u64, to: u64) -> Interval {
        let [from, to] = [from, to].map(Duration::from_millis);
        Interval { from, to }
    }

    fn run(held: &[Held]) -> VipRun {
        let observed = Observed { held: held.to_vec(), reached: held.to_vec() };
        VipRun::of("v1", &[observed], Duration::from_millis(100))
    }

    #[test]
    fn what_nobody_answers_is_a_gap_and_what_two_answer_an_overlap() {
        let run = run(&[held("h1", 0, 30), held("h2", 40, 70), held("h3", 60, 90)]);
        assert_eq!(run.gaps, [interval(30, 40), interval(90, 100)]);
        assert_eq!(run.overlaps, [interval(60, 70)]);
        assert_eq!((run.moves, run.owners.len()), (2, 0));
    }

    #[test]
    fn who_takes_over_at_the_instant_at_which_another_ends_leaves_neither() {
        let run = run(&[held("h2", 50, 100), held("h1", 0, 50)]);
        assert_eq!((run.gaps.len(), run.overlaps.len(), run.moves), (0, 0, 1));
        assert_eq!(run.owners, ["h2"]);
    }

    #[test]
    fn a_span_in_two_parts_is_one_and_what_is_outside_of_the_run_does_not_count() {
        let run = run(&[held("h1", 0, 20), held("h1", 20, 500)]);
        assert_eq!(run.spans, [held("h1", 0, 100)]);
        assert_eq!((run.gaps.len(), run.moves), (0, 0));
    }

    #[test]
    fn an_overlap_of_three_hosts_is_one() {
        let run =
            run(&[held("h1", 0, 50), held("h2", 10, 40), held("h3", 20, 60), held("h1", 60, 100)]);
        assert_eq!(run.overlaps, [interval(10, 50)]);
    }

    #[test]
    fn a_gap_is_what_the_client_sees_and_an_overlap_what_the_hosts_do() {
        let observed = Observed {
            held: vec![held("h1", 0, 100), held("h2", 50, 100)],
            reached: vec![held("h1", 0, 30), held("h2", 50, 100)],
        };
        let run = VipRun::of("v1", &[observed], Duration::from_millis(100));
        assert_eq!(run.gaps, [interval(30, 50)]);
        assert_eq!(run.overlaps, [interval(50, 100)]);
        assert_eq!(run.owners, ["h1", "h2"]);
    }
}
