//! Carries out the adapter's calls: rtnetlink for addresses and links, nftables for the fence.
//!
//! Where a VIP has other addresses beside it, these say how it is put there, see `beside.rs`. That
//! may take more than one message; it happens within the adapter's call, with the clock read before
//! and after.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use nix::errno::Errno;
use turnip_core::adapter::{Call, Reply, Transaction, TransactionError};
use turnip_core::{Assignment, KernelError, Listing, PresentAddress, VipName};

use super::address::{Found, LinkState, Put, Slot};
use super::companions::Companions;
use super::configured::Configured;
use super::expected::Expected;
use super::fence::Fence;
use super::ipv6_off;
use super::liveness::Liveness;
use super::places::Places;
use super::record::{Entry, Record};
use super::refusal::Refusal;
use super::route::Route;
use super::routes::Routes;
use super::setting::Setting;
use super::subnets::Subnets;
use super::surroundings::Surroundings;
use super::virtual_link::VirtualLinks;

/// How often the addresses are listed anew because one is on an interface that was not there.
const LIST_ATTEMPTS: usize = 8;

/// What is needed to carry out calls.
pub(super) struct Caller {
    pub route: Route,
    /// None where lifetimes are the proof.
    pub fence: Option<Fence>,
    pub configured: Arc<Configured>,
    /// Where what is there was put or found.
    pub places: Places,
    pub record: Record,
    pub expected: Expected,
    pub liveness: Liveness,
    /// Which interfaces keep the other addresses of a subnet when the first goes.
    pub promotion: Setting,
    /// The interfaces with a virtual hardware address.
    pub virtual_links: VirtualLinks,
    pub surroundings: Surroundings,
    pub routes: Routes,
    pub subnets: Subnets,
    /// What comes and goes with VIPs besides addresses.
    pub companions: Arc<Companions>,
}

type Answer = Result<(), KernelError>;

fn entry(assignment: &Assignment) -> Entry {
    (Arc::clone(&assignment.interface), assignment.address)
}

fn refused(error: &io::Error) -> KernelError {
    KernelError::Refused(error.to_string())
}

fn kernel_error(refusal: &Refusal) -> KernelError {
    match Errno::from_raw(refusal.errno) {
        Errno::ENODEV => KernelError::NoInterface,
        _ => KernelError::Refused(refusal.to_string()),
    }
}

/// Carries out a transaction of the fence.
pub(super) fn change(fence: Option<&mut Fence>, transaction: &Transaction) -> Reply {
    let no_fence = || Err(TransactionError::Other("there is no fence".to_owned()));
    let result = fence.map_or_else(no_fence, |fence| fence.change(transaction));
    if let Err(TransactionError::Other(error)) = &result {
        tracing::warn!(%error, "the fence could not be changed");
    }
    Reply::Changed(result)
}

/// Tells what is in the fence.
pub(super) fn read_fence(fence: Option<&mut Fence>) -> Reply {
    let no_fence = || Err(io::Error::other("there is no fence"));
    match fence.map_or_else(no_fence, Fence::read) {
        Ok(contents) => Reply::Fence(contents),
        Err(error) => Reply::Failed(KernelError::Refused(format!("nftables: {error}"))),
    }
}

impl Caller {
    /// Carries out a call, and gives the kernel's answer.
    pub fn perform(&mut self, call: &Call) -> Reply {
        match call {
            Call::List => match self.list() {
                Ok((listing, fence_changed)) => Reply::Listed { listing, fence_changed },
                Err(error) => Reply::Failed(refused(&error)),
            },
            Call::Put { addresses, lifetime_secs } => {
                Reply::Each(self.put(addresses, *lifetime_secs))
            }
            Call::Delete { addresses } => Reply::Each(self.delete(addresses)),
            Call::Change(transaction) => change(self.fence.as_mut(), transaction),
            Call::ReadFence => read_fence(self.fence.as_mut()),
            Call::RemoveFence => {
                self.put_back();
                match self.fence.as_mut().map_or(Ok(()), Fence::remove) {
                    Ok(()) => Reply::Removed,
                    Err(error) => Reply::Failed(refused(&error)),
                }
            }
        }
    }

    /// Everything marked or recorded, and everything configured, with every link; and whether
    /// somebody changed the fence.
    fn list(&mut self) -> io::Result<(Listing, bool)> {
        let changed = self.fence.as_mut().map_or(Ok(false), Fence::is_changed);
        let changed = changed.unwrap_or(true);
        for attempt in 1.. {
            self.liveness.step();
            let links = self.route.links()?;
            self.liveness.step();
            let told = self.surroundings.told();
            let addresses = self.route.addresses()?;
            let is_placed = |found: &Found| links.contains_key(&found.slot.index);
            if attempt == LIST_ATTEMPTS || addresses.iter().all(is_placed) {
                self.promotion.look_again();
                return Ok((self.listing(told, &links, &addresses), changed));
            }
        }
        Err(io::Error::other("what was listed changed too often"))
    }

    /// What was listed after so much was told, of what is on the host.
    fn listing(
        &mut self,
        told: u64,
        links: &BTreeMap<u32, LinkState>,
        addresses: &[Found],
    ) -> Listing {
        let mut present = Vec::new();
        for &Found { slot, marked: kept_mark, .. } in addresses {
            let Some(state) = links.get(&slot.index) else { continue };
            let entry = self.configured.entry(state, slot.address);
            let marked = kept_mark || self.record.knows(state, slot.address, links);
            if !marked && !self.configured.has(slot.address.addr()) {
                continue;
            }
            let is_new = self.expected.insert(slot);
            if marked || self.configured.contains(&entry) {
                self.places.note(&entry, slot.index);
                if is_new {
                    self.subnets.found(slot);
                }
            }
            present.push((slot, entry, marked));
        }
        let has_vips = |state: &&LinkState| self.configured.vips_on(state).next().is_some();
        let of_vips: Vec<u32> = links.values().filter(has_vips).map(|state| state.index).collect();
        self.look_around(told, of_vips, addresses);
        let with_ours: BTreeSet<u32> =
            present.iter().filter(|(_, _, marked)| *marked).map(|(slot, ..)| slot.index).collect();
        self.virtual_links.found(&mut self.route, links, |index| with_ours.contains(&index));
        let ours = present.iter().filter(|(_, _, marked)| *marked).map(|(_, entry, _)| entry);
        self.companions.found(&mut self.route, ours);
        let misplaced = |slot| self.surroundings.is_misplaced(slot);
        let present = present.into_iter().map(|(slot, (interface, address), marked)| {
            PresentAddress { interface, address, marked, misplaced: misplaced(slot) }
        });
        let links = links.values().flat_map(|state| self.configured.links(state));
        Listing { addresses: present.collect(), links: links.collect() }
    }

    /// Takes note of what is beside the VIPs on these interfaces, of what was listed after so much was
    /// told.
    fn look_around(
        &mut self,
        told: u64,
        interfaces: impl IntoIterator<Item = u32>,
        addresses: &[Found],
    ) {
        let expected = &self.expected;
        // What has the IP of a VIP is none of the host's own addresses, be it turnip's or not.
        let is_vip = |found: &Found| found.marked || expected.contains(found.slot);
        self.surroundings.look(told, interfaces, addresses, is_vip);
    }

    fn put(&mut self, addresses: &[Assignment], lifetime_secs: u32) -> Vec<Answer> {
        let unmade =
            self.virtual_links.make(&mut self.route, addresses.iter().map(|one| &one.interface));
        let found = match self.route.resolve(addresses) {
            Ok(found) => found,
            Err(error) => return all(addresses, &refused(&error)),
        };
        let slots: Vec<_> = found.iter().flatten().copied().collect();
        let there = addresses.iter().zip(&found).filter_map(|(one, slot)| Some((one, (*slot)?)));
        for (one, slot) in there.clone() {
            self.places.note(&entry(one), slot.index);
        }
        self.record.note(there.map(|(one, _)| entry(one)));
        self.keep_siblings(&slots);
        let mut new: HashSet<_> =
            slots.iter().copied().filter(|slot| self.expected.insert(*slot)).collect();
        let (gone, lifetime_secs) = self.make_way(&slots, lifetime_secs);
        new.extend(gone);
        let put =
            |slot: &Slot| Put { slot: *slot, deprecated: self.surroundings.is_deprecated(*slot) };
        let puts: Vec<Put> = slots.iter().map(put).collect();
        // Where the lifetime is the proof, nothing may take longer than was reckoned with.
        let answers = match self.fence {
            Some(_) => ipv6_off::put(&mut self.route, &puts, lifetime_secs),
            None => self.route.put(puts.into_iter(), lifetime_secs),
        };
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => return all(addresses, &refused(&error)),
        };
        self.decide(&slots, &answers);
        let taken = slots.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        let there: Vec<Slot> = taken.map(|(slot, _)| *slot).collect();
        there.iter().for_each(|slot| self.surroundings.set_right(*slot));
        self.subnets.keep_on_link((&mut self.route, &self.routes), there.clone(), lifetime_secs);
        self.accompany(addresses, &found, &there, &new);
        let mut answers = answers.into_iter();
        let of_slot = |(one, slot): (&Assignment, &Option<Slot>)| {
            let Some(slot) = slot else {
                let why = unmade.get(&one.interface);
                return Err(why.cloned().unwrap_or(KernelError::NoInterface));
            };
            match answers.next() {
                Some(Err(refusal)) => {
                    if new.contains(slot) {
                        self.expected.remove(*slot);
                    }
                    Err(kernel_error(&refusal))
                }
                _ => Ok(()),
            }
        };
        addresses.iter().zip(&found).map(of_slot).collect()
    }

    /// Makes what comes with the VIPs of these addresses, of which those in `there` were put there.
    fn accompany(
        &mut self,
        addresses: &[Assignment],
        found: &[Option<Slot>],
        there: &[Slot],
        new: &HashSet<Slot>,
    ) {
        let pairs = || addresses.iter().zip(found).filter_map(|(one, slot)| Some((one, (*slot)?)));
        let is_there = |slot: &Slot| there.contains(slot);
        let came = pairs().filter(|(_, slot)| is_there(slot)).map(|(one, _)| &one.vip);
        let is_new =
            |vip: &VipName| pairs().any(|(one, slot)| one.vip == *vip && new.contains(&slot));
        self.companions.came(&mut self.route, came, is_new);
    }

    /// Finds out from the first address that was put there whether the kernel keeps marks.
    fn decide(&mut self, slots: &[Slot], answers: &[Result<(), Refusal>]) {
        if self.record.is_undecided()
            && let Some((slot, _)) = slots.iter().zip(answers).find(|(_, answer)| answer.is_ok())
            && let Ok(present) = self.route.addresses()
            && let Some(found) = present.iter().find(|found| found.slot == *slot)
        {
            self.record.decide(found.marked);
        }
    }

    /// Looks at what is beside addresses that are about to be put there, and takes those away that are
    /// to be put there anew. Gives these, and for how long the addresses may be there.
    ///
    /// All of this is quick, but takes time after the lifetime was reckoned. Where that is the proof,
    /// it is a second shorter then; and where that would leave nothing, this is for the next time.
    fn make_way(&mut self, slots: &[Slot], lifetime_secs: u32) -> (Vec<Slot>, u32) {
        let outdated = self.surroundings.is_outdated(slots);
        let is_proof = self.fence.is_none();
        let left = lifetime_secs.saturating_sub(u32::from(is_proof));
        if (!outdated && self.surroundings.ahead(slots).is_empty()) || left == 0 {
            return (Vec::new(), lifetime_secs);
        }
        if outdated {
            self.look_beside(slots);
        }
        (self.take_those_ahead(slots), left)
    }

    /// Looks at what is beside addresses that are about to be put there.
    fn look_beside(&mut self, slots: &[Slot]) {
        let told = self.surroundings.told();
        let all = match self.route.addresses() {
            Ok(all) => all,
            Err(error) => {
                tracing::debug!(%error, "cannot look at what is beside the addresses");
                return;
            }
        };
        let mut interfaces: BTreeSet<u32> = self.surroundings.interfaces().collect();
        interfaces.extend(slots.iter().map(|slot| slot.index));
        self.look_around(told, interfaces, &all);
    }

    /// Takes those addresses away that stand before the host's own and are about to be put there
    /// anew, and gives those that are gone. Not where the host's own would go with them.
    fn take_those_ahead(&mut self, slots: &[Slot]) -> Vec<Slot> {
        let mut ahead = self.surroundings.ahead(slots);
        ahead.retain(|slot| {
            let alone = slot.address.prefix_len() == slot.address.max_prefix_len();
            alone || self.promotion.keep(&mut self.route, slot.index)
        });
        if ahead.is_empty() {
            return ahead;
        }
        for slot in &ahead {
            self.expected.leaves(*slot);
        }
        let answers = match self.route.delete(ahead.iter().copied()) {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(%error, "addresses cannot be put behind the host's own");
                ahead.iter().for_each(|slot| self.expected.stays(*slot));
                self.surroundings.forget();
                return ahead;
            }
        };
        let mut gone = Vec::new();
        for (slot, answer) in ahead.into_iter().zip(answers) {
            match answer {
                Ok(()) => gone.push(slot),
                Err(refusal) => {
                    self.expected.stays(slot);
                    tracing::debug!(address = %slot.address, %refusal,
                        "an address cannot be put behind the host's own");
                }
            }
            self.surroundings.set_right(slot);
        }
        gone
    }

    /// Puts back what was changed of interfaces that have no address of turnip's any more.
    fn put_back(&mut self) {
        self.virtual_links.put_back(&mut self.route);
        if self.promotion.is_untouched() {
            return;
        }
        let present = match self.route.addresses() {
            Ok(present) => present,
            Err(error) => {
                tracing::warn!(%error, "promote_secondaries stays as it is");
                return;
            }
        };
        let marked = present.iter().filter(|found| found.marked).map(|found| found.slot.index);
        let used: HashSet<u32> = marked.chain(self.places.interfaces()).collect();
        self.promotion.put_back_and_tell(&mut self.route, |index| used.contains(&index));
    }

    /// Takes them away from wherever they were put or found, whatever those interfaces are called by
    /// now; and from those that have the names now.
    fn delete(&mut self, addresses: &[Assignment]) -> Vec<Answer> {
        self.companions.go(&mut self.route, addresses.iter().map(|one| &one.vip));
        let named = match self.route.resolve(addresses) {
            Ok(named) => named,
            Err(error) => return all(addresses, &refused(&error)),
        };
        let mut slots = Vec::with_capacity(addresses.len());
        // Which address each slot is of.
        let mut of_address = Vec::with_capacity(addresses.len());
        for (number, (one, named)) in addresses.iter().zip(named).enumerate() {
            let on = |index: &u32| Slot { index: *index, address: one.address };
            let put = self.places.of(&entry(one)).iter().map(on);
            slots.extend(put.filter(|slot| Some(*slot) != named).chain(named));
            of_address.resize(slots.len(), number);
        }
        self.keep_siblings(&slots);
        for slot in &slots {
            self.expected.remove(*slot);
        }
        let kernels = match self.route.delete(slots.iter().copied()) {
            Ok(answers) => answers,
            Err(error) => return all(addresses, &refused(&error)),
        };
        // Without an interface on which it might be, an address is gone.
        let mut answers = vec![Ok(()); addresses.len()];
        let mut left = Vec::with_capacity(slots.len());
        for ((slot, number), answer) in slots.into_iter().zip(of_address).zip(kernels) {
            match answer {
                Err(refusal) if !refusal.is_gone() => {
                    answers[number] = Err(kernel_error(&refusal));
                }
                _ => {
                    self.places.strike(&entry(&addresses[number]), slot.index);
                    left.push(slot);
                }
            }
        }
        let gone = addresses.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        let gone: Vec<_> = gone.map(|(one, _)| entry(one)).collect();
        self.record.strike(&gone);
        self.subnets.let_go((&mut self.route, &self.routes), left);
        let used: BTreeSet<u32> = self.places.interfaces().collect();
        self.virtual_links.remove_unused(&mut self.route, |index| used.contains(&index));
        for (assignment, answer) in addresses.iter().zip(&answers) {
            if let Err(error) = answer {
                tracing::debug!(%assignment, %error, "an address cannot be taken away");
            }
        }
        answers
    }

    /// Has the interfaces keep the other addresses of a subnet when one of them goes.
    fn keep_siblings(&mut self, slots: &[Slot]) {
        let in_subnet =
            |slot: &&Slot| slot.address.addr().is_ipv4() && slot.address.prefix_len() < 32;
        for slot in slots.iter().filter(in_subnet) {
            self.promotion.keep(&mut self.route, slot.index);
        }
    }
}

fn all(addresses: &[Assignment], error: &KernelError) -> Vec<Answer> {
    addresses.iter().map(|_| Err(error.clone())).collect()
}
