//! Taking addresses away, some at a time.

use super::Adapter;
use super::call::{Call, Reply};
use crate::kernel::{Assignment, KernelError};

/// Addresses on their way out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Deletion {
    /// Those not asked for yet, the next one last.
    left: Vec<Assignment>,
    asked: Vec<Assignment>,
    failed: Vec<(Assignment, KernelError)>,
}

impl Deletion {
    pub(super) fn new(mut addresses: Vec<Assignment>) -> Self {
        addresses.reverse();
        Deletion { left: addresses, asked: Vec::new(), failed: Vec::new() }
    }

    /// The next call, while something is left.
    pub(super) fn poll(&mut self) -> Option<Call> {
        if self.left.is_empty() {
            return None;
        }
        self.asked = take_chunk(&mut self.left);
        Some(Call::Delete { addresses: self.asked.clone() })
    }

    pub(super) fn handle_reply(&mut self, reply: Reply) {
        for (one, answer) in std::mem::take(&mut self.asked).into_iter().zip(reply.each()) {
            if let Err(error) = answer {
                self.failed.push((one, error));
            }
        }
    }

    /// What the kernel kept.
    pub(super) fn into_failed(self) -> Vec<(Assignment, KernelError)> {
        self.failed
    }
}

/// Takes the next chunk off the end, the next one first.
pub(super) fn take_chunk(left: &mut Vec<Assignment>) -> Vec<Assignment> {
    let mut chunk = left.split_off(left.len().saturating_sub(Adapter::CHUNK));
    chunk.reverse();
    chunk
}
