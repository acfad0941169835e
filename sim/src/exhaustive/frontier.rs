//! The states that are still to be looked at, in the order in which they were found. A large world has
//! more of them than fit into memory beside what is known of all: all but the first and the last lie in
//! files.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, Write};

/// How many bytes of states are kept together.
const SEGMENT: usize = 64 << 20;

/// First in, first out.
pub(super) struct Frontier {
    segment: usize,
    /// Those that are taken next, and how many bytes of them were taken.
    first: Vec<u8>,
    taken: usize,
    /// Those that follow.
    spilled: VecDeque<File>,
    /// And those after that.
    last: Vec<u8>,
}

/// A state to be looked at.
pub(super) struct Waiting<'a> {
    /// Its number.
    pub(super) number: u32,
    /// How many moves it is away from the initial one.
    pub(super) depth: u32,
    /// As [`State::encode`](super::state::State::encode) gives it.
    pub(super) encoded: &'a [u8],
}

impl Default for Frontier {
    fn default() -> Self {
        Frontier {
            segment: SEGMENT,
            first: Vec::new(),
            taken: 0,
            spilled: VecDeque::new(),
            last: Vec::new(),
        }
    }
}

impl Frontier {
    /// Adds a state.
    ///
    /// # Errors
    /// When there is no room for it on disk.
    pub(super) fn push(&mut self, number: u32, depth: u32, encoded: &[u8]) -> io::Result<()> {
        let len = u32::try_from(encoded.len()).expect("a state is small");
        for head in [number, depth, len] {
            self.last.extend(head.to_le_bytes());
        }
        self.last.extend(encoded);
        if self.last.len() >= self.segment {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.last)?;
            self.spilled.push_back(file);
            self.last.clear();
        }
        Ok(())
    }

    /// Takes the first one.
    ///
    /// # Errors
    /// When it cannot be read from disk.
    pub(super) fn pop(&mut self) -> io::Result<Option<Waiting<'_>>> {
        if self.taken == self.first.len() {
            self.first.clear();
            self.taken = 0;
            match self.spilled.pop_front() {
                Some(mut file) => {
                    file.rewind()?;
                    file.read_to_end(&mut self.first)?;
                }
                None => std::mem::swap(&mut self.first, &mut self.last),
            }
        }
        if self.first.is_empty() {
            return Ok(None);
        }
        let [number, depth, len] = std::array::from_fn(|_| self.head());
        let from = self.taken;
        self.taken += len as usize;
        Ok(Some(Waiting { number, depth, encoded: &self.first[from..self.taken] }))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.first.len() && self.spilled.is_empty() && self.last.is_empty()
    }

    fn head(&mut self) -> u32 {
        let (bytes, _) = self.first[self.taken..].split_first_chunk().expect("whole states");
        self.taken += bytes.len();
        u32::from_le_bytes(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_taken_in_the_order_in_which_they_came_from_memory_and_from_disk() {
        for segment in [1, 40, SEGMENT] {
            let mut frontier = Frontier { segment, ..Frontier::default() };
            let (mut pushed, mut popped) = (0_u32, 0_u32);
            for round in 0..50 {
                for _ in 0..=round % 7 {
                    frontier.push(pushed, pushed / 2, &vec![1; pushed as usize % 5]).unwrap();
                    pushed += 1;
                }
                for _ in 0..round % 5 {
                    if let Some(Waiting { number, depth, encoded }) = frontier.pop().unwrap() {
                        let expected = (popped, popped / 2, popped as usize % 5);
                        assert_eq!((number, depth, encoded.len()), expected);
                        popped += 1;
                    }
                }
            }
            while let Some(waiting) = frontier.pop().unwrap() {
                assert_eq!(waiting.number, popped);
                popped += 1;
            }
            assert!(popped == pushed && pushed > 100 && frontier.is_empty());
        }
    }
}
