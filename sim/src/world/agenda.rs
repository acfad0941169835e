//! What will happen, in the order of true time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::task::Waker;

use crate::time::True;

use super::event::Event;

struct Scheduled {
    at: True,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// The time, and all that will happen.
pub struct Agenda {
    now: True,
    heap: BinaryHeap<Scheduled>,
    order: u64,
    /// Who lets events happen, and until when it sleeps.
    runner: Option<Waker>,
    sleeps_until: True,
}

impl Agenda {
    /// Nothing will happen yet.
    pub fn new() -> Self {
        Agenda { now: 0, heap: BinaryHeap::new(), order: 0, runner: None, sleeps_until: True::MAX }
    }

    /// True time: of the event that is happening, or else the present.
    pub fn now(&self) -> True {
        self.now
    }

    /// The time goes on, or back to that of an event that is overdue.
    pub fn set_now(&mut self, now: True) {
        self.now = now;
    }

    /// Lets `event` happen at `at`, or now if that has passed; after what was scheduled for the
    /// same time before.
    pub fn schedule(&mut self, at: True, event: Event) {
        let at = at.max(self.now);
        self.order += 1;
        self.heap.push(Scheduled { at, order: self.order, event });
        if at < self.sleeps_until
            && let Some(runner) = &self.runner
        {
            // It is woken to arm its timer for the earlier time.
            runner.wake_by_ref();
            self.sleeps_until = at;
        }
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<True> {
        self.heap.peek().map(|scheduled| scheduled.at)
    }

    /// The next event, if it happens at or before `present`; or later, if it may happen `ahead` of
    /// its time because it is quiet. The time becomes that event's.
    pub fn pop(&mut self, present: True, ahead: bool) -> Option<Event> {
        let next = self.heap.peek()?;
        if next.at > present && !(ahead && next.event.is_quiet()) {
            return None;
        }
        let scheduled = self.heap.pop()?;
        self.now = scheduled.at;
        Some(scheduled.event)
    }

    /// Whoever lets events happen is awake, and needs no waking.
    pub fn runner_wakes(&mut self) {
        self.sleeps_until = 0;
    }

    /// Whoever lets events happen sleeps until `at`, unless it is woken earlier.
    pub fn runner_sleeps(&mut self, runner: &Waker, at: True) {
        if self.runner.is_none() {
            self.runner = Some(runner.clone());
        }
        self.sleeps_until = at;
    }
}
