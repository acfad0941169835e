//! Since when nobody has held a VIP, as far as this node knows, and what made it so: for people and
//! programs that are told how long a gap was. Nothing is decided by it.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::Vips;
use super::state::State;
use crate::name::SessionId;
use crate::node::own::{Own, VipIndex};
use crate::node::situation::Situation;
use crate::time::Instant;
use crate::transition::Arrival;
use crate::view::View;

/// A time without a holder; none while somebody holds the VIP, or when nobody is known to have.
///
/// Vacancies are all equal: nodes that differ in nothing else do the same.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Vacancy(Option<(Arrival, Instant)>);

impl PartialEq for Vacancy {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Vacancy {}

impl Hash for Vacancy {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Vacancy {
    /// It began then, in this way, whatever was known before.
    fn begin(&mut self, how: Arrival, since: Instant) {
        self.0 = Some((how, since));
    }

    /// The same, unless it has begun already.
    fn begin_at_the_latest(&mut self, how: Arrival, since: Instant) {
        self.0.get_or_insert((how, since));
    }

    /// How the VIP comes, if it comes now.
    pub(super) fn arrival(&self) -> Arrival {
        self.0.map_or(Arrival::Free, |(how, _)| how)
    }

    fn end(&mut self) {
        self.0 = None;
    }

    /// It ends here and now: how the VIP came, and how long nobody had it.
    pub(super) fn filled(&mut self, now: Instant) -> (Arrival, Option<Duration>) {
        match self.0.take() {
            Some((how, since)) => (how, Some(now.since(since))),
            None => (Arrival::Free, None),
        }
    }
}

impl Vips {
    /// A session is gone, of which the last sign of life came then: what it owned has no holder since.
    pub(in crate::node) fn orphaned(
        &mut self,
        own: &Own,
        view: &View,
        session: SessionId,
        last_heard: Option<Instant>,
    ) {
        let Some(last_heard) = last_heard else { return };
        for index in view.vips_of(session).filter_map(|vip| own.index_of(vip)) {
            self.vips[index].vacancy.begin(Arrival::Expired, last_heard);
        }
    }

    /// This node expires a session, of which the last sign of life came then, and claims these VIPs of it.
    pub(super) fn about_to_inherit(&mut self, vips: &[VipIndex], last_heard: Instant) {
        for &index in vips {
            self.vips[index].vacancy.begin(Arrival::Expired, last_heard);
        }
    }

    /// `vips/<vip>` is another one, or a transaction about it was answered.
    pub(in crate::node) fn named(&mut self, situation: &Situation<'_>, index: VipIndex) {
        let Situation { own, now, .. } = situation;
        let is_owned = situation.owned(index).is_some();
        let is_elsewhere = situation.owner(index).is_some_and(|owner| owner != own.name());
        let is_absent = situation.vip_key(index).is_none();
        let other_owner = situation.owner(index).filter(|_| is_elsewhere).cloned();
        let vip = &mut self.vips[index];
        if other_owner.is_some() {
            vip.hooks.other_owner = other_owner;
        }
        if is_elsewhere {
            vip.vacancy.end();
        } else if is_owned && vip.state == State::Absent {
            vip.vacancy.begin_at_the_latest(Arrival::HandedOver, *now);
        } else if is_absent && !vip.state.may_be_there() {
            vip.vacancy.begin_at_the_latest(Arrival::Free, *now);
        }
    }

    /// The kernel has taken a VIP away that was here.
    pub(super) fn vacated(&mut self, index: VipIndex, now: Instant) {
        self.vips[index].vacancy.begin_at_the_latest(Arrival::Returned, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_gap_lasts_from_what_began_it_until_the_vip_is_held() {
        let mut vacancy = Vacancy::default();
        vacancy.begin_at_the_latest(Arrival::Free, START + SECOND);
        vacancy.begin(Arrival::Expired, START);
        vacancy.begin_at_the_latest(Arrival::HandedOver, START + 2 * SECOND);
        let filled = vacancy.filled(START + 3 * SECOND);
        assert_eq!(filled, (Arrival::Expired, Some(3 * SECOND)));
        assert_eq!(vacancy.filled(START + 4 * SECOND), (Arrival::Free, None), "it had a holder");
    }

    #[test]
    fn nodes_that_differ_in_it_alone_are_equal() {
        let mut begun = Vacancy::default();
        begun.begin(Arrival::Expired, START);
        assert_eq!(begun, Vacancy::default());
    }
}
