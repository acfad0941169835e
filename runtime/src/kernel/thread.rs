//! The thread that speaks to the kernel, and the adapter that it shares with whoever asks.
//!
//! rtnetlink waits for a lock that anything on the host may hold for a while, so it has a thread of
//! its own: the renewals of the session do not wait with it.

use std::collections::HashMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;
use turnip_core::adapter::{Adapter, Call, Reply};
use turnip_core::{KernelError, KernelOp, KernelOutcome, OpId};

use super::caller::{self, Caller};
use super::fence::Fence;
use super::liveness::Liveness;
use crate::clock::{HostClock, timer_rate};
use crate::seams::Clock;

/// The adapter, shared by whoever asks and the thread that does it.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    clock: HostClock,
}

struct State {
    adapter: Adapter,
    waiting: HashMap<OpId, oneshot::Sender<KernelOutcome>>,
    next: u64,
    closed: bool,
    abandoned: bool,
}

impl State {
    /// Answers what there is an answer to.
    fn answer(&mut self) {
        while let Some((id, outcome)) = self.adapter.poll_outcome() {
            if let Some(reply) = self.waiting.remove(&id) {
                // Whoever dropped the future does not want to know.
                let _ = reply.send(outcome);
            }
        }
    }
}

/// Has the adapter make the fence, or take over the one that is there.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn begin(
    adapter: &mut Adapter,
    mut fence: Option<&mut Fence>,
    clock: &HostClock,
) -> io::Result<()> {
    while adapter.started().is_none() {
        let Some(call) = adapter.poll_call(clock.now(), timer_rate()) else { continue };
        let reply = match &call {
            Call::ReadFence => caller::read_fence(fence.as_deref_mut()),
            Call::Change(transaction) => caller::change(fence.as_deref_mut(), transaction),
            other => Reply::Failed(KernelError::Refused(format!("too early: {other:?}"))),
        };
        adapter.handle_reply(reply, clock.now());
    }
    match adapter.started() {
        Some(Err(error)) => Err(io::Error::other(error.to_string())),
        _ => Ok(()),
    }
}

impl Shared {
    pub fn new(adapter: Adapter, clock: HostClock) -> Self {
        let state =
            State { adapter, waiting: HashMap::new(), next: 0, closed: false, abandoned: false };
        Shared { state: Mutex::new(state), changed: Condvar::new(), clock }
    }

    /// Asks for an operation.
    pub fn push(&self, op: KernelOp) -> oneshot::Receiver<KernelOutcome> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.abandoned {
            return answer;
        }
        let id = OpId(state.next);
        state.next += 1;
        state.waiting.insert(id, reply);
        state.adapter.handle_op(id, op, self.clock.now());
        state.answer();
        self.changed.notify_one();
        answer
    }

    /// Lets the thread end when nothing is left to do.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Lets go of everything, now and from now on: nobody is there any more to do it, and whoever
    /// waits for an answer learns so.
    fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.waiting.clear();
    }

    /// Works until there is nothing left to do and nobody to ask.
    pub fn work(&self, mut caller: Caller, liveness: &Liveness) {
        /// Also when the thread panics.
        struct Abandon<'a>(&'a Shared);
        impl Drop for Abandon<'_> {
            fn drop(&mut self) {
                self.0.abandon();
            }
        }
        let _at_the_end = Abandon(self);
        let _told = liveness.ends_with("the thread that speaks to the kernel has ended");
        while let Some(call) = self.next_call(liveness) {
            let reply = caller.perform(&call);
            liveness.step();
            let mut state = self.lock();
            state.adapter.handle_reply(reply, self.clock.now());
            state.answer();
        }
    }

    /// The next call, for which the clock was just read; none when the thread is to end.
    fn next_call(&self, liveness: &Liveness) -> Option<Call> {
        let mut state = self.lock();
        loop {
            let call = state.adapter.poll_call(self.clock.now(), timer_rate());
            state.answer();
            if call.is_some() {
                liveness.begin();
                return call;
            }
            if state.closed {
                return None;
            }
            liveness.rest();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
