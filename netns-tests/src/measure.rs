//! Overlap and gap, from what the observers saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::eye::AddressEvent;
use crate::probe::{PATIENCE, Shot};

/// A stretch of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Its beginning.
    pub from: Instant,
    /// Its end.
    pub to: Instant,
}

impl Span {
    /// How long it is.
    pub fn length(self) -> Duration {
        self.to.saturating_duration_since(self.from)
    }

    fn within(self, other: Span) -> Option<Span> {
        let common = Span { from: self.from.max(other.from), to: self.to.min(other.to) };
        (common.from <= common.to).then_some(common)
    }
}

/// How long two hosts or more had an address at once, in `span`. Never zero when they did, however
/// briefly: the events are in the kernel's order.
pub fn overlap(events: &[AddressEvent], span: Span) -> Duration {
    let mut total = Duration::ZERO;
    let mut holders: BTreeMap<&str, ()> = BTreeMap::new();
    let mut since = None;
    let mut add = |since: Option<Instant>, to: Instant| {
        if let Some(common) = since.and_then(|from| Span { from, to }.within(span)) {
            total += common.length().max(Duration::from_nanos(1));
        }
    };
    for event in events {
        if event.present {
            holders.insert(&event.host, ());
        } else {
            holders.remove(&*event.host);
        }
        match (since, holders.len() > 1) {
            (None, true) => since = Some(event.at),
            (Some(_), false) => {
                add(since.take(), event.at);
            }
            _ => {}
        }
    }
    add(since, span.to);
    total
}

/// The hosts that have an address after these events.
pub fn holders(events: &[AddressEvent]) -> BTreeSet<&str> {
    let mut holders = BTreeSet::new();
    for event in events {
        if event.present {
            holders.insert(&*event.host);
        } else {
            holders.remove(&*event.host);
        }
    }
    holders
}

/// How long nobody had an address, in `span`, at the longest.
pub fn longest_absence(events: &[AddressEvent], span: Span) -> Duration {
    let mut longest = Duration::ZERO;
    let mut holders: BTreeMap<&str, ()> = BTreeMap::new();
    let mut since = Some(span.from);
    for event in events {
        if event.present {
            holders.insert(&event.host, ());
        } else {
            holders.remove(&*event.host);
        }
        match (since, holders.is_empty()) {
            (None, true) => since = Some(event.at),
            (Some(from), false) => {
                since = None;
                let common = Span { from, to: event.at }.within(span);
                longest = longest.max(common.map_or(Duration::ZERO, Span::length));
            }
            _ => {}
        }
    }
    let open = since.and_then(|from| Span { from, to: span.to }.within(span));
    longest.max(open.map_or(Duration::ZERO, Span::length))
}

/// When each host had an address; `end` for those that have it still.
pub fn tenures(events: &[AddressEvent], end: Instant) -> Vec<(Arc<str>, Span)> {
    let mut open: BTreeMap<Arc<str>, Instant> = BTreeMap::new();
    let mut tenures = Vec::new();
    for event in events {
        if event.present {
            open.entry(Arc::clone(&event.host)).or_insert(event.at);
        } else if let Some(from) = open.remove(&event.host) {
            tenures.push((Arc::clone(&event.host), Span { from, to: event.at }));
        }
    }
    tenures.extend(open.into_iter().map(|(host, from)| (host, Span { from, to: end })));
    tenures.sort_by_key(|(_, span)| span.from);
    tenures
}

/// The longest time in which a client got no answer ([`silences`]). Empty when it always did.
pub fn gap(shots: &[Shot], span: Span) -> Span {
    let none = Span { from: span.from, to: span.from };
    silences(shots, span).into_iter().max_by_key(|silence| silence.length()).unwrap_or(none)
}

/// The times in which a client got no answer: from the answer before an unanswered probe to the
/// next one after it, in order.
pub fn silences(shots: &[Shot], span: Span) -> Vec<Span> {
    let mut answers: Vec<Instant> = shots
        .iter()
        .filter(|shot| shot.answered())
        .filter_map(|shot| shot.answer.as_ref().map(|(at, _)| *at))
        .filter(|&at| span.from <= at && at <= span.to)
        .collect();
    answers.sort_unstable();
    let mut silences: Vec<Span> = Vec::new();
    for shot in unanswered(shots, span) {
        let next = answers.partition_point(|&at| at < shot.sent);
        let from = if next == 0 { span.from } else { answers[next - 1] };
        let silence = Span { from, to: answers.get(next).copied().unwrap_or(span.to) };
        if silences.last() != Some(&silence) {
            silences.push(silence);
        }
    }
    silences
}

/// The probes in `span` that were not answered in time; those too late in it to say are left out.
pub fn unanswered(shots: &[Shot], span: Span) -> impl Iterator<Item = &Shot> {
    shots.iter().filter(move |shot| {
        span.from <= shot.sent && shot.sent + PATIENCE <= span.to && !shot.answered()
    })
}

/// When a host answered, if asked itself: stretches without an unanswered probe.
pub fn answering(shots: &[Shot]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut goes_on = false;
    for shot in shots {
        match (shot.answered(), goes_on) {
            (true, true) => spans.last_mut().expect("one goes on").to = shot.sent,
            (true, false) => spans.push(Span { from: shot.sent, to: shot.sent }),
            (false, _) => {}
        }
        goes_on = shot.answered();
    }
    spans
}

/// How long two hosts or more answered at once, in `span`, each asked itself.
pub fn answers_overlap(hosts: &[Vec<Shot>], span: Span) -> Duration {
    // +1 where a host begins to answer, -1 where it ends; beginnings first, so that touching counts.
    let mut edges: Vec<(Instant, bool)> = Vec::new();
    for answers in hosts.iter().flat_map(|shots| answering(shots)).filter_map(|s| s.within(span)) {
        edges.extend([(answers.from, true), (answers.to, false)]);
    }
    edges.sort_by_key(|&(at, begins)| (at, !begins));
    let (mut total, mut count, mut since) = (Duration::ZERO, 0, None);
    for (at, begins) in edges {
        count = if begins { count + 1 } else { count - 1 };
        match (since, count > 1) {
            (None, true) => since = Some(at),
            (Some(from), false) => {
                total += at.duration_since(from).max(Duration::from_nanos(1));
                since = None;
            }
            _ => {}
        }
    }
    total
}

/// The answering hosts in turn: who answered from when on.
pub fn who_answered(shots: &[Shot]) -> Vec<(Instant, Arc<str>)> {
    let mut turns: Vec<(Instant, Arc<str>)> = Vec::new();
    let answered = shots.iter().filter(|shot| shot.answered());
    for (at, host) in answered.filter_map(|shot| shot.answer.as_ref()) {
        if turns.last().is_none_or(|(_, last)| last != host) {
            turns.push((*at, Arc::clone(host)));
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at(ms: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_millis(ms)
    }

    fn span(from: u64, to: u64) -> Span {
        Span { from: at(from), to: at(to) }
    }

    fn events(events: &[(u64, &str, bool)]) -> Vec<AddressEvent> {
        let event = |&(ms, host, present): &(u64, &str, bool)| AddressEvent {
            at: at(ms),
            host: host.into(),
            address: IP,
            present,
        };
        events.iter().map(event).collect()
    }

    /// A probe every 5 ms, answered after 1 ms except in `silent`.
    fn shots(to: u64, silent: std::ops::Range<u64>) -> Vec<Shot> {
        let shot = |ms| Shot {
            sent: at(ms),
            answer: (!silent.contains(&ms)).then(|| (at(ms + 1), "a".into())),
        };
        (0..to).step_by(5).map(shot).collect()
    }

    #[test]
    fn two_holders_overlap_from_the_second_ones_coming_to_the_first_ones_going() {
        let events = events(&[(0, "a", true), (10, "b", true), (13, "a", false)]);
        assert_eq!(overlap(&events, span(0, 20)), Duration::from_millis(3));
        assert_eq!(overlap(&events, span(0, 12)), Duration::from_millis(2));
        assert_eq!(overlap(&events, span(14, 20)), Duration::ZERO);
    }

    #[test]
    fn an_overlap_too_brief_for_the_clock_is_still_one() {
        let events = events(&[(0, "a", true), (10, "b", true), (10, "a", false)]);
        assert!(!overlap(&events, span(0, 20)).is_zero());
    }

    #[test]
    fn a_refreshed_address_is_no_second_holder() {
        let events = events(&[(0, "a", true), (5, "a", true), (10, "a", false), (10, "b", true)]);
        assert!(overlap(&events, span(0, 20)).is_zero());
    }

    #[test]
    fn an_overlap_that_lasts_counts_to_the_end() {
        let events = events(&[(0, "a", true), (10, "b", true)]);
        assert_eq!(overlap(&events, span(0, 20)), Duration::from_millis(10));
    }

    #[test]
    fn an_absence_lasts_from_going_to_coming() {
        let events = events(&[(0, "a", true), (10, "a", false), (17, "b", true)]);
        assert_eq!(longest_absence(&events, span(0, 20)), Duration::from_millis(7));
    }

    #[test]
    fn a_gap_lasts_from_the_last_answer_before_to_the_first_after() {
        assert_eq!(gap(&shots(1000, 500..520), span(0, 1000)).length(), Duration::from_millis(25));
        assert_eq!(gap(&shots(1000, 0..0), span(0, 1000)).length(), Duration::ZERO);
    }

    #[test]
    fn a_gap_that_does_not_end_counts_to_the_end() {
        let gap = gap(&shots(1000, 500..1000), span(0, 1000));
        assert_eq!(gap.length(), Duration::from_millis(1000 - 496));
    }

    #[test]
    fn answers_overlap_while_both_hosts_answer() {
        let (a, b) = (shots(1000, 500..1000), shots(1000, 0..450));
        let whole = span(0, 1000);
        assert_eq!(answers_overlap(&[a.clone(), b], whole), Duration::from_millis(45));
        assert_eq!(answers_overlap(&[a, shots(1000, 0..500)], whole), Duration::ZERO);
    }
}
