//! Lets events happen when their time has come.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use madsim::time::{Instant, Sleep};

use crate::time::{True, US};

use super::World;
use super::control::Control;

/// A sleep of this length gives every daemon that was woken before it the time to run: the executor lets
/// some 100 ns pass with each turn. After a shorter one some may be about to run still.
const TURNS_OF_ALL: u64 = 20 * US;

/// The future that runs the world until the end of its plan. It calls back for what concerns the
/// daemons' futures.
pub struct Pump<F> {
    world: Rc<World>,
    control: F,
    begin: Instant,
    sleep: Pin<Box<Sleep>>,
    /// Until when it sleeps, unless somebody wakes it.
    sleeps_until: True,
    /// That is long enough for all daemons that were woken.
    sleeps_long: bool,
    /// No daemon is about to run.
    ahead: bool,
}

impl<F: FnMut(Control)> Pump<F> {
    /// The pump of `world`. To be made at the very beginning of the run.
    pub fn new(world: Rc<World>, control: F) -> Self {
        let begin = world.time.now_instant() - world.time.elapsed();
        let sleep = Box::pin(world.time.sleep(Duration::from_secs(1)));
        Pump {
            world,
            control,
            begin,
            sleep,
            sleeps_until: True::MAX,
            sleeps_long: false,
            ahead: false,
        }
    }

    /// Lets the events up to now happen. Tells when the next one will, unless the run is over.
    ///
    /// While no daemon is about to run, quiet events may happen ahead of their time: that saves the
    /// executor most of its turns. None is when time has come for what the pump slept for, until
    /// something happens that a daemon may notice.
    fn run(&mut self) -> Option<True> {
        let mut inner = self.world.inner();
        // No time passes while events happen.
        let present = inner.env.now();
        while let Some(event) = inner.env.agenda.pop(present, self.ahead) {
            self.ahead &= event.is_quiet();
            let controls = inner.dispatch(event);
            if inner.over {
                return None;
            }
            if !controls.is_empty() {
                drop(inner);
                controls.into_iter().for_each(&mut self.control);
                inner = self.world.inner();
            }
        }
        inner.env.agenda.next_at()
    }
}

impl<F: FnMut(Control) + Unpin> Future for Pump<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // What is scheduled while it runs needs no waking.
        let present = {
            let agenda = &mut self.world.inner().env.agenda;
            agenda.runner_wakes();
            agenda.now()
        };
        self.ahead = present >= self.sleeps_until && self.sleeps_long;
        loop {
            let Some(next) = self.run() else { return Poll::Ready(()) };
            let present = self.world.time.elapsed().as_nanos() as u64;
            (self.sleeps_until, self.sleeps_long) = (next, next >= present + TURNS_OF_ALL);
            let at = self.begin + Duration::from_nanos(next);
            self.sleep.as_mut().reset(at);
            if self.sleep.as_mut().poll(cx).is_pending() {
                self.world.inner().env.agenda.runner_sleeps(cx.waker(), next);
                return Poll::Pending;
            }
        }
    }
}
