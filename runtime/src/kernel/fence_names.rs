//! The names of interfaces in the fence: core's are those that are configured, nftables' the interfaces' own.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use turnip_core::Assignment;
use turnip_core::adapter::{Change, FenceContents, Fenced, Transaction};

use super::configured::OwnNames;

/// Translates for one fence. Without configured link-local addresses there is nothing to translate.
#[derive(Default)]
pub(super) struct FenceNames {
    by_interface: ByInterface,
    own_names: OwnNames,
    /// How often names had changed when the fence was last read.
    seen: u64,
}

/// The addresses that are fenced by their interface: those that are configured, or were. Clones are the
/// same.
#[derive(Clone, Default)]
pub(super) struct ByInterface(Arc<Mutex<BTreeSet<Fenced>>>);

impl ByInterface {
    /// These are configured as well.
    pub fn extend<'a>(&self, configured: impl IntoIterator<Item = &'a Assignment>) {
        let by_interface = |one: &Fenced| matches!(one, Fenced::On(..));
        self.lock().extend(configured.into_iter().map(Fenced::from).filter(by_interface));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Fenced>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FenceNames {
    pub fn new<'a>(
        configured: impl IntoIterator<Item = &'a Assignment>,
        own_names: OwnNames,
    ) -> Self {
        let by_interface = ByInterface::default();
        by_interface.extend(configured);
        FenceNames { by_interface, own_names, seen: 0 }
    }

    /// The addresses that are fenced by their interface.
    pub fn by_interface(&self) -> ByInterface {
        self.by_interface.clone()
    }

    /// Whether there is anything to translate.
    pub fn are_needed(&self) -> bool {
        !self.by_interface.lock().is_empty()
    }

    /// Whether an interface may have got another name since the fence was read: what is fenced there has to
    /// be so under its new one.
    pub fn have_changed(&self) -> bool {
        self.are_needed() && self.seen != self.own_names.changes()
    }

    /// The fence is about to be read.
    pub fn look(&mut self) {
        self.seen = self.own_names.changes();
    }

    /// The transaction with the interfaces' own names.
    pub fn to_kernel<'a>(&self, transaction: &'a Transaction) -> Cow<'a, Transaction> {
        if !self.are_needed() {
            return Cow::Borrowed(transaction);
        }
        let mut translated = transaction.clone();
        for change in &mut translated.changes {
            if let Change::Layout { vips: all }
            | Change::LayoutAnew { vips: all }
            | Change::DeleteVips(all)
            | Change::AddHeld(all)
            | Change::DeleteHeld(all) = change
            {
                all.iter_mut().for_each(|one| *one = self.own(one));
            }
        }
        Cow::Owned(translated)
    }

    /// The contents with the names that are configured.
    pub fn to_core(&self, mut contents: FenceContents) -> FenceContents {
        let by_interface = self.by_interface.lock().clone();
        let configured: HashMap<Fenced, &Fenced> =
            by_interface.iter().map(|one| (self.own(one), one)).collect();
        if !configured.is_empty() {
            let back = |found: &Fenced| (*configured.get(found).unwrap_or(&found)).clone();
            let translate = |all: &BTreeSet<Fenced>| all.iter().map(back).collect();
            contents.vips = translate(&contents.vips);
            contents.held = translate(&contents.held);
        }
        contents
    }

    fn own(&self, fenced: &Fenced) -> Fenced {
        match fenced {
            Fenced::On(interface, address) => Fenced::On(self.own_names.of(interface), *address),
            Fenced::Anywhere(_) => fenced.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::LinkState;
    use super::super::devices::tests::on;
    use super::*;

    #[test]
    fn nftables_is_given_the_interfaces_own_name_and_core_the_configured_one() {
        let names = OwnNames::default();
        let called = |own: &str| {
            let other_names = vec!["the-bridge-of-the-guests".into()];
            names.learn(&LinkState { other_names, ..LinkState::example(7, own) });
        };
        called("br100");
        let gateway = on("the-bridge-of-the-guests", "fe80::1/64");
        let mut fence = FenceNames::new([&gateway], names.clone());
        fence.look();
        assert!(!fence.have_changed());
        let core = Fenced::from(&gateway);
        let on_bridge = |name: &str| Fenced::On(name.into(), "fe80::1".parse().unwrap());
        let elsewhere = on_bridge("br200");
        let changes = vec![Change::AddHeld(vec![core.clone(), elsewhere.clone()])];
        let sent = fence.to_kernel(&Transaction { guarded: true, changes }).into_owned().changes;
        assert_eq!(sent, [Change::AddHeld(vec![on_bridge("br100"), elsewhere.clone()])]);
        let held = [on_bridge("br100"), elsewhere.clone()].into();
        let read = fence.to_core(FenceContents { held, ..FenceContents::default() });
        assert_eq!(read.held, [core, elsewhere].into());
        called("br7");
        assert!(fence.have_changed(), "it is fenced under its former name");
    }
}
