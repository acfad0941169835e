//! A host's kernel: its links, its addresses with lifetimes, and turnip's fence.
//!
//! Everything is in the host's own time, because a kernel knows no other.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;
use turnip_core::{
    Assignment, Backstop, Instant, KernelError, KernelOp, Link, Listing, PresentAddress, lease,
};

use crate::rng::Rng;
use crate::time::{MS, S};

use super::slots::SlotId;

/// By how much the adapter sets the gate's timeout short.
const GATE_MARGIN: u64 = MS;

/// An operation on its way through the kernel and back.
#[derive(Debug)]
pub struct KernelCall {
    /// Who waits.
    pub slot: SlotId,
    /// What.
    pub op: KernelOp,
    /// What a later `Withdraw` took out of it while it waited.
    pub cancelled: Vec<Assignment>,
    /// The host's clock when it was sent, in ns.
    pub sent_at: u64,
    /// What went wrong.
    pub failed: Vec<(Assignment, KernelError)>,
    /// The kernel refused the whole.
    pub refused: Option<KernelError>,
    /// It is being undone, because its deadline had passed when the acknowledgement came.
    pub undo: bool,
}

/// An address in the table.
#[derive(Clone, Debug)]
struct Address {
    interface: Arc<str>,
    net: IpNet,
    marked: bool,
    /// The end of its lifetime, in ns of the host's clock.
    valid_until: Option<u64>,
    /// How much later the kernel looks.
    late: u64,
}

/// turnip's table in nftables: packets of a VIP pass only if it is held and the gate is open.
#[derive(Clone, Debug, Default)]
struct Fence {
    vips: BTreeSet<IpNet>,
    held: BTreeSet<IpNet>,
    gate_until: u64,
}

/// What is in one host's kernel until it is switched off.
pub struct HostKernel {
    links: Vec<Link>,
    addresses: Vec<Address>,
    fence: Option<Fence>,
    backstop: Option<Backstop>,
    /// Every VIP's addresses in today's configuration.
    configured: BTreeSet<IpNet>,
    /// How much earlier than its margin the gate closes at most, in ns.
    gate_early_max: u64,
    /// What the daemon has asked for and not taken back: what goes on with a `Refresh`.
    assumed: BTreeSet<Assignment>,
    /// Addresses that it never takes.
    pub refuses: BTreeSet<IpNet>,
    /// The rule of the adapter that a mutant leaves out: to look at the deadline before sending,
    /// and after.
    pub heeds_deadlines: bool,
}

impl HostKernel {
    /// A kernel just booted. Without a backstop it is the original turnip's.
    pub fn new(backstop: Option<Backstop>, interfaces: &[Arc<str>], gate_early_max: u64) -> Self {
        HostKernel {
            links: interfaces
                .iter()
                .map(|name| Link { name: Arc::clone(name), up: true })
                .collect(),
            addresses: Vec::new(),
            fence: None,
            backstop,
            configured: BTreeSet::new(),
            gate_early_max,
            assumed: BTreeSet::new(),
            refuses: BTreeSet::new(),
            heeds_deadlines: true,
        }
    }

    /// The daemon starts: the adapter brings the fence's sets to today's configuration. The gate
    /// stays as it is until the first operation.
    pub fn configure(&mut self, assignments: &[Assignment]) {
        let configured: BTreeSet<IpNet> = assignments.iter().map(|one| one.address).collect();
        if self.backstop == Some(Backstop::Fence) {
            let fence = self.fence.get_or_insert_default();
            fence.held.retain(|net| configured.contains(net));
            // What was configured before stays fenced: its address may be there still.
            fence.vips.extend(configured.iter().copied());
        }
        self.configured = configured;
        // What a predecessor left goes on.
        let left = |one: &&Assignment| self.has(one.address) && self.lets_through(one.address);
        self.assumed = assignments.iter().filter(left).cloned().collect();
    }

    /// Whether packets to `net` are answered at `now` (of the host's clock).
    pub fn answers(&self, net: IpNet, now: u64) -> bool {
        let there = |address: &Address| address.net == net && self.is_up(&address.interface);
        self.addresses.iter().any(there)
            && match &self.fence {
                Some(fence) if fence.vips.contains(&net) => {
                    fence.gate_until > now && fence.held.contains(&net)
                }
                _ => true,
            }
    }

    /// Whether the address is in the table, answering or not.
    pub fn has(&self, net: IpNet) -> bool {
        self.addresses.iter().any(|address| address.net == net)
    }

    /// What is left of turnip: addresses with its mark, and whether the fence is there.
    pub fn leftovers(&self) -> (Vec<IpNet>, bool) {
        let marked = self.addresses.iter().filter(|address| address.marked);
        (marked.map(|address| address.net).collect(), self.fence.is_some())
    }

    /// When the gate closes, while it is open.
    pub fn gate_until(&self) -> Option<u64> {
        self.fence.as_ref().map(|fence| fence.gate_until)
    }

    /// Whether the gate has closed while addresses behind it are there.
    pub fn has_closed_over_addresses(&self, now: u64) -> bool {
        self.fence.as_ref().is_some_and(|fence| {
            fence.gate_until <= now && fence.held.iter().any(|net| self.has(*net))
        })
    }

    /// When the kernel next removes an address by itself.
    pub fn lifetimes_end(&self) -> Option<u64> {
        let ends = self.addresses.iter().filter_map(|a| a.valid_until.map(|end| end + a.late));
        ends.min()
    }

    /// Removes what has outlived its lifetime. Tells whether anything has.
    pub fn expire(&mut self, now: u64) -> bool {
        let before = self.addresses.len();
        self.addresses.retain(|a| a.valid_until.is_none_or(|end| end + a.late > now));
        self.addresses.len() < before
    }

    /// Somebody else takes an address away. Tells whether it was there.
    pub fn steal(&mut self, net: IpNet) -> bool {
        let before = self.addresses.len();
        self.addresses.retain(|address| address.net != net);
        self.addresses.len() < before
    }

    /// A link goes up or down.
    pub fn set_link(&mut self, name: &str, up: bool) -> Option<Link> {
        let link = self.links.iter_mut().find(|link| &*link.name == name)?;
        link.up = up;
        Some(link.clone())
    }

    /// A link, and the addresses on it, are gone.
    pub fn remove_link(&mut self, name: &str) {
        self.links.retain(|link| &*link.name != name);
        self.addresses.retain(|address| &*address.interface != name);
    }

    /// A link appears, up.
    pub fn add_link(&mut self, name: &Arc<str>) -> Link {
        let link = Link { name: Arc::clone(name), up: true };
        if !self.links.iter().any(|there| there.name == *name) {
            self.links.push(link.clone());
        }
        link
    }

    /// What `List` answers.
    pub fn listing(&self) -> Listing {
        let ours = |a: &&Address| a.marked || self.configured.contains(&a.net);
        let addresses = self.addresses.iter().filter(ours).map(|address| PresentAddress {
            interface: Arc::clone(&address.interface),
            address: address.net,
            marked: address.marked
                && (!self.configured.contains(&address.net) || self.lets_through(address.net)),
        });
        Listing { addresses: addresses.collect(), links: self.links.clone() }
    }

    fn lets_through(&self, net: IpNet) -> bool {
        self.fence
            .as_ref()
            .is_none_or(|fence| !fence.vips.contains(&net) || fence.held.contains(&net))
    }

    fn is_up(&self, interface: &str) -> bool {
        self.links.iter().any(|link| &*link.name == interface && link.up)
    }

    /// Carries out what the adapter sent. `now` is the host's clock. Tells whether the table of
    /// addresses changed.
    pub fn act(&mut self, call: &mut KernelCall, now: u64, failing: u64, rng: &mut Rng) -> bool {
        let before = self.addresses.len();
        match &call.op {
            KernelOp::List => {}
            KernelOp::Assume { addresses, deadline } => {
                let (addresses, deadline) = (addresses.clone(), *deadline);
                let closes = self.gate_closes(deadline, call.sent_at, now, rng);
                self.open(&addresses, now, closes);
                self.assumed.extend(addresses.iter().cloned());
                self.add(call, &addresses, deadline, now, failing, rng);
            }
            KernelOp::Refresh { deadline } => {
                let deadline = *deadline;
                let closes = self.gate_closes(deadline, call.sent_at, now, rng);
                if self.move_gate(now, closes) {
                    let held = |one: &&Assignment| {
                        self.fence.as_ref().is_none_or(|fence| fence.held.contains(&one.address))
                    };
                    let (addresses, out): (Vec<_>, Vec<_>) = self.assumed.iter().partition(held);
                    let addresses: Vec<Assignment> = addresses.into_iter().cloned().collect();
                    let late = out.into_iter().map(|one| (one.clone(), KernelError::TooLate));
                    call.failed.extend(late);
                    self.add(call, &addresses, deadline, now, 0, rng);
                } else {
                    call.refused = Some(KernelError::TooLate);
                }
            }
            KernelOp::Withdraw { addresses } => {
                for assignment in addresses {
                    if rng.chance(failing) {
                        let why = KernelError::Refused("no buffer space available".into());
                        call.failed.push((assignment.clone(), why));
                        continue;
                    }
                    self.addresses.retain(|address| {
                        address.net != assignment.address
                            || address.interface != assignment.interface
                    });
                    if let Some(fence) = &mut self.fence {
                        fence.held.remove(&assignment.address);
                    }
                    self.assumed.remove(assignment);
                }
                return self.addresses.len() != before;
            }
            KernelOp::RemoveFence => {
                self.fence = None;
                self.assumed.clear();
            }
        }
        self.addresses.len() != before
    }

    /// When the gate closes: its timeout counts from when the kernel reads the message. The adapter
    /// sets it a margin short, and the kernel rounds it down to a tick of its clock.
    fn gate_closes(&self, deadline: Instant, sent_at: u64, now: u64, rng: &mut Rng) -> u64 {
        let late = now.saturating_sub(sent_at);
        let early = GATE_MARGIN + rng.below(self.gate_early_max + 1);
        deadline.as_nanos().saturating_add(late).saturating_sub(early)
    }

    fn open(&mut self, addresses: &[Assignment], now: u64, closes: u64) {
        let Some(fence) = &mut self.fence else { return };
        if fence.gate_until <= now {
            // Stale members must not come to life with the gate.
            fence.held.clear();
            fence.gate_until = 0;
        }
        fence.held.extend(addresses.iter().map(|assignment| assignment.address));
        fence.gate_until = fence.gate_until.max(closes);
    }

    /// The kernel refuses to move a gate that has closed: what waited in a stalled process cannot
    /// open it again.
    fn move_gate(&mut self, now: u64, closes: u64) -> bool {
        let Some(fence) = &mut self.fence else { return true };
        if fence.gate_until <= now && self.heeds_deadlines {
            return false;
        }
        fence.gate_until = fence.gate_until.max(closes);
        true
    }

    /// Adds what is not there, and renews the lifetimes of what is.
    fn add(
        &mut self,
        call: &mut KernelCall,
        addresses: &[Assignment],
        deadline: Instant,
        now: u64,
        failing: u64,
        rng: &mut Rng,
    ) {
        let valid_until = match self.backstop {
            None => None,
            Some(backstop) => match self.lifetime_secs(backstop, deadline, call.sent_at) {
                Some(secs) => Some(now + u64::from(secs) * S),
                None => {
                    call.refused = Some(KernelError::TooLate);
                    return;
                }
            },
        };
        for assignment in addresses {
            if !self.links.iter().any(|link| link.name == assignment.interface) {
                call.failed.push((assignment.clone(), KernelError::NoInterface));
                continue;
            }
            if self.refuses.contains(&assignment.address) {
                let why = KernelError::Refused("permission denied".into());
                call.failed.push((assignment.clone(), why));
                continue;
            }
            if rng.chance(failing) {
                let why = KernelError::Refused("no buffer space available".into());
                call.failed.push((assignment.clone(), why));
                continue;
            }
            let late = rng.below(990 * MS);
            let there = self.addresses.iter_mut().find(|address| {
                address.net == assignment.address && address.interface == assignment.interface
            });
            match there {
                Some(address) => {
                    (address.valid_until, address.late) = (valid_until, late);
                    address.marked = self.backstop.is_some();
                }
                None => self.addresses.push(Address {
                    interface: Arc::clone(&assignment.interface),
                    net: assignment.address,
                    marked: self.backstop.is_some(),
                    valid_until,
                    late,
                }),
            }
        }
    }

    /// When the addresses of a call end at the earliest, where that is the proof.
    pub fn until(&self, call: &KernelCall) -> Option<Instant> {
        let (KernelOp::Assume { deadline, .. } | KernelOp::Refresh { deadline, .. }) = &call.op
        else {
            return None;
        };
        if self.backstop != Some(Backstop::Lifetime) {
            return None;
        }
        let secs = self.lifetime_secs(Backstop::Lifetime, *deadline, call.sent_at)?;
        Some(Instant::from_nanos(call.sent_at + u64::from(secs) * S))
    }

    /// Whether lifetimes given when a call was sent are too long by now, where they are the proof.
    pub fn outlives(&self, call: &KernelCall, now: u64) -> bool {
        let (KernelOp::Assume { deadline, .. } | KernelOp::Refresh { deadline, .. }) = &call.op
        else {
            return false;
        };
        self.backstop == Some(Backstop::Lifetime)
            && self.lifetime_secs(Backstop::Lifetime, *deadline, call.sent_at)
                > self.lifetime_secs(Backstop::Lifetime, *deadline, now)
    }

    /// Whether no lifetime is short enough any more, where lifetimes are the proof.
    pub fn has_no_time(&self, op: &KernelOp, now: u64) -> bool {
        let (KernelOp::Assume { deadline, .. } | KernelOp::Refresh { deadline, .. }) = op else {
            return false;
        };
        self.backstop == Some(Backstop::Lifetime)
            && self.lifetime_secs(Backstop::Lifetime, *deadline, now).is_none()
    }

    fn lifetime_secs(&self, backstop: Backstop, deadline: Instant, sent_at: u64) -> Option<u32> {
        let secs = lease::lifetime_secs(backstop, deadline, Instant::from_nanos(sent_at));
        if self.heeds_deadlines { secs } else { secs.or(Some(1)) }
    }
}
