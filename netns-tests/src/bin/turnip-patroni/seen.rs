//! What the observers make of a span of time.

use std::time::{Duration, Instant};

use turnip_netns_tests::measure::Span;

use crate::observers::{Answer, CLIENT_PERIOD, ROLE_PERIOD, Role};

/// A time without a primary's answer that is longer than this is a gap: connections take some
/// milliseconds each, more where the machine is busy.
pub const QUIET_MAX: Duration = CLIENT_PERIOD.saturating_mul(4);

/// A time of an address beside the primary that is shorter may be the looker's.
pub const UNSURE: Duration = ROLE_PERIOD.saturating_mul(3);

/// When PostgreSQL on a host was a primary.
pub fn primary_times(changes: &[(Instant, Role)], end: Instant) -> Vec<Span> {
    let ends = changes.iter().skip(1).map(|(at, _)| *at).chain([end]);
    changes
        .iter()
        .zip(ends)
        .filter(|((_, role), _)| *role == Role::Primary)
        .map(|((from, _), to)| Span { from: *from, to })
        .collect()
}

/// The part of `one` that none of the others cover, in pieces. The others are in order and apart.
pub fn uncovered(one: Span, others: &[Span]) -> Vec<Span> {
    let mut pieces = Vec::new();
    let mut from = one.from;
    for other in others.iter().filter(|other| other.to > one.from && other.from < one.to) {
        if other.from > from {
            pieces.push(Span { from, to: other.from });
        }
        from = from.max(other.to);
    }
    if from < one.to {
        pieces.push(Span { from, to: one.to });
    }
    pieces
}

/// What two spans have in common.
pub fn common(one: Span, other: Span) -> Option<Span> {
    let both = Span { from: one.from.max(other.from), to: one.to.min(other.to) };
    (both.from < both.to).then_some(both)
}

/// How long two hosts or more were primaries at once, in `span`; of three, each pair counts.
pub fn two_primaries(hosts: &[Vec<Span>], span: Span) -> Duration {
    let mut total = Duration::ZERO;
    for (index, one) in hosts.iter().enumerate() {
        for other in hosts[..index].iter().flatten() {
            let both = one.iter().filter_map(|own| common(common(*own, *other)?, span));
            total += both.map(Span::length).sum::<Duration>();
        }
    }
    total
}

/// The longest time without an answer of a primary that began in `span`, or was going on when it began; zero up
/// to [`QUIET_MAX`]. It counts to its end, or to that of all observation, be it after `span`.
pub fn longest_gap(answers: &[Answer], span: Span, end: Instant) -> Duration {
    longest(&silences(answers, end), |silence| silence.to > span.from && silence.from < span.to)
}

/// The same without what was going on when `span` began.
pub fn longest_gap_begun(answers: &[Answer], span: Span, end: Instant) -> Duration {
    longest(&silences(answers, end), |silence| span.from <= silence.from && silence.from < span.to)
}

fn longest(silences: &[Span], counts: impl Fn(&Span) -> bool) -> Duration {
    let counted = silences.iter().filter(|silence| counts(silence)).map(|it| it.length());
    counted.max().filter(|longest| *longest > QUIET_MAX).unwrap_or_default()
}

/// From each answer of a primary to the next one.
fn silences(answers: &[Answer], end: Instant) -> Vec<Span> {
    let mut times: Vec<Instant> =
        answers.iter().filter(|answer| answer.is_primary).map(|answer| answer.at).collect();
    times.push(end);
    times.sort_unstable();
    times.windows(2).map(|pair| Span { from: pair[0], to: pair[1] }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    fn at(ms: u64) -> Instant {
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_millis(ms)
    }

    fn span(from: u64, to: u64) -> Span {
        Span { from: at(from), to: at(to) }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_host_is_a_primary_from_one_change_to_the_next() {
        let changes = [(at(0), Role::Standby), (at(100), Role::Primary), (at(300), Role::None)];
        assert_eq!(primary_times(&changes, at(900)), [span(100, 300)]);
        assert_eq!(primary_times(&changes[..2], at(900)), [span(100, 900)]);
        assert_eq!(primary_times(&[], at(900)), []);
    }

    #[test]
    fn what_is_uncovered_is_before_between_and_after_the_others() {
        let others = [span(0, 5), span(20, 30), span(50, 90)];
        assert_eq!(uncovered(span(10, 60), &others), [span(10, 20), span(30, 50)]);
        assert_eq!(uncovered(span(10, 60), &[]), [span(10, 60)]);
        assert_eq!(uncovered(span(20, 30), &others), []);
    }

    #[test]
    fn two_primaries_count_as_long_as_both_are_and_within_the_span() {
        let hosts = [vec![span(0, 100)], vec![span(80, 200)], vec![span(300, 400)]];
        assert_eq!(two_primaries(&hosts, span(0, 500)), ms(20));
        assert_eq!(two_primaries(&hosts, span(90, 500)), ms(10));
    }

    #[test]
    fn a_gap_is_from_one_answer_of_a_primary_to_the_next_and_counts_where_it_began() {
        let answer = |ms, is_primary| Answer { at: at(ms), host: "h1".into(), is_primary };
        let answers = [answer(90, true), answer(110, true), answer(500, false), answer(1110, true)];
        let gap = |from, to| longest_gap(&answers, span(from, to), at(1900));
        assert_eq!(gap(100, 1200), ms(1000));
        assert_eq!(gap(100, 109), Duration::ZERO);
        assert_eq!(gap(600, 700), ms(1000), "it began before, and ends after");
        assert_eq!(gap(1200, 1900), ms(790), "nobody has answered since");
        let begun = |from, to| longest_gap_begun(&answers, span(from, to), at(1900));
        assert_eq!((begun(100, 700), begun(600, 1200)), (ms(1000), ms(790)));
        assert_eq!(begun(600, 700), Duration::ZERO, "it began before");
    }
}
