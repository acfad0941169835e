//! Observers that are not kept waiting by what they observe.

use nix::libc;

/// Gives the calling thread precedence over everything that has none, so that what it measures
/// is the lab and not the machine's load. Where that is refused it goes on without.
pub fn prompt() {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter outlives the call, and 0 is the calling thread.
    unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const parameter,
        );
    }
}
