//! What the observers saw, as both worlds tell it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use turnip_sim::play::{Held, Observed, VipRun};
use turnip_sim::script::{Script, human};

use super::world::addresses_of;
use super::{AFTERWARDS, rounded};
use crate::cluster::Cluster;
use crate::measure::{self, Span};
use crate::probe::Probe;

/// Of what was while observers did not ask for longer than this nothing is said.
const BLIND_MAX: Duration = Duration::from_secs(1);

/// What came of each VIP since `zero`.
pub(super) fn vips(script: &Script, cluster: &Cluster, zero: Instant) -> Result<Vec<VipRun>> {
    let span = Span { from: zero, to: zero + script.lasts + AFTERWARDS };
    let of_vip = |(number, vip): (usize, &str)| {
        let addresses = addresses_of(cluster, number).into_iter();
        let observed: Vec<Observed> =
            addresses.map(|address| observed(cluster, address, span)).collect();
        VipRun::of(vip, &observed, script.lasts)
    };
    Ok(script.vips().enumerate().map(of_vip).collect())
}

fn observed(cluster: &Cluster, address: IpAddr, span: Span) -> Observed {
    let since = |at: Instant| at.saturating_duration_since(span.from);
    let mut held = Vec::new();
    for host in 0..cluster.size() {
        let host = cluster.host(host);
        // Proven at both ends: that two spans overlap is proven then too.
        let spans = measure::surely_answered(&host.answers(address)).into_iter();
        held.extend(spans.filter(|one| one.to > span.from).map(|one| Held {
            host: host.name.clone(),
            from: since(one.from),
            to: since(one.to),
        }));
    }
    let reached = reached(&cluster.datagrams_to(address), span);
    let reached = reached.into_iter().map(|(host, one)| Held {
        host: host.to_string(),
        from: since(one.from),
        to: since(one.to),
    });
    Observed { held, reached: reached.collect() }
}

/// From whom the client got answers, and when: what is left between its silences, to the host that answered then.
fn reached(probes: &[Probe], span: Span) -> Vec<(Arc<str>, Span)> {
    let mut answers: Vec<(Instant, Arc<str>)> = probes
        .iter()
        .filter(|probe| probe.answered())
        .filter_map(|probe| probe.answer.clone())
        .collect();
    answers.sort_by_key(|(at, _)| *at);
    let mut all: Vec<(Arc<str>, Span)> = Vec::new();
    let mut silences = measure::silences(probes, span).into_iter().peekable();
    let mut from = span.from;
    loop {
        let silence = silences.next();
        let to = silence.map_or(span.to, |silence| silence.from);
        // One after the other, each from its first answer to that of the next.
        let first = answers.partition_point(|(at, _)| *at < from);
        let last = answers.partition_point(|(at, _)| *at <= to);
        let mut begins = from;
        let mut turns: Vec<(Arc<str>, Span)> = Vec::new();
        for (at, host) in &answers[first.min(last)..last] {
            match turns.last_mut() {
                Some((answering, _)) if answering == host => {}
                Some((_, before)) => {
                    before.to = *at;
                    turns.push((Arc::clone(host), Span { from: *at, to }));
                }
                None => turns.push((Arc::clone(host), Span { from: begins, to })),
            }
            begins = *at;
        }
        all.extend(turns);
        match silence {
            Some(silence) => from = silence.to,
            None => return all,
        }
    }
}

/// The longest time for which an observer was kept from asking.
pub(super) fn blindness(script: &Script, cluster: &Cluster, zero: Instant) -> Result<Duration> {
    let span = Span { from: zero, to: zero + script.lasts };
    let mut longest = Duration::ZERO;
    for address in cluster.probed() {
        longest = longest.max(measure::blind(&cluster.datagrams_to(address), span, true));
        for host in 0..cluster.size() {
            let host = cluster.host(host);
            longest = longest.max(measure::blind(&host.answers(address), span, host.has_power()));
        }
    }
    ensure!(
        longest <= BLIND_MAX,
        "the observers were kept from asking for {}: this machine is too busy to measure anything",
        human(rounded(longest)),
    );
    Ok(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::PERIOD;

    /// A client that asks every 5 ms from 0 to 200 ms, and who answers in which of these ms.
    fn seen(answers: &[(&str, std::ops::Range<u64>)]) -> Vec<(String, u64, u64)> {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let probes: Vec<Probe> = (0..80)
            .map(|number| {
                let sent = start + PERIOD * number;
                let ms = 5 * u64::from(number);
                let who = answers.iter().find(|(_, range)| range.contains(&ms));
                let answer =
                    who.map(|(host, _)| (sent + Duration::from_millis(1), Arc::from(*host)));
                Probe { number: number as usize, sent, answer }
            })
            .collect();
        let of = reached(&probes, Span { from: at(0), to: at(200) });
        let ms = |at: Instant| at.duration_since(start).as_millis() as u64;
        of.into_iter().map(|(host, span)| (host.to_string(), ms(span.from), ms(span.to))).collect()
    }

    #[test]
    fn a_host_that_answers_all_the_time_is_reached_from_end_to_end() {
        assert_eq!(seen(&[("h1", 0..400)]), [("h1".into(), 0, 200)]);
    }

    #[test]
    fn between_two_hosts_that_answer_in_turn_there_is_a_gap_or_none() {
        let with_a_gap = seen(&[("h1", 0..50), ("h2", 100..400)]);
        assert_eq!(with_a_gap, [("h1".into(), 0, 46), ("h2".into(), 101, 200)]);
        let without = seen(&[("h1", 0..50), ("h2", 50..400)]);
        assert_eq!(without, [("h1".into(), 0, 51), ("h2".into(), 51, 200)]);
    }

    #[test]
    fn who_answers_again_after_a_silence_is_reached_in_two_parts_and_nobody_to_the_end() {
        let twice = seen(&[("h1", 0..50), ("h1", 90..120)]);
        assert_eq!(twice, [("h1".into(), 0, 46), ("h1".into(), 91, 116)]);
        assert!(seen(&[]).is_empty());
    }
}
