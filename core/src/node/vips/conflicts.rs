//! Other machines that say that they have an address which is held here (rule 8.18).
//!
//! The protocol knows of turnip's hosts alone. Whoever else has the address takes clients away, and nothing
//! here can stop that: it is reported, and announced against where that is configured. It is never a reason
//! to give the address up, for then anybody on the network could take it.

use std::collections::BTreeMap;

use super::Vips;
use super::state::State;
use crate::kernel::{Conflict, Mac};
use crate::lease::{CONFLICT_OVER_AFTER, DEFEND_AGAIN_AFTER};
use crate::node::outbox::Outbox;
use crate::node::own::{Own, VipIndex};
use crate::node::reload::Moved;
use crate::report::Report;
use crate::time::Instant;

/// So many claims are remembered: hardware addresses can be made up.
const CLAIMS_MAX: usize = 64;

/// What was heard.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Conflicts {
    /// When each machine was last heard to claim a VIP.
    claims: BTreeMap<(VipIndex, Mac), Instant>,
    /// When each VIP was last announced against that.
    defended: BTreeMap<VipIndex, Instant>,
}

impl Conflicts {
    /// Takes note of a claim; whether it is news.
    fn is_news(&mut self, index: VipIndex, mac: Mac, now: Instant) -> bool {
        if let Some(heard) = self.claims.get_mut(&(index, mac)) {
            let was_over = now.since(*heard) >= CONFLICT_OVER_AFTER;
            *heard = now;
            return was_over;
        }
        if self.claims.len() >= CLAIMS_MAX {
            self.claims.retain(|_, heard| now.since(*heard) < CONFLICT_OVER_AFTER);
        }
        let has_room = self.claims.len() < CLAIMS_MAX;
        if has_room {
            self.claims.insert((index, mac), now);
        }
        has_room
    }

    /// Another configuration holds: what was heard of VIPs that stay goes with them.
    pub(super) fn moved(&mut self, moved: &Moved) {
        let claims = std::mem::take(&mut self.claims).into_iter();
        let to = |((index, mac), at)| Some(((moved.to(index)?, mac), at));
        self.claims = claims.filter_map(to).collect();
        self.defended = moved.map(std::mem::take(&mut self.defended));
    }

    /// Whether to announce the VIP against it. Once in a while only: two machines that answer each other
    /// at once never stop.
    fn may_defend(&mut self, index: VipIndex, now: Instant) -> bool {
        if self.defended.get(&index).is_some_and(|at| now.since(*at) < DEFEND_AGAIN_AFTER) {
            return false;
        }
        self.defended.insert(index, now);
        true
    }
}

impl Vips {
    /// Another machine claims an address that is here.
    pub(in crate::node) fn claimed_by_another(
        &mut self,
        own: &Own,
        conflict: &Conflict,
        out: &mut Outbox,
        now: Instant,
    ) {
        let Conflict { assignment, heard_on, mac } = conflict;
        let index = own.index_by_assignment(&assignment.interface, assignment.address);
        // What is not held any more may have been the other one's by then.
        let Some(index) = index.filter(|index| self.vips[*index].state == State::Held) else {
            return;
        };
        if self.conflicts.is_news(index, *mac, now) {
            self.run_on_conflict(own, index, conflict);
            let (assignment, heard_on) = (assignment.clone(), heard_on.clone());
            out.report(Report::Conflict { assignment, heard_on, mac: *mac });
        }
        if own.vip(index).defend && self.conflicts.may_defend(index, now) {
            self.agenda.announce_once(index, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Instant = Instant::from_nanos(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn mac(number: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, number])
    }

    #[test]
    fn a_machine_is_news_once_until_it_has_been_silent_for_long() {
        let mut conflicts = Conflicts::default();
        assert!(conflicts.is_news(0, mac(1), START));
        assert!(conflicts.is_news(0, mac(2), START), "another one");
        assert!(conflicts.is_news(1, mac(1), START), "another VIP");
        let mut now = START;
        for _ in 0..20 {
            now += CONFLICT_OVER_AFTER - SECOND;
            assert!(!conflicts.is_news(0, mac(1), now), "it goes on");
        }
        assert!(conflicts.is_news(0, mac(1), now + CONFLICT_OVER_AFTER));
    }

    #[test]
    fn machines_that_are_made_up_are_not_remembered_without_end() {
        let mut conflicts = Conflicts::default();
        let news = |conflicts: &mut Conflicts, now| {
            (0..=u8::MAX).filter(|number| conflicts.is_news(0, mac(*number), now)).count()
        };
        assert_eq!(news(&mut conflicts, START), CLAIMS_MAX);
        assert_eq!(news(&mut conflicts, START + SECOND), 0);
        assert_eq!(news(&mut conflicts, START + 2 * CONFLICT_OVER_AFTER), CLAIMS_MAX);
    }

    #[test]
    fn a_vip_is_defended_once_in_ten_seconds() {
        let mut conflicts = Conflicts::default();
        assert!(conflicts.may_defend(0, START));
        assert!(conflicts.may_defend(1, START));
        assert!(!conflicts.may_defend(0, START + DEFEND_AGAIN_AFTER - SECOND));
        assert!(conflicts.may_defend(0, START + DEFEND_AGAIN_AFTER));
        assert!(!conflicts.may_defend(0, START + DEFEND_AGAIN_AFTER + SECOND));
    }
}
