//! What has begun and has not ended. What two faults do at once lasts until the later one ends; where they say how
//! much, or to whom, the one that began last holds, and then the other one again.

use turnip_sim::script::{Deed, Verb};

use super::network::numbers;

/// The deeds that are under way, in the order in which they began.
#[derive(Default)]
pub(super) struct UnderWay(Vec<Deed>);

impl UnderWay {
    /// One begins that lasts.
    pub(super) fn begins(&mut self, deed: &Deed) {
        self.0.push(deed.clone());
    }

    /// One ends; of several that are alike, one.
    pub(super) fn ends(&mut self, deed: &Deed) {
        if let Some(number) = self.0.iter().position(|one| one == deed) {
            self.0.remove(number);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Deed> {
        self.0.iter()
    }

    /// Those of a verb.
    pub(super) fn of(&self, verb: Verb) -> impl DoubleEndedIterator<Item = &Deed> {
        self.0.iter().filter(move |deed| deed.verb == verb)
    }

    /// Those of a verb that befall one.
    pub(super) fn on(&self, verb: Verb, one: usize) -> impl DoubleEndedIterator<Item = &Deed> {
        self.of(verb).filter(move |deed| numbers(&deed.whom).contains(&one))
    }

    /// Whether one of these verbs befalls one.
    pub(super) fn befalls(&self, verbs: &[Verb], one: usize) -> bool {
        verbs.iter().any(|&verb| self.on(verb, one).next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use turnip_sim::script::{Details, Target};

    use super::*;

    fn deed(verb: Verb, whom: &[usize]) -> Deed {
        let whom = Target::These(whom.to_vec());
        Deed { verb, whom, other: None, details: Details::default() }
    }

    #[test]
    fn it_lasts_until_the_later_one_ends() {
        let (one, all) = (deed(Verb::PowerOff, &[1]), deed(Verb::PowerOff, &[0, 1, 2]));
        let mut under_way = UnderWay::default();
        under_way.begins(&one);
        under_way.begins(&all);
        under_way.ends(&all);
        assert!(under_way.befalls(&[Verb::PowerOff], 1));
        assert!(!under_way.befalls(&[Verb::PowerOff], 0));
        assert!(!under_way.befalls(&[Verb::StopEtcd], 1));
        under_way.ends(&one);
        assert!(!under_way.befalls(&[Verb::StopEtcd, Verb::PowerOff], 1));
    }

    #[test]
    fn of_two_that_are_alike_one_goes_on() {
        let drain = deed(Verb::Drain, &[0]);
        let mut under_way = UnderWay::default();
        under_way.begins(&drain);
        under_way.begins(&drain);
        under_way.ends(&drain);
        assert!(under_way.befalls(&[Verb::Drain], 0));
        under_way.ends(&drain);
        assert_eq!(under_way.all().count(), 0);
    }

    #[test]
    fn the_last_one_is_the_one_that_began_last() {
        let (mut low, mut high) = (deed(Verb::Reload, &[0]), deed(Verb::Reload, &[0, 1]));
        (low.details.weight, high.details.weight) = (Some(10), Some(90));
        let mut under_way = UnderWay::default();
        under_way.begins(&low);
        under_way.begins(&high);
        let weight = |under_way: &UnderWay| {
            under_way.on(Verb::Reload, 0).last().and_then(|deed| deed.details.weight)
        };
        assert_eq!(weight(&under_way), Some(90));
        under_way.ends(&high);
        assert_eq!(weight(&under_way), Some(10));
    }
}
