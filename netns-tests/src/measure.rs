//! Overlap and gap, from what the observers saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address_event::{AddressEvent, update};
use crate::probe::{PATIENCE, PERIOD, Probe};

/// The longest time between two answers, or two probes, that is nothing out of the ordinary.
pub const QUIET_MAX: Duration = PERIOD.saturating_mul(2);

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

    /// What both have in common, if anything.
    pub fn within(self, other: Span) -> Option<Span> {
        let common = Span { from: self.from.max(other.from), to: self.to.min(other.to) };
        (common.from <= common.to).then_some(common)
    }
}

/// How long two hosts or more had an address at once, in `span`. Never zero when they did, however
/// briefly: the events are in the kernel's order.
pub fn overlap<'a>(events: impl IntoIterator<Item = &'a AddressEvent>, span: Span) -> Duration {
    let shared = times(events, span, |holders| holders > 1);
    shared.iter().map(|time| time.length().max(Duration::from_nanos(1))).sum()
}

/// When two hosts or more had an address at once, in `span`.
pub fn shared(events: &[AddressEvent], span: Span) -> Vec<Span> {
    times(events, span, |holders| holders > 1)
}

/// How long nobody had an address, in `span`, at the longest.
pub fn longest_absence(events: &[AddressEvent], span: Span) -> Duration {
    let absent = times(events, span, |holders| holders == 0);
    absent.into_iter().map(Span::length).max().unwrap_or_default()
}

/// What happened to a VIP, given what happened to each of its addresses: they move as one, so a
/// host has it from the coming of the first of them to the going of the last.
pub fn any_of(addresses: impl IntoIterator<Item = Vec<AddressEvent>>) -> Vec<AddressEvent> {
    let mut events: Vec<AddressEvent> = addresses.into_iter().flatten().collect();
    // Stable: what was read at one moment is of one datagram, and so of one host.
    events.sort_by_key(|event| event.at);
    let mut had = BTreeSet::new();
    events.retain(|event| {
        let has_any = |had: &BTreeSet<_>| had.iter().any(|(host, _)| *host == event.host);
        let before = has_any(&had);
        let of = (Arc::clone(&event.host), event.address);
        let _ = if event.present { had.insert(of) } else { had.remove(&of) };
        before != has_any(&had)
    });
    events
}

/// The times in `span` in which the number of hosts that had an address was `such`.
fn times<'a>(
    events: impl IntoIterator<Item = &'a AddressEvent>,
    span: Span,
    such: impl Fn(usize) -> bool,
) -> Vec<Span> {
    let mut times = Vec::new();
    let mut holders = BTreeSet::new();
    let mut since = such(0).then_some(span.from);
    for event in events {
        update(&mut holders, event);
        match (since, such(holders.len())) {
            (None, true) => since = Some(event.at),
            (Some(from), false) => {
                times.extend(Span { from, to: event.at }.within(span));
                since = None;
            }
            _ => {}
        }
    }
    times.extend(since.and_then(|from| Span { from, to: span.to }.within(span)));
    times
}

/// When each host had an address; `end` for those that have it still.
pub fn holding_times(events: &[AddressEvent], end: Instant) -> Vec<(Arc<str>, Span)> {
    let mut open: BTreeMap<Arc<str>, Instant> = BTreeMap::new();
    let mut holding_times = Vec::new();
    for event in events {
        if event.present {
            open.entry(Arc::clone(&event.host)).or_insert(event.at);
        } else if let Some(from) = open.remove(&event.host) {
            holding_times.push((Arc::clone(&event.host), Span { from, to: event.at }));
        }
    }
    holding_times.extend(open.into_iter().map(|(host, from)| (host, Span { from, to: end })));
    holding_times.sort_by_key(|(_, span)| span.from);
    holding_times
}

/// The longest time in which a client got no answer ([`silences`]). Empty when it always did.
pub fn gap(probes: &[Probe], span: Span) -> Span {
    let none = Span { from: span.from, to: span.from };
    silences(probes, span).into_iter().max_by_key(|silence| silence.length()).unwrap_or(none)
}

/// The times in which a client got no answer, in order: each from the arrival of an answer to the
/// arrival of the next one, cut to `span`.
///
/// A time between two answers is a silence when a probe that was sent in it was not answered within
/// [`PATIENCE`], later answers being none; or when it is longer than [`QUIET_MAX`] and one was not
/// answered within a [`PERIOD`]. Where no answer came before `span`, or none after it, the
/// beginning or the end of `span` stands for it.
///
/// So any time without service of more than [`QUIET_MAX`] is seen, and is reported as its own
/// length and up to one [`PERIOD`] and the way of one answer more. Except while the client itself
/// was kept from asking, which is no silence of those whom it asks: [`blind`] says how long that was.
pub fn silences(probes: &[Probe], span: Span) -> Vec<Span> {
    let in_time = probes.iter().filter(|probe| probe.answered());
    let mut ends: Vec<Instant> =
        in_time.filter_map(|probe| Some(probe.answer.as_ref()?.0)).collect();
    let is_late = |probe: &&Probe| {
        probe.answer.as_ref().is_none_or(|(at, _)| at.duration_since(probe.sent) > PERIOD)
    };
    let late: Vec<Instant> = probes.iter().filter(is_late).map(|probe| probe.sent).collect();
    let lost: Vec<Instant> = unanswered(probes, span).map(|probe| probe.sent).collect();
    let answered_before = ends.iter().any(|&at| at <= span.from);
    let answered_after = ends.iter().any(|&at| at >= span.to);
    ends.extend((!answered_before).then_some(span.from));
    ends.extend((!answered_after).then_some(span.to));
    ends.sort_unstable();
    let is_silence = |between: Span| {
        let one_of = |sent: &[Instant]| {
            let after = sent.partition_point(|&sent| sent < between.from);
            sent.get(after).is_some_and(|&sent| sent < between.to)
        };
        let at_an_edge = (!answered_before && between.from == span.from)
            || (!answered_after && between.to == span.to);
        one_of(&lost) || (between.length() > QUIET_MAX && (at_an_edge || one_of(&late)))
    };
    ends.windows(2)
        .map(|pair| Span { from: pair[0], to: pair[1] })
        .filter(|&between| is_silence(between))
        .filter_map(|silence| silence.within(span))
        .collect()
}

/// The longest time in `span` in which no probe was sent though one was due, if longer than
/// [`QUIET_MAX`]; `asks` says that the last prober of these is still to ask. What comes between the
/// probes of two probers does not count, nor what comes before the first.
///
/// A prober hears no answers while it does not ask: what the host or the network did in that time
/// is not known, except to the [address monitor](crate::address_monitor).
pub fn blind(probes: &[Probe], span: Span, asks: bool) -> Duration {
    let between = probes.windows(2).filter(|pair| pair[1].number != 0);
    let holes = between.map(|pair| Span { from: pair[0].sent, to: pair[1].sent });
    let last = probes.last().map_or(span.from, |probe| probe.sent);
    let open = asks.then_some(Span { from: last, to: span.to.max(last) });
    let long = holes.chain(open).filter(|hole| hole.length() > QUIET_MAX);
    long.filter_map(|hole| hole.within(span)).map(Span::length).max().unwrap_or_default()
}

/// The probes in `span` that were not answered in time; those too late in it to say are left out.
pub fn unanswered(probes: &[Probe], span: Span) -> impl Iterator<Item = &Probe> {
    probes.iter().filter(move |probe| {
        span.from <= probe.sent && probe.sent + PATIENCE <= span.to && !probe.answered()
    })
}

/// When a host surely answered, if asked itself: an answer proves that it did at some moment
/// between the probe's sending and the answer's arrival, however late that was; and between two
/// such moments it did all the time when no probe between them remained without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Answering {
    /// From some moment in this span.
    first: Span,
    /// To some moment in this one.
    last: Span,
}

fn answering(probes: &[Probe]) -> Vec<Answering> {
    let mut stretches: Vec<Answering> = Vec::new();
    let mut goes_on = false;
    for probe in probes {
        // Between the last probe of one boot and the first of the next the host was off.
        goes_on &= probe.number != 0;
        let proof = probe.answer.as_ref().map(|(at, _)| Span { from: probe.sent, to: *at });
        match proof {
            Some(last) if goes_on => stretches.last_mut().expect("one goes on").last = last,
            Some(only) => stretches.push(Answering { first: only, last: only }),
            None => {}
        }
        goes_on = proof.is_some();
    }
    stretches
}

/// When a host answered, asked itself: from each first answer to the last one after which a probe was lost.
pub fn answer_times(probes: &[Probe]) -> Vec<Span> {
    let times = answering(probes).into_iter();
    times.map(|stretch| Span { from: stretch.first.to, to: stretch.last.to }).collect()
}

impl Answering {
    /// When both surely answered: at a moment, where that they did is all that is sure.
    fn with(self, other: Answering) -> Option<Span> {
        let apart = self.last.from < other.first.to || other.last.from < self.first.to;
        if apart {
            return None;
        }
        let to = self.last.from.min(other.last.from);
        Some(Span { from: self.first.to.max(other.first.to).min(to), to })
    }
}

/// When a host surely answered, if asked itself: each time from the arrival of its first answer to the sending of
/// the last probe that it answered.
pub fn surely_answered(probes: &[Probe]) -> Vec<Span> {
    let sure =
        answering(probes).into_iter().map(|one| Span { from: one.first.to, to: one.last.from });
    sure.filter(|span| span.from < span.to).collect()
}

/// How long two hosts or more surely answered at once, in `span`, each asked itself. Not zero when
/// an answer of one lies between two of another that missed no probe between them, or the answers
/// of both interleave otherwise; zero when one may have begun after the other had ended.
///
/// An overlap of more than two periods and the way of an answer, some 11 ms, is surely seen, and
/// reported as that much shorter at most. Where the out-of-band probers were kept from asking, an overlap may be
/// missed that is no longer than the holes of both in what they asked ([`blind`]), and nothing but
/// that tells it from an orderly move in the same time. Briefer ones show in the kernel's address
/// events ([`overlap`]), which have no such limit.
pub fn answers_overlap(hosts: &[Vec<Probe>], span: Span) -> Duration {
    let hosts: Vec<Vec<Answering>> = hosts.iter().map(|probes| answering(probes)).collect();
    let mut common: Vec<Span> = Vec::new();
    for (index, one) in hosts.iter().enumerate() {
        let others = hosts[..index].iter().flatten();
        let pairs = others.flat_map(|other| one.iter().map(move |own| own.with(*other)));
        common.extend(pairs.flatten().filter_map(|both| both.within(span)));
    }
    common.sort_by_key(|both| both.from);
    let (mut total, mut counted_to) = (Duration::ZERO, None);
    for both in common {
        // Of what is counted already, when three answer, only the rest counts.
        let from = counted_to.map_or(both.from, |to| both.from.max(to));
        if counted_to.is_none_or(|to| both.to > to) {
            total += both.to.duration_since(from).max(Duration::from_nanos(1));
            counted_to = Some(both.to);
        }
    }
    total
}

/// The answering hosts in turn: who answered from when on.
pub fn who_answered(probes: &[Probe]) -> Vec<(Instant, Arc<str>)> {
    let mut turns: Vec<(Instant, Arc<str>)> = Vec::new();
    let answered = probes.iter().filter(|probe| probe.answered());
    for (at, host) in answered.filter_map(|probe| probe.answer.as_ref()) {
        if turns.last().is_none_or(|(_, last)| last != host) {
            turns.push((*at, Arc::clone(host)));
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    fn probes(to: u64, silent: std::ops::Range<u64>) -> Vec<Probe> {
        let after = |ms| (!silent.contains(&ms)).then_some(ms + 1);
        record((0..to).step_by(5).map(|ms| (ms, after(ms))))
    }

    /// Probes sent and answered at these times.
    fn record(times: impl IntoIterator<Item = (u64, Option<u64>)>) -> Vec<Probe> {
        let probe = |(number, (sent, answered)): (usize, (u64, Option<u64>))| Probe {
            number,
            sent: at(sent),
            answer: answered.map(|ms| (at(ms), "a".into())),
        };
        times.into_iter().enumerate().map(probe).collect()
    }

    /// A probe every 5 ms; those of `late` are all answered at its end.
    fn queued(to: u64, late: std::ops::Range<u64>) -> Vec<Probe> {
        let answered = |ms| if late.contains(&ms) { late.end } else { ms + 1 };
        record((0..to).step_by(5).map(|ms| (ms, Some(answered(ms)))))
    }

    fn without(probes: Vec<Probe>, hole: std::ops::Range<u64>) -> Vec<Probe> {
        let kept = |probe: &Probe| !(at(hole.start)..at(hole.end)).contains(&probe.sent);
        probes.into_iter().filter(kept).collect()
    }

    fn gap_ms(probes: &[Probe], from: u64, to: u64) -> u128 {
        gap(probes, span(from, to)).length().as_millis()
    }

    fn blind_ms(probes: &[Probe], from: u64, to: u64, asks: bool) -> u128 {
        blind(probes, span(from, to), asks).as_millis()
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
    fn hosts_that_have_different_addresses_of_a_vip_share_it() {
        let v4 = events(&[(0, "a", true), (10, "a", false), (12, "b", true)]);
        let mut v6 = events(&[(1, "a", true), (15, "a", false), (18, "b", true)]);
        v6.iter_mut().for_each(|event| event.address = Ipv6Addr::LOCALHOST.into());
        assert!(overlap(&v4, span(0, 20)).is_zero() && overlap(&v6, span(0, 20)).is_zero());
        let vip = any_of([v4.clone(), v6]);
        assert_eq!(overlap(&vip, span(0, 20)), Duration::from_millis(3));
        assert_eq!(any_of([v4.clone()]), v4);
    }

    #[test]
    fn an_absence_lasts_from_going_to_coming() {
        let events = events(&[(0, "a", true), (10, "a", false), (17, "b", true)]);
        assert_eq!(longest_absence(&events, span(0, 20)), Duration::from_millis(7));
    }

    #[test]
    fn a_gap_lasts_from_the_last_answer_before_to_the_first_after() {
        assert_eq!(gap(&probes(1000, 500..520), span(0, 1000)).length(), Duration::from_millis(25));
        assert_eq!(gap(&probes(1000, 0..0), span(0, 1000)).length(), Duration::ZERO);
    }

    #[test]
    fn a_gap_that_does_not_end_counts_to_the_end() {
        let gap = gap(&probes(1000, 500..1000), span(0, 1000));
        assert_eq!(gap.length(), Duration::from_millis(1000 - 496));
    }

    #[test]
    fn a_single_lost_probe_is_a_gap() {
        assert_eq!(gap_ms(&probes(1000, 500..505), 0, 1000), 10);
    }

    #[test]
    fn answers_that_are_late_but_all_come_are_a_gap_as_long_as_the_wait() {
        assert_eq!(gap_ms(&queued(1000, 500..595), 0, 1000), 595 - 496);
        assert_eq!(gap_ms(&queued(1000, 500..520), 0, 1000), 520 - 496);
    }

    #[test]
    fn an_answer_after_the_end_of_patience_is_none() {
        let mut late = probes(1000, 500..520);
        late[100].answer = Some((at(610), "a".into()));
        assert_eq!(gap_ms(&late, 0, 1000), 521 - 496);
    }

    #[test]
    fn without_any_answer_the_gap_is_the_whole_span() {
        assert_eq!(gap_ms(&probes(1000, 0..1000), 100, 900), 800);
        assert_eq!(gap_ms(&[], 100, 900), 800);
    }

    #[test]
    fn gaps_are_cut_to_the_span() {
        let probes = probes(1000, 500..600);
        assert_eq!(gap_ms(&probes, 550, 1000), 601 - 550);
        assert_eq!(gap_ms(&probes, 0, 550), 550 - 496);
        assert_eq!(gap_ms(&probes, 520, 580), 60);
        assert_eq!(gap_ms(&probes, 601, 1000), 0);
    }

    #[test]
    fn a_gap_at_the_end_needs_no_patience() {
        assert_eq!(gap_ms(&probes(1000, 970..1000), 0, 1000), 1000 - 966);
        assert_eq!(gap_ms(&probes(1000, 0..0), 0, 1003), 0);
    }

    #[test]
    fn a_client_that_stalls_is_blind_and_reports_no_gap_that_it_does_not_know_of() {
        let silent = without(probes(1000, 550..600), 505..550);
        assert_eq!(gap_ms(&silent, 0, 1000), 601 - 501, "a probe after the stall was lost");
        let probes = without(probes(1000, 0..0), 505..550);
        assert_eq!(gap_ms(&probes, 0, 1000), 0);
        assert_eq!(blind_ms(&probes, 0, 1000, true), 50);
        assert_eq!(blind_ms(&probes, 520, 530, true), 10);
        assert_eq!(blind_ms(&probes, 600, 1000, true), 0);
    }

    #[test]
    fn a_client_that_asks_no_more_is_blind_to_the_end() {
        assert_eq!(blind_ms(&probes(500, 0..0), 0, 1000, true), 1000 - 495);
        assert_eq!(blind_ms(&[], 100, 900, true), 800);
    }

    #[test]
    fn nobody_is_blind_to_a_host_without_power() {
        let (before, after) = (probes(200, 0..0), without(probes(1000, 0..0), 0..700));
        let restarted =
            after.into_iter().enumerate().map(|(number, probe)| Probe { number, ..probe });
        let boots: Vec<Probe> = before.iter().cloned().chain(restarted).collect();
        assert_eq!(blind_ms(&boots, 0, 1000, true), 0);
        assert_eq!(blind_ms(&before, 0, 1000, false), 0);
    }

    #[test]
    fn answers_overlap_while_both_hosts_surely_answer() {
        let (a, b) = (probes(1000, 500..1000), probes(1000, 0..450));
        let whole = span(0, 1000);
        assert_eq!(answers_overlap(&[a.clone(), b], whole), Duration::from_millis(495 - 451));
        assert_eq!(answers_overlap(&[a, probes(1000, 0..500)], whole), Duration::ZERO);
    }

    #[test]
    fn three_hosts_at_once_count_once() {
        let all = [probes(500, 0..0), probes(500, 0..0), probes(500, 0..0)];
        assert_eq!(answers_overlap(&all, span(100, 200)), Duration::from_millis(100));
    }

    #[test]
    fn an_answer_between_two_of_another_host_is_an_overlap_even_across_a_stall() {
        let a = record([(0, Some(1)), (500, Some(501)), (505, None)]);
        let b = record([(195, None), (200, Some(201)), (205, None)]);
        assert!(!answers_overlap(&[a, b], span(0, 1000)).is_zero());
        // Also where the stall kept an answer from being read in time.
        let a = record([(0, Some(1)), (100, Some(400)), (405, Some(406)), (410, None)]);
        let b = record([(195, None), (200, Some(201)), (300, Some(301)), (305, None)]);
        assert_eq!(answers_overlap(&[a, b], span(0, 1000)), Duration::from_millis(99));
    }

    #[test]
    fn a_host_did_not_answer_between_two_of_its_boots() {
        let boots = [record([(0, Some(1)), (5, Some(6))]), record([(900, Some(901))])].concat();
        let other = record([(300, Some(301)), (305, Some(306))]);
        assert!(answers_overlap(&[boots, other], span(0, 1000)).is_zero());
    }

    #[test]
    fn an_orderly_move_is_no_overlap_even_where_a_prober_stalls() {
        let a = record([(0, Some(1)), (500, None)]);
        let b = record([(195, None), (200, Some(201)), (400, Some(401))]);
        assert!(answers_overlap(&[a, b], span(0, 1000)).is_zero());
        // The second host began between two probes of the first.
        let a = record([(0, Some(1)), (5, Some(6)), (10, None)]);
        let b = record([(3, None), (8, Some(9)), (13, Some(14))]);
        assert!(answers_overlap(&[a, b], span(0, 1000)).is_zero());
        // The last answer of the first was read late.
        let a = record([(0, Some(1)), (5, Some(60)), (10, None)]);
        let b = record([(3, None), (8, Some(9)), (13, Some(14))]);
        assert!(answers_overlap(&[a, b], span(0, 1000)).is_zero());
    }
}
