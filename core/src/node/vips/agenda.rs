//! The VIPs about which something may have to be done, and when others come due.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::lease::ANNOUNCE_AGAIN_AFTER;
use crate::node::own::VipIndex;
use crate::node::reload::Moved;
use crate::time::Instant;

/// Which VIPs to look at now, and which later.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Agenda {
    dirty: BTreeSet<VipIndex>,
    /// Those whose transaction waits until others are answered, or until something is taken away.
    crowded_out: BTreeSet<VipIndex>,
    due: BTreeSet<(Instant, VipIndex)>,
    announcements: BTreeSet<(Instant, VipIndex)>,
    /// When those that stay are announced again.
    repetitions: BTreeSet<(Instant, VipIndex)>,
}

impl Agenda {
    pub(super) fn mark_dirty(&mut self, vips: impl IntoIterator<Item = VipIndex>) {
        self.dirty.extend(vips);
    }

    pub(super) fn mark_all_dirty(&mut self, count: usize) {
        self.crowded_out.clear();
        self.dirty.extend(0..count);
    }

    /// Looks at VIP `index` again at `at`. Looking once too often does no harm.
    pub(super) fn wake(&mut self, index: VipIndex, at: Instant) {
        self.due.insert((at, index));
    }

    /// There is no room for a transaction about them now.
    pub(super) fn crowd_out(&mut self, vips: &[VipIndex]) {
        self.crowded_out.extend(vips);
    }

    /// Another transaction may be sent.
    pub(super) fn look_at_crowded_out(&mut self) {
        self.dirty.append(&mut self.crowded_out);
    }

    /// Another configuration holds: what is known of VIPs that stay goes with them.
    pub(super) fn moved(&mut self, moved: &Moved) {
        let all = |set: &mut BTreeSet<(Instant, VipIndex)>| {
            let old = std::mem::take(set).into_iter();
            *set = old.filter_map(|(at, index)| Some((at, moved.to(index)?))).collect();
        };
        self.dirty.clear();
        self.crowded_out.clear();
        [&mut self.due, &mut self.announcements, &mut self.repetitions].into_iter().for_each(all);
    }

    pub(super) fn take_all_repetitions(&mut self) {
        self.repetitions.clear();
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, VipIndex)>| set.first().map(|(at, _)| *at);
        let sets = [&self.due, &self.announcements, &self.repetitions];
        sets.into_iter().filter_map(first).min()
    }

    /// Those that are due now become dirty.
    pub(super) fn wake_due(&mut self, now: Instant) {
        self.dirty.extend(take_due(&mut self.due, now));
    }

    pub(super) fn dirty(&self) -> &BTreeSet<VipIndex> {
        &self.dirty
    }

    pub(super) fn take_dirty(&mut self) -> BTreeSet<VipIndex> {
        std::mem::take(&mut self.dirty)
    }

    /// Announces a VIP now, and twice more.
    pub(super) fn announce_from(&mut self, index: VipIndex, now: Instant) {
        self.announcements.insert((now, index));
        for after in ANNOUNCE_AGAIN_AFTER {
            self.announcements.insert((now + after, index));
        }
    }

    /// Announces it now, and not twice more.
    pub(super) fn announce_once(&mut self, index: VipIndex, now: Instant) {
        self.announcements.insert((now, index));
    }

    pub(super) fn take_announcements(&mut self, now: Instant) -> BTreeSet<VipIndex> {
        take_due(&mut self.announcements, now).collect()
    }

    /// Has a VIP that stays until then announced again at `at`.
    pub(super) fn repeat_at(&mut self, index: VipIndex, at: Instant) {
        self.repetitions.insert((at, index));
    }

    pub(super) fn take_repetitions(&mut self, now: Instant) -> BTreeSet<VipIndex> {
        take_due(&mut self.repetitions, now).collect()
    }
}

fn take_due(
    set: &mut BTreeSet<(Instant, VipIndex)>,
    now: Instant,
) -> impl Iterator<Item = VipIndex> + use<> {
    // As a rule none is, and there may be many.
    let due = match set.first() {
        Some((at, _)) if *at <= now => {
            let later = set.split_off(&(now + Duration::from_nanos(1), 0));
            std::mem::replace(set, later)
        }
        _ => BTreeSet::new(),
    };
    due.into_iter().map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_due_becomes_dirty_once_and_the_rest_later() {
        let (mut agenda, start) = (Agenda::default(), Instant::from_nanos(1));
        agenda.wake(7, start);
        agenda.wake(8, start + SECOND);
        agenda.wake_due(start);
        assert_eq!(agenda.take_dirty(), BTreeSet::from([7]));
        assert_eq!(agenda.next(), Some(start + SECOND));
    }

    #[test]
    fn who_was_crowded_out_is_looked_at_when_there_is_room_and_with_all_others() {
        let mut agenda = Agenda::default();
        agenda.crowd_out(&[3]);
        assert!(agenda.dirty().is_empty());
        agenda.look_at_crowded_out();
        assert_eq!(agenda.take_dirty(), BTreeSet::from([3]));
        agenda.crowd_out(&[3]);
        agenda.mark_all_dirty(2);
        agenda.look_at_crowded_out();
        assert_eq!(agenda.take_dirty(), BTreeSet::from([0, 1]));
    }

    #[test]
    fn an_address_is_announced_at_once_and_twice_more() {
        let (mut agenda, start) = (Agenda::default(), Instant::from_nanos(1));
        agenda.announce_from(4, start);
        assert_eq!(agenda.take_announcements(start), BTreeSet::from([4]));
        assert_eq!(agenda.next(), Some(start + SECOND));
        assert_eq!(agenda.take_announcements(start + 3 * SECOND), BTreeSet::from([4]));
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn a_repetition_is_due_at_its_time_and_not_twice() {
        let (mut agenda, start) = (Agenda::default(), Instant::from_nanos(1));
        for _ in 0..2 {
            agenda.repeat_at(4, start + SECOND);
        }
        agenda.repeat_at(5, start + 2 * SECOND);
        assert_eq!(agenda.next(), Some(start + SECOND));
        assert!(agenda.take_repetitions(start).is_empty());
        assert_eq!(agenda.take_repetitions(start + SECOND), BTreeSet::from([4]));
        assert_eq!(agenda.next(), Some(start + 2 * SECOND));
    }
}
