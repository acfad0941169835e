//! How slow the network and etcd are: parameters of a run.

/// The usual weather on all links.
#[derive(Clone, Debug)]
pub struct Weather {
    /// One-way delay at least, in ns.
    pub delay_min: u64,
    /// One-way delay mostly at most, in ns.
    pub delay_max: u64,
    /// How many messages in a thousand are late by up to `tail`.
    pub tail_permille: u64,
    /// In ns.
    pub tail: u64,
}

/// What befalls datagrams on a link, each to so many in a thousand.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Mishandling {
    /// They are lost.
    pub lost: u64,
    /// They are delivered twice.
    pub doubled: u64,
    /// They are late by up to `by`, so that later ones overtake them.
    pub late: u64,
    /// In ns.
    pub by: u64,
}

/// Timings of etcd's members, as its flags set them.
#[derive(Clone, Copy, Debug)]
pub struct RaftTiming {
    /// In ns.
    pub heartbeat: u64,
    /// Elections begin after this to twice this without a heartbeat, in ns.
    pub election: u64,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// What one write to a member's disk takes at most, in ns.
    pub disk_max: u64,
}
