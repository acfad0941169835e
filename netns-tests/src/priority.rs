//! Scheduling priority for the threads that observe a lab.

use nix::libc;

/// Gives the calling thread real-time priority over all ordinary threads, so that it measures the
/// lab and not the load of the machine. Where the kernel refuses, the thread goes on without.
pub fn raise_priority() {
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
