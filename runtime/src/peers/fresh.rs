//! Which authentic heartbeats are new: not doubled, not overtaken, and not recorded earlier and sent again.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use turnip_core::{Heartbeat, NodeName};

use super::wire::{Echo, Echoes};

/// Processes of a node, beside the one that is taken, that are remembered: one of them may be its next
/// one, the others are of before, and somebody sends again what they once sent.
const CANDIDATES_MAX: usize = 8;

/// What was received of each node.
#[derive(Debug)]
pub struct Received {
    /// This process.
    process: u64,
    /// Own heartbeats that an echo may name for its sender to count as one that hears this node.
    sent: VecDeque<(u64, Instant)>,
    /// For how long.
    hearing: Duration,
    senders: BTreeMap<NodeName, Sender>,
}

#[derive(Debug, Default)]
struct Sender {
    /// The process whose heartbeats are taken, with the number of its last one.
    taken: Option<Echo>,
    /// The highest number of an own heartbeat that a heartbeat taken of this sender echoed.
    echoed: u64,
    /// What came last of other processes: they are told in turns.
    candidates: VecDeque<Echo>,
    /// When one was taken last.
    heard: Option<Instant>,
}

impl Received {
    /// Nothing yet, by the process `process`. An echo older than `hearing` shows that its datagram was held
    /// back, or that its sender hears this node no more.
    pub fn new(process: u64, hearing: Duration) -> Self {
        Received { process, sent: VecDeque::new(), hearing, senders: BTreeMap::new() }
    }

    /// The own heartbeat of that number is sent.
    pub fn sends(&mut self, number: u64, now: Instant) {
        if self.sent.back().is_some_and(|(last, _)| number <= *last) {
            return;
        }
        while self.sent.front().is_some_and(|(_, sent)| now - *sent >= self.hearing) {
            self.sent.pop_front();
        }
        self.sent.push_back((number, now));
    }

    /// Whether what came with that echo was made after a heartbeat of this process that was sent lately.
    pub fn is_lately(&self, echoes: Echoes, now: Instant) -> bool {
        let Some(echoed) = self.echoed(echoes) else { return false };
        let sent = self.sent.iter().find(|(number, _)| *number == echoed);
        sent.is_some_and(|(_, sent)| now - *sent < self.hearing)
    }

    /// The own heartbeat that is echoed.
    fn echoed(&self, echoes: Echoes) -> Option<u64> {
        let own = echoes.into_iter().flatten().filter(|echo| echo.process == self.process);
        own.map(|echo| echo.number).max()
    }

    /// An authentic heartbeat came in. Whether it is new.
    ///
    /// Within a process the number has to grow; what was overtaken says nothing that the later one did
    /// not. Another process than the one before has to show that it lives now: it echoes a heartbeat
    /// that was made after each that its predecessor echoed, and by this very process. What was recorded
    /// of an earlier process of the sender, or for one of this node, echoes none.
    pub fn is_new(
        &mut self,
        node: &NodeName,
        heartbeat: &Heartbeat,
        echoes: Echoes,
        now: Instant,
    ) -> bool {
        let this = Echo { process: heartbeat.process, number: heartbeat.number };
        let echoed = self.echoed(echoes).unwrap_or(0);
        let sender = self.senders.entry(node.clone()).or_default();
        let is_taken = sender.taken.is_some_and(|taken| taken.process == this.process);
        let is_new = match sender.taken {
            Some(taken) if is_taken => this.number > taken.number,
            _ => echoed > sender.echoed,
        };
        if is_new {
            if !is_taken {
                sender.candidates.clear();
            }
            sender.taken = Some(this);
            sender.echoed = sender.echoed.max(echoed);
            sender.heard = Some(now);
        } else if !is_taken {
            sender.candidates.retain(|candidate| candidate.process != this.process);
            sender.candidates.push_back(this);
            if sender.candidates.len() > CANDIDATES_MAX {
                sender.candidates.pop_front();
            }
        }
        is_new
    }

    /// What the own heartbeat of that number echoes to `node`.
    pub fn echoes(&self, node: &NodeName, number: u64) -> Echoes {
        let Some(Sender { taken, candidates, .. }) = self.senders.get(node) else {
            return [None, None];
        };
        let turn = number.checked_rem(candidates.len() as u64).unwrap_or(0);
        [*taken, candidates.get(turn as usize).copied()]
    }

    /// When each node was heard last, of those that were.
    pub fn heard(&self) -> BTreeMap<NodeName, Instant> {
        let heard = |(node, sender): (&NodeName, &Sender)| Some((node.clone(), sender.heard?));
        self.senders.iter().filter_map(heard).collect()
    }
}

#[cfg(test)]
mod tests {
    use turnip_core::{Revision, SessionId};

    use super::*;

    const LATELY: Duration = Duration::from_secs(3);
    const OWN: u64 = 1;
    const THEIRS: u64 = 2;

    fn node() -> NodeName {
        "b".parse().unwrap()
    }

    fn comes(received: &mut Received, process: u64, number: u64, echo: Option<(u64, u64)>) -> bool {
        let heartbeat = Heartbeat {
            session: SessionId(Revision(5)),
            process,
            number,
            modified: Revision(5),
            complete_to: Revision(5),
        };
        let echo = echo.map(|(process, number)| Echo { process, number });
        received.is_new(&node(), &heartbeat, [None, echo], Instant::now())
    }

    #[test]
    fn a_process_is_taken_once_it_has_echoed_one_of_ours_and_we_echo_it_before_that() {
        let mut received = Received::new(OWN, LATELY);
        assert!(!comes(&mut received, THEIRS, 1, None));
        let first = Echo { process: THEIRS, number: 1 };
        assert_eq!(received.echoes(&node(), 1), [None, Some(first)]);
        assert!(received.heard().is_empty());
        assert!(!comes(&mut received, THEIRS, 2, Some((OWN + 1, 9))), "of an earlier process");
        assert!(comes(&mut received, THEIRS, 3, Some((OWN, 1))));
        assert!(comes(&mut received, THEIRS, 4, None), "once taken, it is known");
        assert!(received.heard().contains_key(&node()));
    }

    /// Whoever is on the path may hold heartbeats back, and let them pass one by one when their sender is dead.
    #[test]
    fn what_was_held_back_names_no_heartbeat_that_was_sent_lately() {
        let (mut received, now) = (Received::new(OWN, LATELY), Instant::now());
        received.sends(1, now);
        received.sends(2, now + LATELY / 2);
        let echo = |process, number| [Some(Echo { process, number }), None];
        assert!(received.is_lately(echo(OWN, 1), now + LATELY / 2));
        assert!(!received.is_lately(echo(OWN, 1), now + LATELY), "too old");
        assert!(received.is_lately(echo(OWN, 2), now + LATELY));
        received.sends(3, now + LATELY);
        assert!(!received.is_lately(echo(OWN, 4), now + LATELY), "never sent");
        assert!(!received.is_lately(echo(THEIRS, 3), now + LATELY), "another process's");
        assert!(!received.is_lately([None, None], now + LATELY));
    }

    #[test]
    fn what_comes_twice_or_was_overtaken_is_not_new() {
        let mut received = Received::new(OWN, LATELY);
        assert!(comes(&mut received, THEIRS, 5, Some((OWN, 1))));
        assert!(!comes(&mut received, THEIRS, 5, Some((OWN, 1))));
        assert!(!comes(&mut received, THEIRS, 4, Some((OWN, 1))));
        assert_eq!(received.echoes(&node(), 1), [Some(Echo { process: THEIRS, number: 5 }), None]);
        assert!(comes(&mut received, THEIRS, 7, Some((OWN, 2))), "6 was lost");
    }

    #[test]
    fn a_restarted_process_takes_over_and_what_was_recorded_of_the_one_before_does_not() {
        let (mut received, next) = (Received::new(OWN, LATELY), THEIRS + 1);
        assert!(comes(&mut received, THEIRS, 50, Some((OWN, 10))));
        assert!(!comes(&mut received, next, 1, None));
        assert!(!comes(&mut received, next, 2, Some((OWN, 10))), "the one before echoed that too");
        assert!(comes(&mut received, next, 3, Some((OWN, 11))));
        for number in [49, 50, 51] {
            assert!(!comes(&mut received, THEIRS, number, Some((OWN, 10))));
        }
        assert!(comes(&mut received, next, 4, Some((OWN, 12))), "the living one goes on");
    }

    /// Whoever was on the path once may send again what many earlier processes of the node have sent.
    #[test]
    fn what_is_sent_again_hides_neither_the_living_process_nor_the_one_that_takes_its_place() {
        let (mut received, next) = (Received::new(OWN, LATELY), 100);
        assert!(comes(&mut received, THEIRS, 5, Some((OWN, 1))));
        let dead = 10..10 + CANDIDATES_MAX as u64 + 3;
        let mut is_echoed = |process: u64, at: u64| {
            dead.clone().for_each(|dead| assert!(!comes(&mut received, dead, 9, None)));
            assert!(comes(&mut received, process, 6, None) == (process == THEIRS));
            let echoed = received.echoes(&node(), at).into_iter().flatten();
            echoed.map(|echo| echo.process).any(|echoed| echoed == process)
        };
        assert!(is_echoed(THEIRS, 7));
        let turns = (8..8 + CANDIDATES_MAX as u64).filter(|at| is_echoed(next, *at));
        assert_eq!(turns.count(), 1, "each has its turn");
    }
}
