//! How things stand, as metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelValue, EncodeMetric, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use turnip_core::{Backstop, CheckState, Lease};

use super::Settings;
use super::look::{CheckSeen, Seen, VipSeen};
use super::outside::{EtcdHealth, Watched};
use crate::etcd::certificates::{CertificateEnd, Whose};
use crate::peers::Counts;

/// What is shown at one scrape.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) settings: Settings,
    /// Absent while the daemon waits for etcd before it starts.
    pub(super) seen: Option<Arc<Seen>>,
    pub(super) watched: Watched,
}

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Encoder(encoder);
        self.node(&mut to)?;
        self.bounds(&mut to)?;
        if let Some(seen) = &self.seen {
            vips(&seen.vips, &mut to)?;
            checks(&seen.checks, &mut to)?;
            to.counter("fence_repairs", FENCE_REPAIRS, seen.fence_repairs)?;
            to.gauge("conflicts", CONFLICTS, &seen.conflicts)?;
            to.counter("conflict_packets", CONFLICT_PACKETS, seen.conflict_packets)?;
            if let Some(counts) = &seen.datagrams {
                to.counters("datagrams", DATAGRAMS, datagrams(counts))?;
            }
        }
        if let Some(etcd) = &self.watched.etcd {
            etcd_health(etcd, &mut to)?;
        }
        certificates(&self.watched.certificates, &mut to)
    }
}

const FENCE_REPAIRS: &str = "How often somebody else's change of turnip's nftables was put right";
const CONFLICTS: &str =
    "Machines that are none of turnip's, and claim addresses that are held here";
const CONFLICT_PACKETS: &str = "Packets with claims of addresses that are held here";
const DATAGRAMS: &str = "Heartbeats between hosts, by what became of them";

impl Sample {
    fn node(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let node = self.seen.as_ref().map(|seen| seen.node);
        let is = |flag: bool| u64::from(flag);
        let ready = self.seen.as_ref().is_some_and(|seen| seen.missing().is_empty());
        to.gauges(
            "build_info",
            "The version of turnip",
            [([("version", env!("CARGO_PKG_VERSION"))], 1_u64)],
        )?;
        to.gauge("ready", "Whether it holds all that it should", &is(ready))?;
        let session = node.is_some_and(|node| node.has_session);
        to.gauge("session", "Whether it has a session in etcd", &is(session))?;
        let left = node.map_or(0.0, |node| node.left.as_secs_f64());
        to.gauge("lease_left_seconds", "How long what it holds may stay from now on", &left)?;
        let answers = node.is_some_and(|node| node.store_answers);
        to.gauge("etcd_answers", "Whether etcd answers renewals of the session", &is(answers))?;
        let by_consent = node.is_some_and(|node| node.by_consent);
        let help = "Whether it holds without etcd, because all other hosts agree";
        to.gauge("held_by_consent", help, &is(by_consent))?;
        let drained = node.is_some_and(|node| node.is_drained);
        to.gauge("drained", "Whether an operator drains it", &is(drained))?;
        let nodes = node.map_or(0, |node| node.nodes);
        to.gauge("nodes", "Nodes with a session, as this one knows", &nodes)?;
        let fence = |kind| ([("kind", kind)], is(kind == kind_of(self.settings.backstop)));
        let help = "What silences addresses when the daemon cannot";
        to.gauges("fence", help, ["nftables", "lifetime"].map(fence))
    }

    fn bounds(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let lease: &Lease = &self.settings.lease;
        let hears = self.seen.as_ref().is_some_and(|seen| seen.datagrams.is_some());
        let known = [
            ("lease", Some(lease.duration())),
            ("renewal", Some(lease.renew())),
            ("guard", Some(lease.guard())),
            ("hold-without-renewal", Some(lease.holding())),
            ("takeover-after-silence", Some(lease.patience(lease.duration()))),
            ("hold-without-etcd", self.settings.without_etcd.filter(|_| hears)),
        ];
        let known = known.into_iter().filter_map(|(bound, time)| Some((bound, time?)));
        let help = "The durations that this node keeps to";
        to.gauges("bound_seconds", help, known.map(|(b, t)| ([("bound", b)], t.as_secs_f64())))
    }
}

fn kind_of(backstop: Backstop) -> &'static str {
    match backstop {
        Backstop::Fence => "nftables",
        Backstop::Lifetime => "lifetime",
    }
}

fn vips(vips: &[VipSeen], to: &mut Encoder<'_>) -> fmt::Result {
    let flags = |flag: fn(&VipSeen) -> bool| {
        vips.iter().map(move |vip| ([("vip", vip.vip.as_str())], u64::from(flag(vip))))
    };
    to.gauges("vip_held", "Whether the VIP is held here", flags(|vip| vip.is_held))?;
    to.gauges("vip_wanted", "Whether the VIP should be held here", flags(|vip| vip.is_wanted))?;
    let help = "Whether the VIP cannot be held here";
    to.gauges("vip_blocked", help, flags(|vip| vip.is_blocked))?;
    let owners = vips.iter().filter_map(|vip| {
        let owner = vip.owner.as_ref()?;
        Some(([("vip", vip.vip.as_str()), ("owner", owner.as_str())], 1_u64))
    });
    to.gauges("vip_owner", "The VIP's owner in etcd, as this node knows", owners)
}

fn checks(checks: &[CheckSeen], to: &mut Encoder<'_>) -> fmt::Result {
    if checks.is_empty() {
        return Ok(());
    }
    let name = |check: &CheckSeen| [("check", check.name.as_str().to_owned())];
    let ups = checks.iter().map(|one| (name(one), u64::from(one.state == CheckState::Up)));
    to.gauges("check_up", "Whether what the check checks works", ups)?;
    let held = checks.iter().map(|one| (name(one), u64::from(one.is_held_down)));
    let help =
        "Whether the check counts as down although it passes, for it fell several times lately";
    to.gauges("check_held_down", help, held)?;
    let known = checks.iter().filter(|one| one.since_unix_ms > 0);
    let since = known.map(|one| (name(one), one.since_unix_ms as f64 / 1e3));
    let help = "Since when the check is up or down, in seconds since 1970";
    to.gauges("check_since_timestamp_seconds", help, since)?;
    let attempts = checks.iter().flat_map(|one| {
        let of = |result, count| {
            ([("check", one.name.as_str().to_owned()), ("result", String::from(result))], count)
        };
        [of("passed", one.attempts.0), of("failed", one.attempts.1)]
    });
    let mut metric = to.describe("check_attempts", "Attempts of the check", MetricType::Counter)?;
    for (labels, count) in attempts {
        ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn datagrams(counts: &Counts) -> [([(&'static str, &'static str); 1], u64); 9] {
    let Counts { sent, unsent, taken, malformed, misaddressed, forged, no_key, replayed, dropped } =
        *counts;
    [
        ("sent", sent),
        ("unsent", unsent),
        ("taken", taken),
        ("malformed", malformed),
        ("misaddressed", misaddressed),
        ("forged", forged),
        ("no-key", no_key),
        ("replayed", replayed),
        ("dropped", dropped),
    ]
    .map(|(outcome, count)| ([("outcome", outcome)], count))
}

fn etcd_health(etcd: &EtcdHealth, to: &mut Encoder<'_>) -> fmt::Result {
    to.gauge("etcd_database_bytes", "The size of etcd's database", &etcd.database_bytes)?;
    if let Some(quota) = &etcd.quota_bytes {
        to.gauge("etcd_quota_bytes", "How large etcd's database may become", quota)?;
    }
    if let Some(ago) = etcd.compacted_ago {
        let help = "How long ago etcd was compacted last";
        to.gauge("etcd_compaction_age_seconds", help, &ago.as_secs_f64())?;
    }
    let known = ["NOSPACE", "CORRUPT"];
    let others = etcd.alarms.iter().map(String::as_str).filter(|alarm| !known.contains(alarm));
    let is_raised = |alarm: &str| u64::from(etcd.alarms.iter().any(|raised| raised == alarm));
    let alarms = known.into_iter().chain(others);
    let alarms = alarms.map(|alarm| ([("alarm", alarm)], is_raised(alarm)));
    to.gauges("etcd_alarm", "Whether etcd has raised an alarm", alarms)
}

fn certificates(ends: &[CertificateEnd], to: &mut Encoder<'_>) -> fmt::Result {
    if ends.is_empty() {
        return Ok(());
    }
    // Of several in one place, as authorities are, the first that ends.
    let mut first: BTreeMap<(&str, String), i64> = BTreeMap::new();
    for end in ends {
        let place = match &end.whose {
            Whose::Client(file) => ("client", file.display().to_string()),
            Whose::Server(endpoint) => ("server", endpoint.clone()),
            Whose::Authority(file) => ("authority", file.display().to_string()),
        };
        let known = first.entry(place).or_insert(end.ends_unix);
        *known = end.ends_unix.min(*known);
    }
    let shown = first
        .into_iter()
        .map(|((whose, place), at)| ([("certificate", whose.to_owned()), ("place", place)], at));
    let help = "When the first certificate there ends, in seconds since 1970";
    to.gauges("certificate_end_timestamp_seconds", help, shown)
}

/// Where samples are written to.
struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    /// With a full stop, as the registry puts one after what it is told.
    fn describe<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, &format!("{help}."), None, kind)
    }

    fn gauge(&mut self, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.describe(name, help, MetricType::Gauge)?.encode_gauge(value)
    }

    fn gauges<L, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'static str, L); N], impl EncodeGaugeValue)>,
    ) -> fmt::Result
    where
        L: EncodeLabelValue,
    {
        let mut metric = self.describe(name, help, MetricType::Gauge)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.describe(name, help, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'static str, &'static str); N], u64)>,
    ) -> fmt::Result {
        let mut metric = self.describe(name, help, MetricType::Counter)?;
        for (labels, value) in samples {
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
