//! What happened in a span of time, for people to read.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cluster::Cluster;
use crate::measure::{self, Span};
use crate::probe::Transport;

/// One line of a timeline.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Line {
    /// When.
    pub at: Instant,
    /// Where: a host, the client, or nothing for what was done from outside.
    pub place: String,
    /// What.
    pub what: String,
}

/// All that was done and seen in `span`, in order.
///
/// # Errors
/// When events were lost.
pub fn lines(cluster: &Cluster, span: Span) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut add = |at: Instant, place: &str, what: String| {
        if span.from <= at && at <= span.to {
            lines.push(Line { at, place: place.to_owned(), what });
        }
    };
    for (at, what) in cluster.lab().journal().entries() {
        add(at, "", what);
    }
    for net in cluster.plan().vips.iter().flat_map(|vip| &vip.addresses) {
        let events = cluster.address_monitor().events(net.addr())?;
        for (host, held) in measure::holding_times(&events, span.to) {
            add(held.from, &host, format!("has {}", net.addr()));
            if held.to < span.to {
                add(held.to, &host, format!("has withdrawn {}", net.addr()));
            }
        }
    }
    let probes = cluster.client_probes(Transport::Udp);
    for (at, host) in measure::who_answered(&probes) {
        add(at, "client", format!("hears {host}"));
    }
    for silence in measure::silences(&probes, span) {
        add(silence.from, "client", "hears nothing more".to_owned());
    }
    lines.sort();
    Ok(lines)
}

/// How a timeline is printed, with times since `start`.
pub fn print(lines: &[Line], start: Instant) {
    for line in lines {
        let after = line.at.saturating_duration_since(start).as_secs_f64();
        if line.place.is_empty() {
            println!("{after:9.3} s  ---- {}", line.what);
        } else {
            println!("{after:9.3} s       {:7} {}", line.place, line.what);
        }
    }
}

/// A duration as people write it: ms, and one digit after the point when there are few.
pub fn ms(duration: Duration) -> String {
    match duration.as_secs_f64() * 1000.0 {
        0.0 => "0".to_owned(),
        few if few < 0.1 => format!("{few:.4} ms"),
        some if some < 10.0 => format!("{some:.1} ms"),
        many => format!("{many:.0} ms"),
    }
}
