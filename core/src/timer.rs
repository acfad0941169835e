//! What a node waits for.

use crate::time::Instant;

/// The reasons to be called again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timer {
    /// When the session is to be renewed, or opened (rule 1).
    Renew = 0,
    /// `deadline - g`: when everything held must be taken away (rule 2).
    Guard = 1,
    /// When another node's session may be expired (rule 3).
    Expire = 2,
    /// When an own renewal should have come back on the watch (rule 9).
    Echo = 3,
    /// When to follow the prefix again.
    Follow = 4,
    /// When news have been in doubt for so long that renewing must stop (rule 9).
    WatchStale = 5,
    /// When to ask the local etcd member whether it leads.
    Member = 6,
    /// When whoever has this node's name may be expired (rule 6).
    Contest = 7,
    /// When a publication that failed is tried again.
    Publish = 8,
    /// When an orderly stop no longer waits for etcd.
    StopLimit = 9,
    /// When the kernel is asked again what it holds.
    List = 10,
    /// When deleting the own session is tried again.
    Close = 11,
    /// When giving free what is not configured here is tried again.
    Free = 12,
    /// When the kernel ends the lifetimes of what is held, where they are the proof (rule 8).
    KeptUntil = 13,
    /// When addresses may be assumed again after another store was noticed (A2).
    Quiet = 14,
    /// When the next heartbeat is made (rule 10).
    Beat = 15,
    /// When a node that leaves all to the next process waits no longer (rule 14.6).
    Leave = 16,
    /// When a key that a VIP follows has said nothing for too long (rule 13).
    Followed = 17,
}

impl Timer {
    const COUNT: usize = 18;

    pub(crate) const ALL: [Timer; Self::COUNT] = [
        Timer::Renew,
        Timer::Guard,
        Timer::Expire,
        Timer::Echo,
        Timer::Follow,
        Timer::WatchStale,
        Timer::Member,
        Timer::Contest,
        Timer::Publish,
        Timer::StopLimit,
        Timer::List,
        Timer::Close,
        Timer::Free,
        Timer::KeptUntil,
        Timer::Quiet,
        Timer::Beat,
        Timer::Leave,
        Timer::Followed,
    ];
}

/// When each timer fires next.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Timers([Option<Instant>; Timer::COUNT]);

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Makes the timer fire at `at` unless it fires earlier anyway.
    pub(crate) fn set_earlier(&mut self, timer: Timer, at: Instant) {
        let earlier = self.get(timer).map_or(at, |current| current.min(at));
        self.set(timer, earlier);
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// Stops the timer and says whether it had fired.
    pub(crate) fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.get(timer).is_some_and(|at| at <= now);
        if due {
            self.stop(timer);
        }
        due
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().copied().min()
    }
}
