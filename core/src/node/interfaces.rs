//! The host's interfaces, and asking the kernel what is there (rules 6 and 7).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::outbox::{Outbox, PendingOp};
use super::own::Own;
use crate::action::OpId;
use crate::kernel::{Assignment, KernelOp, Link, Listing, PresentAddress};
use crate::lease::{LIST_AGAIN_AFTER, REMOVE_AGAIN_AFTER};
use crate::name::VipName;
use crate::report::Report;
use crate::time::Instant;
use crate::timer::Timer;

/// Which interfaces there are, and how far the kernel has been asked.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Interfaces {
    /// By name.
    links: BTreeMap<Arc<str>, Link>,
    /// The kernel has been listed, and strays of an earlier configuration are gone.
    ready: bool,
    /// It has been listed since the interfaces of VIPs were known.
    listed: bool,
    listing: Option<OpId>,
    list_again: bool,
}

impl Interfaces {
    /// The interface; none when it does not exist.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.get(name)
    }

    /// Whether the kernel has been listed, and strays of an earlier configuration are gone.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Asks the kernel what is there; again after the listing that is under way.
    pub(super) fn list(&mut self, out: &mut Outbox) {
        if self.listing.is_some() {
            self.list_again = true;
            return;
        }
        self.listing = Some(out.kernel(PendingOp::List, KernelOp::List));
    }

    /// VIPs may be on other interfaces than before: the next listing says how all are.
    pub(super) fn look_at_all_again(&mut self) {
        self.listed = false;
    }

    /// The same in a while, where what was listed is older than what was done since.
    pub(super) fn list_soon(&self, out: &mut Outbox, now: Instant) {
        if self.ready {
            out.timers.set_earlier(Timer::List, now + REMOVE_AGAIN_AFTER);
        }
    }

    /// The kernel did not say what is there.
    pub(super) fn list_failed(&mut self, out: &mut Outbox, now: Instant) {
        self.listing = None;
        out.timers.set(Timer::List, now + LIST_AGAIN_AFTER);
    }

    /// The kernel said what is there; gives the interfaces of VIPs that are otherwise than they were
    /// known.
    pub(super) fn listed(
        &mut self,
        own: &Own,
        listing: &Listing,
        out: &mut Outbox,
    ) -> Vec<Arc<str>> {
        self.listing = None;
        if std::mem::take(&mut self.list_again) {
            self.list(out);
        }
        let links =
            listing.links.iter().map(|link| (Arc::clone(&link.name), link.clone())).collect();
        let before = std::mem::replace(&mut self.links, links);
        let first = !std::mem::replace(&mut self.listed, true);
        let differs = |name: &&Arc<str>| first || before.get(*name) != self.links.get(*name);
        own.interfaces().filter(differs).cloned().collect()
    }

    /// An interface appeared, went up or down; whether that is news.
    pub(super) fn link_changed(&mut self, link: &Link) -> bool {
        // A listing under way may have read the links before.
        self.list_again |= self.listing.is_some();
        self.links.insert(Arc::clone(&link.name), link.clone()).as_ref() != Some(link)
    }

    /// An interface is gone; whether that is news.
    pub(super) fn link_gone(&mut self, name: &str) -> bool {
        self.list_again |= self.listing.is_some();
        self.links.remove(name).is_some()
    }

    /// Takes away what carries turnip's mark and is not in today's configuration (rule 6.1).
    pub(super) fn withdraw_strays(&mut self, strays: &[PresentAddress], out: &mut Outbox) {
        if strays.is_empty() {
            self.ready = true;
            return;
        }
        let Ok(vip) = "stray".parse::<VipName>() else { return };
        let addresses: Vec<Assignment> = strays
            .iter()
            .map(|stray| Assignment {
                vip: vip.clone(),
                interface: Arc::clone(&stray.interface),
                address: stray.address,
            })
            .collect();
        for assignment in addresses.iter().cloned() {
            out.report(Report::Stray { assignment });
        }
        let pending = PendingOp::WithdrawStrays(addresses.clone());
        out.kernel(pending, KernelOp::Withdraw { addresses });
    }

    /// The kernel has taken strays away; `failed` is the first that it has not, and why.
    pub(super) fn strays_withdrawn(
        &mut self,
        failed: Option<(&Assignment, String)>,
        out: &mut Outbox,
        now: Instant,
    ) {
        match failed {
            None => self.ready = true,
            Some((assignment, error)) => {
                let why = format!("{assignment} is not removed: {error}");
                out.report(Report::KernelFails { vip: assignment.vip.clone(), why });
                out.timers.set(Timer::List, now + LIST_AGAIN_AFTER);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;
    use crate::node::testing;

    fn asked(out: &mut Outbox) -> usize {
        std::iter::from_fn(|| out.pop()).filter(|a| matches!(a, Action::Kernel { .. })).count()
    }

    #[test]
    fn one_listing_at_a_time_and_another_after_it_when_it_may_be_outdated() {
        let (own, mut out) = (testing::own_with_vips(1), Outbox::default());
        let mut interfaces = Interfaces::default();
        interfaces.list(&mut out);
        interfaces.list(&mut out);
        assert_eq!(asked(&mut out), 1);
        interfaces.listed(&own, &Listing::default(), &mut out);
        assert_eq!(asked(&mut out), 1, "the second");
        interfaces.link_changed(&Link { name: "eth0".into(), up: true, carrier: true });
        interfaces.listed(&own, &Listing::default(), &mut out);
        assert_eq!(asked(&mut out), 1, "it may have read the links before that");
    }

    #[test]
    fn only_interfaces_of_vips_that_differ_are_looked_at_after_the_first_listing() {
        let (own, mut out) = (testing::own_with_vips(1), Outbox::default());
        let mut interfaces = Interfaces::default();
        let listing = |up| {
            let link = |name: &str, up| Link { name: name.into(), up, carrier: true };
            Listing { addresses: Vec::new(), links: vec![link("eth0", up), link("eth9", up)] }
        };
        assert_eq!(interfaces.listed(&own, &listing(true), &mut out), ["eth0".into()]);
        assert!(interfaces.listed(&own, &listing(true), &mut out).is_empty());
        assert_eq!(interfaces.listed(&own, &listing(false), &mut out), ["eth0".into()]);
    }
}
