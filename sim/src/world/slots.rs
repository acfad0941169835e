//! Where daemons wait for answers of the world.

use std::task::{Context, Poll, Waker};

use turnip_core::{HookEnd, KernelOutcome, MemberStatus, StoreError, TxnResponse};

/// Names a wait. A name is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotId {
    index: u32,
    generation: u32,
}

/// What somebody waited for.
#[derive(Debug)]
pub enum Reply {
    /// The answer to a transaction.
    Txn(Result<TxnResponse, StoreError>),
    /// A member's status.
    Status(Result<MemberStatus, StoreError>),
    /// The outcome of a kernel operation.
    Kernel(KernelOutcome),
    /// How a hook has ended.
    Hook(HookEnd),
    /// The time has come, or it is done.
    Now,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    done: Option<Reply>,
    waker: Option<Waker>,
}

/// All waits.
#[derive(Default)]
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// Begins a wait.
    pub fn open(&mut self) -> SlotId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        SlotId { index, generation: self.slots[index as usize].generation }
    }

    /// Whether nothing ended the wait yet and somebody is still waiting.
    pub fn is_open(&self, id: SlotId) -> bool {
        let slot = &self.slots[id.index as usize];
        slot.generation == id.generation && slot.done.is_none()
    }

    /// Ends the wait, unless it has ended before or was given up.
    pub fn complete(&mut self, id: SlotId, reply: Reply) -> bool {
        let slot = &mut self.slots[id.index as usize];
        if slot.generation != id.generation || slot.done.is_some() {
            return false;
        }
        slot.done = Some(reply);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
        true
    }

    /// Whether it has ended; if not, `cx` is woken when it does.
    pub fn poll(&mut self, id: SlotId, cx: &mut Context<'_>) -> Poll<Reply> {
        let slot = &mut self.slots[id.index as usize];
        debug_assert_eq!(slot.generation, id.generation);
        match slot.done.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                match &mut slot.waker {
                    Some(waker) if waker.will_wake(cx.waker()) => {}
                    waker => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Gives a wait up.
    pub fn release(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.index as usize];
        if slot.generation == id.generation {
            slot.generation += 1;
            slot.done = None;
            slot.waker = None;
            self.free.push(id.index);
        }
    }
}
