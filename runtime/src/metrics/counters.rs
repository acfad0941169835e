//! What has happened since the start. Every label is one of few words, and is there from the start with 0:
//! else the first time would be no increase.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use turnip_core::{Arrival, Departure, KernelError, KernelOp};

/// A renewal takes some milliseconds, and a sixth of the lease at most.
const RENEWAL_SECONDS: [f64; 11] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// A gap takes some milliseconds when it is planned, and somewhat more than a lease when it is not.
const GAP_SECONDS: [f64; 13] =
    [0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.5, 5.0, 10.0, 60.0];

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];

/// What etcd was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// To write the own session, the first time or again.
    Renewal,
    /// To delete a session that fell silent.
    Expiry,
    /// To name the owner of VIPs.
    Ownership,
    /// To write what this node can take.
    Publication,
    /// For news of what others write.
    Watch,
    /// Whether the member on this host leads.
    Member,
    /// For something else.
    Other,
}

impl Request {
    const ALL: [Request; 7] = [
        Request::Renewal,
        Request::Expiry,
        Request::Ownership,
        Request::Publication,
        Request::Watch,
        Request::Member,
        Request::Other,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Request::Renewal => "renewal",
            Request::Expiry => "expiry",
            Request::Ownership => "ownership",
            Request::Publication => "publication",
            Request::Watch => "watch",
            Request::Member => "member",
            Request::Other => "other",
        }
    }
}

/// Why it was not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Not within its time.
    Timeout,
    /// No endpoint could be asked, or none could answer.
    Unavailable,
    /// etcd refused it.
    Refused,
}

impl Cause {
    const ALL: [Cause; 3] = [Cause::Timeout, Cause::Unavailable, Cause::Refused];

    fn as_str(self) -> &'static str {
        match self {
            Cause::Timeout => "timeout",
            Cause::Unavailable => "unavailable",
            Cause::Refused => "refused",
        }
    }
}

const OPERATIONS: [&str; 6] =
    ["list", "assume", "refresh", "withdraw", "configure", "remove-fence"];
const KERNEL_CAUSES: [&str; 3] = ["no-interface", "too-late", "refused"];
/// What goes wrong with the node as a whole.
pub(super) const TROUBLES: [&str; 11] = [
    "session-lost",
    "watch-stale",
    "store-changed",
    "heartbeats-lost",
    "consent-missing",
    "unreadable",
    "no-own-member",
    "session-replaced",
    "name-taken",
    "address-elsewhere",
    "hook-failed",
];

/// Counters and histograms. Clones are the same.
#[derive(Clone, Debug)]
pub struct Counters {
    arrivals: Family<One, Counter>,
    departures: Family<One, Counter>,
    gaps: Family<One, Histogram>,
    renewals: Histogram,
    etcd_failures: Family<Two, Counter>,
    kernel_failures: Family<Two, Counter>,
    troubles: Family<One, Counter>,
    pub(super) repairs: Counter,
    announcements: Counter,
    pub(super) sessions_expired: Counter,
}

impl Default for Counters {
    fn default() -> Self {
        let counters = Counters {
            arrivals: Family::default(),
            departures: Family::default(),
            gaps: Family::<One, Histogram>::new_with_constructor(|| Histogram::new(GAP_SECONDS)),
            renewals: Histogram::new(RENEWAL_SECONDS),
            etcd_failures: Family::default(),
            kernel_failures: Family::default(),
            troubles: Family::default(),
            repairs: Counter::default(),
            announcements: Counter::default(),
            sessions_expired: Counter::default(),
        };
        for arrival in Arrival::ALL {
            drop(counters.arrivals.get_or_create(&[("reason", arrival.as_str())]));
            drop(counters.gaps.get_or_create(&[("reason", arrival.as_str())]));
        }
        for departure in Departure::ALL {
            drop(counters.departures.get_or_create(&[("reason", departure.as_str())]));
        }
        for request in Request::ALL {
            for cause in Cause::ALL {
                drop(counters.etcd_failures.get_or_create(&of_etcd(request, cause)));
            }
        }
        for operation in OPERATIONS {
            for cause in KERNEL_CAUSES {
                drop(counters.kernel_failures.get_or_create(&of_kernel(operation, cause)));
            }
        }
        for trouble in TROUBLES {
            drop(counters.troubles.get_or_create(&[("trouble", trouble)]));
        }
        counters
    }
}

fn of_etcd(request: Request, cause: Cause) -> Two {
    [("request", request.as_str()), ("cause", cause.as_str())]
}

fn of_kernel(operation: &'static str, cause: &'static str) -> Two {
    [("operation", operation), ("cause", cause)]
}

/// The word for an operation.
pub(super) fn operation(op: &KernelOp) -> &'static str {
    match op {
        KernelOp::List => "list",
        KernelOp::Assume { .. } => "assume",
        KernelOp::Refresh { .. } => "refresh",
        KernelOp::Withdraw { .. } => "withdraw",
        KernelOp::Configure { .. } => "configure",
        KernelOp::RemoveFence => "remove-fence",
    }
}

impl Counters {
    /// A VIP has come, and how long nobody had held it, if that is known.
    pub(super) fn arrived(&self, arrival: Arrival, gap: Option<Duration>) {
        let labels = [("reason", arrival.as_str())];
        self.arrivals.get_or_create(&labels).inc();
        if let Some(gap) = gap {
            self.gaps.get_or_create(&labels).observe(gap.as_secs_f64());
        }
    }

    /// A VIP goes.
    pub(super) fn departed(&self, departure: Departure) {
        self.departures.get_or_create(&[("reason", departure.as_str())]).inc();
    }

    /// A renewal was answered.
    pub(super) fn renewed(&self, took: Duration) {
        self.renewals.observe(took.as_secs_f64());
    }

    /// etcd did not answer.
    pub(super) fn etcd_failed(&self, request: Request, cause: Cause) {
        self.etcd_failures.get_or_create(&of_etcd(request, cause)).inc();
    }

    /// The kernel did not do what it was asked to, for this many addresses.
    pub(super) fn kernel_failed(&self, operation: &'static str, error: &KernelError) {
        let cause = match error {
            KernelError::NoInterface => "no-interface",
            KernelError::TooLate => "too-late",
            KernelError::Refused(_) => "refused",
        };
        self.kernel_failures.get_or_create(&of_kernel(operation, cause)).inc();
    }

    /// Something goes wrong with the node as a whole: one of [`TROUBLES`].
    pub(super) fn trouble(&self, trouble: &'static str) {
        self.troubles(trouble, 1);
    }

    /// It has gone wrong so many times.
    pub(super) fn troubles(&self, trouble: &'static str, count: u64) {
        self.troubles.get_or_create(&[("trouble", trouble)]).inc_by(count);
    }

    /// So many addresses were announced.
    pub(super) fn announced(&self, addresses: usize) {
        self.announcements.inc_by(u64::try_from(addresses).unwrap_or(u64::MAX));
    }

    /// Has them shown with all others of `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "vip_arrivals",
            "VIPs that came to be held here, by how they came",
            self.arrivals.clone(),
        );
        registry.register(
            "vip_departures",
            "VIPs that were held here and were taken away, by why",
            self.departures.clone(),
        );
        registry.register_with_unit(
            "vip_gap",
            "How long nobody had held a VIP that came here, by how it came: since the last sign of life of a \
             holder that fell silent, or since it was handed over",
            Unit::Seconds,
            self.gaps.clone(),
        );
        registry.register_with_unit(
            "renewal_duration",
            "How long etcd took to answer renewals of the session",
            Unit::Seconds,
            self.renewals.clone(),
        );
        registry.register(
            "etcd_failures",
            "Requests to etcd without an answer, by what was asked for and why",
            self.etcd_failures.clone(),
        );
        registry.register(
            "kernel_failures",
            "What the kernel did not do, by what it was asked to and why",
            self.kernel_failures.clone(),
        );
        registry.register(
            "troubles",
            "What went wrong with the node as a whole",
            self.troubles.clone(),
        );
        registry.register(
            "repairs",
            "VIPs that somebody else had changed, and that were set right",
            self.repairs.clone(),
        );
        registry.register(
            "announcements",
            "Addresses that were announced by gratuitous ARP or neighbour advertisements",
            self.announcements.clone(),
        );
        registry.register(
            "sessions_expired",
            "Sessions of other nodes that fell silent, and that this node expired",
            self.sessions_expired.clone(),
        );
    }
}
