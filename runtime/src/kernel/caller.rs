//! Carries out the adapter's calls: rtnetlink for addresses and links, nftables for the fence.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;

use nix::errno::Errno;
use turnip_core::adapter::{Call, Reply, Transaction, TransactionError};
use turnip_core::{Assignment, KernelError, Listing, PresentAddress};

use super::address::{LinkState, Slot};
use super::configured::Configured;
use super::expected::Expected;
use super::fence::Fence;
use super::liveness::Liveness;
use super::places::Places;
use super::record::{Entry, Record};
use super::refusal::Refusal;
use super::route::Route;

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
    /// The interfaces that keep the other addresses of a subnet when the first goes.
    pub promoting: HashSet<u32>,
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
            Call::RemoveFence => match self.fence.as_mut().map_or(Ok(()), Fence::remove) {
                Ok(()) => Reply::Removed,
                Err(error) => Reply::Failed(refused(&error)),
            },
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
            let addresses = self.route.addresses()?;
            let is_placed = |(slot, _): &(Slot, bool)| links.contains_key(&slot.index);
            if attempt == LIST_ATTEMPTS || addresses.iter().all(is_placed) {
                return Ok((self.listing(links, addresses), changed));
            }
        }
        Err(io::Error::other("what was listed changed too often"))
    }

    fn listing(
        &mut self,
        links: BTreeMap<u32, LinkState>,
        addresses: Vec<(Slot, bool)>,
    ) -> Listing {
        let mut listing = Listing::default();
        for (slot, kept_mark) in addresses {
            let Some(state) = links.get(&slot.index) else { continue };
            let entry = self.configured.entry(state, slot.address);
            let marked = kept_mark || self.record.knows(state, slot.address, &links);
            if !marked && !self.configured.has(slot.address.addr()) {
                continue;
            }
            self.expected.insert(slot);
            if marked || self.configured.contains(&entry) {
                self.places.note(&entry, slot.index);
            }
            let (interface, address) = entry;
            listing.addresses.push(PresentAddress { interface, address, marked });
        }
        listing.links = links.values().flat_map(|state| self.configured.links(state)).collect();
        listing
    }

    fn put(&mut self, addresses: &[Assignment], lifetime_secs: u32) -> Vec<Answer> {
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
        let new: HashSet<_> =
            slots.iter().copied().filter(|slot| self.expected.insert(*slot)).collect();
        let answers = match self.route.put(slots.iter().copied(), lifetime_secs) {
            Ok(answers) => answers,
            Err(error) => return all(addresses, &refused(&error)),
        };
        if self.record.is_undecided()
            && let Some((slot, _)) = slots.iter().zip(&answers).find(|(_, answer)| answer.is_ok())
            && let Ok(present) = self.route.addresses()
            && let Some((_, marked)) = present.iter().find(|(found, _)| found == slot)
        {
            self.record.decide(*marked);
        }
        let mut answers = answers.into_iter();
        let of_slot = |slot: &Option<Slot>| {
            let Some(slot) = slot else { return Err(KernelError::NoInterface) };
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
        found.iter().map(of_slot).collect()
    }

    /// Takes them away from wherever they were put or found, whatever those interfaces are called by
    /// now; and from those that have the names now.
    fn delete(&mut self, addresses: &[Assignment]) -> Vec<Answer> {
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
        for ((slot, number), answer) in slots.iter().zip(of_address).zip(kernels) {
            match answer {
                Err(refusal) if !refusal.is_gone() => {
                    answers[number] = Err(kernel_error(&refusal));
                }
                _ => self.places.strike(&entry(&addresses[number]), slot.index),
            }
        }
        let gone = addresses.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        let gone: Vec<_> = gone.map(|(one, _)| entry(one)).collect();
        self.record.strike(&gone);
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
            |slot: &Slot| slot.address.addr().is_ipv4() && slot.address.prefix_len() < 32;
        for slot in slots {
            if !in_subnet(slot) || !self.promoting.insert(slot.index) {
                continue;
            }
            let answer = self.route.promote_secondaries(slot.index);
            let answer = answer.and_then(|answer| Ok(answer?));
            if let Err(why) = answer {
                tracing::warn!(address = %slot.address, %why,
                    "cannot set promote_secondaries: taking one address of a subnet away may take others with it, which are then put back");
            }
        }
    }
}

fn all(addresses: &[Assignment], error: &KernelError) -> Vec<Answer> {
    addresses.iter().map(|_| Err(error.clone())).collect()
}
