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
