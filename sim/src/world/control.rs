//! What the world asks of whoever runs it.

use super::ids::HostId;

/// What the world asks of whoever runs the daemons' futures, and judges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Start the daemon.
    Start(HostId),
    /// Drop the daemon's futures.
    Kill(HostId),
    /// Run them no more for a while.
    Pause(HostId),
    /// Run them again.
    Resume(HostId),
    /// Everything should be in order now: the daemons are about to be stopped.
    Judge,
}
