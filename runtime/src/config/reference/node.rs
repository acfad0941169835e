//! What stands before the first table of the file.

use turnip_core::Lease;
use turnip_core::lease::ANNOUNCE_EVERY;

use super::super::lease::LEASE_DEFAULT;
use super::super::values::ANNOUNCE_EVERY_MIN;
use super::super::{CLUSTER_DEFAULT, WEIGHT_DEFAULT};
use super::{Setting, Table, forms, quoted, range, setting};

pub(super) fn table() -> Table {
    let settings = [identity(), durations(), rest()].into_iter().flatten().collect();
    Table {
        prefix: "",
        title: "The host",
        about: "These stand at the top of the file, before its first table.",
        settings,
    }
}

fn identity() -> Vec<Setting> {
    vec![
        setting(
            "cluster",
            forms::NAME,
            "Hosts with the same cluster share their VIPs. All their keys in etcd are below \
             `/turnip/<cluster>/`.",
        )
        .default(format!("{CLUSTER_DEFAULT:?}"))
        .example("\"lab\"")
        .session(),
        setting("node", forms::NAME, "The name of this host. No other host may have the same one.")
            .default_words("the host's name, as `hostname` prints it")
            .example("\"host-a\"")
            .session(),
        setting(
            "weight",
            forms::NUMBER,
            "This host's share of the VIPs with the policy `spread`, relative to the other hosts'. \
             With 0 it takes one only where no other host can.",
        )
        .default(WEIGHT_DEFAULT.to_string())
        .example("50"),
    ]
}

fn durations() -> Vec<Setting> {
    let usual = Lease::new(LEASE_DEFAULT).expect("the default is a lease");
    let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
    vec![
        setting(
            "lease",
            forms::DURATION,
            "How long the host may hold addresses after etcd last answered a renewal. So long the \
             others wait before they take over from a host that fell silent. Best the same on all \
             hosts.",
        )
        .default(quoted(LEASE_DEFAULT))
        .limits(format!(
            "{}; with `fence = \"lifetime\"` at least {:?}",
            range(Lease::DURATION_MIN, Lease::DURATION_MAX),
            Lease::DURATION_MIN_BY_LIFETIME
        ))
        .example("\"5s\"")
        .session(),
        setting("renew", forms::DURATION, "How often the lease is renewed.")
            .default_follows(quoted(usual.renew()), "a sixth of the lease")
            .limits(format!(
                "at least {:?}, and short enough that one renewal may be lost; the error says how short",
                Lease::RENEW_MIN
            ))
            .example("\"400ms\"")
            .session(),
        setting(
            "guard",
            forms::DURATION,
            "The part of the lease that is kept for taking addresses away.",
        )
        .default_follows(quoted(usual.guard()), "a fifteenth of the lease")
        .limits(format!("from {:?} to half the lease", Lease::GUARD_MIN))
        .example("\"300ms\"")
        .session(),
        setting(
            "drift",
            "percentage",
            "How far the rate of this host's clock may be from true time: assumption A1 of \
             [the promise](promise.md).",
        )
        .default(format!("\"{}%\"", percent(Lease::DRIFT_PPM_DEFAULT)))
        .limits(format!(
            "from {} % to {} %",
            percent(Lease::DRIFT_PPM_MIN),
            percent(Lease::DRIFT_PPM_MAX)
        ))
        .example("\"2%\"")
        .session(),
    ]
}

fn rest() -> Vec<Setting> {
    vec![
        setting(
            "fence",
            "one of \"auto\", \"nftables\", \"lifetime\"",
            "What silences addresses when turnip cannot, for it was killed or is frozen. `nftables`: \
             sets whose elements end at the deadline, exact to some milliseconds; where that does not \
             work turnip does not run. `lifetime`: the kernel's own expiry of the addresses, in whole \
             seconds. `auto`: the first where it works, else the second.",
        )
        .default("\"auto\"")
        .example("\"nftables\"")
        .session(),
        setting(
            "announce_every",
            forms::DURATION,
            "How often an address that stays is announced again, by ARP or neighbour advertisements, \
             for switches and routers that missed it. Each VIP at its own time. `\"0\"`: never, after \
             the first three times.",
        )
        .default(quoted(ANNOUNCE_EVERY))
        .limits(format!("at least {:?}, or 0", ANNOUNCE_EVERY_MIN))
        .example("\"30s\""),
        setting(
            "metrics",
            "address with a port",
            "Where turnip answers Prometheus with `/metrics`, and probes with `/healthz` and \
             `/readyz`. Nobody is asked for a password: keep it on loopback, or behind a firewall. \
             See [monitoring](monitoring.md).",
        )
        .default_words("nowhere")
        .example("\"127.0.0.1:9464\"")
        .restart(),
        setting(
            "log",
            "one of \"auto\", \"text\", \"json\"",
            "The form of a line of the log. `auto`: text that suits a terminal, a file or the journal.",
        )
        .default("\"auto\"")
        .example("\"json\"")
        .restart(),
        setting(
            "log_level",
            "one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
            "What is logged: this level and what is more urgent.",
        )
        .default("\"info\"")
        .example("\"debug\"")
        .restart(),
    ]
}
