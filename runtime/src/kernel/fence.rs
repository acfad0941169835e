//! The fence: nftables tables of turnip's own, which silence every VIP that is not held.
//!
//! `table inet turnip` and `table arp turnip` know all VIPs (`vips4`, `vips6`), those held (`held4`,
//! `held6`), and the gate (`alive`), a set whose elements end at the deadline. A packet to or from
//! a VIP passes only while the VIP is held *and* the gate is open. The deadline is the session's and
//! so common to all that is held: a renewal costs the same for one VIP and for ten thousand.
//!
//! A renewal deletes the gate's elements and adds them anew in one transaction. Deleting one that
//! has reached its timeout fails, and with it the transaction: so it is the kernel that
//! decides whether a renewal came in time, however long the process was stalled before it sent
//! it. A gate that is closed is opened again by an assumption only, and then for exactly the
//! addresses assumed.
//!
//! Somebody may change what is in the tables, all at once or one rule. So before anything is let
//! pass for longer, the kernel is asked whether any transaction took place but one's own; then
//! all is compared with what it should be.
//!
//! Timeouts are counted by a clock that NTP bends: they are set by the rate that it has then, see
//! [`KernelRate`]. They do not count the time that the host is suspended. It answers nothing
//! meanwhile; when it wakes, the daemon's timer, which does count it, closes the gate.
//!
//! What is not dropped: packets *to* a VIP that another host holds and the answers from it,
//! what is forwarded, and the announcements by which another host takes a VIP over.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;
use turnip_core::{Instant, KernelError};

use super::channel::Channel;
use super::nft::{self, Family, Message};
use super::refusal::Refusal;
use super::sets::{
    Contents, Elements, VIPS, add_elements, delete_gate, fingerprint, flush_gate, gate_elements,
    generation, held_anew, held_elements, held_sets, inherited, keys, structure, unfenced,
};
use crate::clock::{HostClock, KernelRate};
use crate::seams::Clock;

/// The name of both tables.
pub const TABLE: &str = "turnip";

/// A timeout below a tick of the kernel's would be none at all; the slowest kernels tick every
/// 10 ms.
const TIMEOUT_MIN: Duration = Duration::from_millis(20);
/// How long a transaction may take before its timeouts are set anew; they are this much short.
const LATENESS: Duration = Duration::from_millis(1);
/// On a slow host they are set shorter, but by no more than this.
const MARGIN_MAX: Duration = Duration::from_millis(20);

/// Whether the gate is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gate {
    Closed,
    /// Opened by this process, until then at the latest.
    Open(Instant),
    /// As an earlier process left it.
    Inherited,
}

/// Why a transaction did not take place.
#[derive(Debug)]
enum Failure {
    /// The gate had reached its timeout.
    Expired,
    /// A table, set or chain of the fence is gone.
    Damaged,
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Expired => "the gate has closed, or an element of a set is gone",
            Failure::Damaged => "a table, set or chain of it is gone",
            Failure::Other(why) => why,
        })
    }
}

/// The fence of this network namespace.
pub(super) struct Fence {
    channel: Channel,
    clock: HostClock,
    vips: BTreeSet<IpAddr>,
    /// What an earlier process fenced, is not configured any more, and may be on the host still:
    /// another host may hold it by now. Never held here.
    former: BTreeSet<IpAddr>,
    held: BTreeSet<IpAddr>,
    gate: Gate,
    /// By an orderly stop: then it is not missing.
    removed: bool,
    /// The generation of the host's rules after the last transaction of this process: another one
    /// means that somebody else changed something. None when that is not certain.
    generation: Option<u32>,
    /// What tables, chains and rules are like as this process made them; empty when it is not
    /// certain that nobody else had a hand in it.
    fingerprint: Vec<Vec<u8>>,
}

/// Whether nftables works here: all that the fence needs is made and unmade in one transaction.
///
/// # Errors
/// With what is missing.
pub fn probe() -> io::Result<()> {
    let mut channel = Channel::open()?;
    let mut messages = structure("turnip_probe");
    messages.extend(gate_elements("turnip_probe", TIMEOUT_MIN));
    messages.extend(Family::BOTH.map(|family| nft::delete_table(family, "turnip_probe")));
    match channel.transact(nft::transaction(messages))?.into_iter().next() {
        None => Ok(()),
        Some((_, refusal)) => Err(refusal.into()),
    }
}

/// Whether there is a fence, whoever made it.
///
/// # Errors
/// When the kernel does not tell; one without nftables has none.
pub fn exists() -> io::Result<bool> {
    Ok(match open_if_any()? {
        Some(mut channel) => !tables(&mut channel)?.is_empty(),
        None => false,
    })
}

/// Removes the fence, whoever made it; says whether there was one.
///
/// # Errors
/// When the kernel refuses.
pub fn remove() -> io::Result<bool> {
    open_if_any()?.map_or(Ok(false), |mut channel| remove_through(&mut channel))
}

/// A socket to netfilter; none where the kernel has no netfilter.
fn open_if_any() -> io::Result<Option<Channel>> {
    match Channel::open() {
        Err(error) if error.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32) => Ok(None),
        opened => opened.map(Some),
    }
}

fn remove_through(channel: &mut Channel) -> io::Result<bool> {
    let found = tables(channel)?;
    if found.is_empty() {
        return Ok(false);
    }
    let messages = found.into_iter().map(|family| nft::delete_table(family, TABLE)).collect();
    match channel.transact(nft::transaction(messages))?.into_iter().next() {
        None => Ok(true),
        Some((_, refusal)) => Err(refusal.into()),
    }
}

/// Those of the fence's tables that are there.
fn tables(channel: &mut Channel) -> io::Result<Vec<Family>> {
    let mut found = Vec::new();
    for family in Family::BOTH {
        match channel.request(nft::get_table(family, TABLE))? {
            Ok(()) => found.push(family),
            Err(refusal) if is_absent(&refusal) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(found)
}

/// Whether the kernel says that there is no such table, or that it has no nftables at all.
fn is_absent(refusal: &Refusal) -> bool {
    let absent = [Errno::ENOENT, Errno::EOPNOTSUPP, Errno::EINVAL];
    absent.contains(&Errno::from_raw(refusal.errno))
}

/// The generation that follows; the kernel leaves 0 out.
fn after(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

impl Fence {
    /// Makes the fence, closed; or takes over the one that is there, with its gate as it is.
    /// Either way there is no moment at which another VIP passes than before or after. What is
    /// no VIP any more stays fenced until [`Fence::release`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(vips: BTreeSet<IpAddr>, clock: HostClock) -> io::Result<Self> {
        let mut channel = Channel::open()?;
        let inherited = inherited(&mut channel)?;
        let gate = if inherited.is_some() { Gate::Inherited } else { Gate::Closed };
        let earlier = inherited.unwrap_or_default();
        let held: BTreeSet<_> = earlier.held.intersection(&vips).copied().collect();
        let let_go: Vec<_> = earlier.held.difference(&vips).copied().collect();
        let former = earlier.vips.union(&earlier.held).copied().filter(|one| !vips.contains(one));
        let former = former.collect();
        let mut fence = Fence {
            generation: Some(generation(&mut channel)?),
            fingerprint: Vec::new(),
            removed: false,
            channel,
            clock,
            vips,
            former,
            held,
            gate,
        };
        let mut messages = fence.layout();
        messages.extend(held_elements(&let_go, nft::delete_elements));
        let mut refusals = fence.channel.transact(nft::transaction(messages))?;
        if !refusals.is_empty() && gate == Gate::Inherited {
            // Made by another version, in another shape: then nothing passes until it is held anew.
            tracing::warn!("the fence of an earlier turnip has another shape: making it anew");
            let messages = fence.layout_anew();
            refusals = fence.channel.transact(nft::transaction(messages))?;
            (fence.held, fence.gate) = (BTreeSet::new(), Gate::Closed);
        }
        match refusals.into_iter().next() {
            None => {
                fence.generation = fence.generation.map(after);
                fence.survey()?;
                Ok(fence)
            }
            Some((_, refusal)) => Err(refusal.into()),
        }
    }

    /// Lets the addresses pass until `deadline`, and all others that are held as well.
    pub fn allow(&mut self, addresses: &[IpAddr], deadline: Instant) -> Result<(), KernelError> {
        self.mend()?;
        let until = match self.gate {
            Gate::Closed => return self.open_gate(addresses, deadline),
            Gate::Open(until) => until.max(deadline),
            Gate::Inherited => deadline,
        };
        match self.move_gate(addresses, until) {
            Err(KernelError::TooLate) => self.open_gate(addresses, deadline),
            result => result,
        }
    }

    /// Lets what is held pass until `deadline`, unless its time is over.
    pub fn prolong(&mut self, addresses: &[IpAddr], deadline: Instant) -> Result<(), KernelError> {
        self.mend()?;
        match self.gate {
            Gate::Closed => Err(KernelError::TooLate),
            Gate::Open(until) => self.move_gate(addresses, until.max(deadline)),
            Gate::Inherited => self.move_gate(addresses, deadline),
        }
    }

    /// Silences the addresses; and closes the gate when no other is held.
    pub fn shut(&mut self, addresses: &[IpAddr]) -> Result<(), KernelError> {
        let gone: Vec<_> =
            addresses.iter().copied().filter(|address| self.held.remove(address)).collect();
        if gone.is_empty() && (!self.held.is_empty() || self.gate == Gate::Closed) {
            return Ok(());
        }
        let mut messages = held_elements(&gone, nft::delete_elements);
        if self.held.is_empty() {
            messages.extend(flush_gate());
            self.gate = Gate::Closed;
        }
        let is_certain = !gone.is_empty();
        match self.transact(messages) {
            Ok(()) => {
                self.generation = self.generation.filter(|_| is_certain);
                Ok(())
            }
            // Someone removed the fence: made anew, it holds back what is not held.
            Err(Failure::Damaged) => self.restore_open(),
            // Someone changed what is in it.
            Err(Failure::Expired) => self.rewrite_held(),
            Err(Failure::Other(why)) => Err(KernelError::Refused(why)),
        }
    }

    /// Until when the gate is open, as far as this process knows.
    pub fn open_until(&self) -> Option<Instant> {
        match self.gate {
            Gate::Open(until) => Some(until),
            Gate::Closed | Gate::Inherited => None,
        }
    }

    /// Whether an earlier process fenced what is not configured any more.
    pub fn has_former(&self) -> bool {
        !self.former.is_empty()
    }

    /// Fences no longer what is not configured any more, but for what is `present`.
    pub fn release(&mut self, present: &BTreeSet<IpAddr>) {
        let gone: Vec<_> = self.former.difference(present).copied().collect();
        if gone.is_empty() {
            return;
        }
        match self.transact(unfenced(&gone)) {
            Ok(()) => self.former.retain(|address| present.contains(address)),
            Err(failure) => tracing::warn!(%failure, "a former VIP stays fenced for now"),
        }
    }

    /// Removes the fence.
    pub fn remove(&mut self) -> Result<(), KernelError> {
        (self.held, self.gate, self.removed) = (BTreeSet::new(), Gate::Closed, true);
        remove_through(&mut self.channel)
            .map(drop)
            .map_err(|error| KernelError::Refused(error.to_string()))
    }

    /// Opens the gate for exactly `addresses`.
    fn open_gate(&mut self, addresses: &[IpAddr], deadline: Instant) -> Result<(), KernelError> {
        let mut messages = flush_gate();
        messages.extend(held_anew(addresses));
        let before = std::mem::replace(&mut self.held, addresses.iter().copied().collect());
        self.gate = Gate::Closed;
        self.set_gate(messages, deadline).inspect_err(|_| self.held = before)
    }

    /// Moves the deadline of an open gate, and adds `addresses` to what is held.
    fn move_gate(&mut self, addresses: &[IpAddr], deadline: Instant) -> Result<(), KernelError> {
        let new: Vec<_> =
            addresses.iter().copied().filter(|address| !self.held.contains(address)).collect();
        let mut messages = delete_gate();
        messages.extend(held_elements(&new, add_elements));
        self.held.extend(&new);
        self.set_gate(messages, deadline).inspect_err(|_| {
            for address in &new {
                self.held.remove(address);
            }
        })
    }

    /// Carries out `messages` and sets the gate's timeouts so that they end at `deadline`.
    ///
    /// Timeouts count from when the kernel reads them. When that was later than thought, they are
    /// set again; when it was too late, the gate is closed.
    fn set_gate(
        &mut self,
        mut messages: Vec<Message>,
        deadline: Instant,
    ) -> Result<(), KernelError> {
        let mut margin = LATENESS;
        loop {
            let before = self.clock.now();
            let left = deadline.since(before).saturating_sub(margin);
            if left < TIMEOUT_MIN {
                self.close_gate();
                return Err(KernelError::TooLate);
            }
            messages.extend(gate_elements(TABLE, KernelRate::now().count(left)));
            match self.transact(messages) {
                Ok(()) => {}
                Err(Failure::Expired) => {
                    self.gate = Gate::Closed;
                    return Err(KernelError::TooLate);
                }
                Err(Failure::Damaged) => {
                    self.restore()?;
                    messages = Vec::new();
                    continue;
                }
                Err(Failure::Other(why)) => return Err(KernelError::Refused(why)),
            }
            self.gate = Gate::Open(deadline);
            let took = self.clock.now().since(before);
            if took <= margin {
                return Ok(());
            }
            // A host that is always this slow is given the time that it needs.
            margin = margin.max(took.min(MARGIN_MAX));
            messages = delete_gate();
        }
    }

    fn close_gate(&mut self) {
        if let Err(failure) = self.transact(flush_gate()) {
            tracing::debug!(%failure, "could not close the fence's gate");
        }
        // Emptying what is empty makes no generation.
        self.generation = None;
        self.gate = Gate::Closed;
    }

    fn rewrite_held(&mut self) -> Result<(), KernelError> {
        let held: Vec<_> = self.held.iter().copied().collect();
        let mut messages = held_anew(&held);
        if held.is_empty() {
            messages.extend(flush_gate());
        }
        let rewritten = self
            .transact(messages)
            .map_err(|failure| KernelError::Refused(format!("the fence: {failure}")));
        self.generation = None;
        rewritten
    }

    /// Puts back what someone changed, if anything is not as it should be. At rest this is one
    /// question: whether there was any transaction but one's own.
    pub fn mend(&mut self) -> Result<(), KernelError> {
        if self.removed {
            return Ok(());
        }
        let refused = |error: io::Error| KernelError::Refused(format!("nftables: {error}"));
        let generation = generation(&mut self.channel).map_err(refused)?;
        if self.generation == Some(generation) {
            return Ok(());
        }
        if self.is_as_it_should_be().map_err(refused)? {
            self.generation = Some(generation);
            return Ok(());
        }
        self.restore_open()
    }

    fn is_as_it_should_be(&mut self) -> io::Result<bool> {
        if self.fingerprint.is_empty() || fingerprint(&mut self.channel)? != self.fingerprint {
            return Ok(false);
        }
        let Some(found) = Contents::read(&mut self.channel)? else { return Ok(false) };
        let gate = match self.gate {
            Gate::Closed => Elements::None,
            Gate::Open(until) if until.since(self.clock.now()) > TIMEOUT_MIN + MARGIN_MAX => {
                Elements::All
            }
            // Its time may be over, or not.
            Gate::Open(_) | Gate::Inherited => found.gate,
        };
        let held: Vec<_> = self.held.iter().copied().collect();
        Ok(found == Contents::of(&self.fenced(), &held, gate))
    }

    /// Takes note of what was just made, unless somebody else changed something since.
    fn survey(&mut self) -> io::Result<()> {
        self.fingerprint = fingerprint(&mut self.channel)?;
        if self.generation != Some(generation(&mut self.channel)?) {
            self.fingerprint.clear();
            self.generation = None;
        }
        Ok(())
    }

    /// Puts everything back as it should be, and opens the gate again if its time is not over.
    fn restore_open(&mut self) -> Result<(), KernelError> {
        self.restore()?;
        match std::mem::replace(&mut self.gate, Gate::Closed) {
            Gate::Open(until) => self.set_gate(Vec::new(), until),
            Gate::Closed | Gate::Inherited => Ok(()),
        }
    }

    /// Puts everything but the gate back as it should be.
    fn restore(&mut self) -> Result<(), KernelError> {
        if !std::mem::take(&mut self.removed) && !self.fingerprint.is_empty() {
            tracing::warn!("someone changed the nftables tables of turnip: putting them back");
        }
        let mut messages = self.layout_anew();
        let held: Vec<_> = self.held.iter().copied().collect();
        messages.extend(held_elements(&held, add_elements));
        self.generation = generation(&mut self.channel).ok();
        self.transact(messages)
            .map_err(|failure| KernelError::Refused(format!("no fence: {failure}")))?;
        self.survey().map_err(|error| KernelError::Refused(format!("nftables: {error}")))
    }

    /// All that is silent unless it is held.
    fn fenced(&self) -> Vec<IpAddr> {
        self.vips.union(&self.former).copied().collect()
    }

    /// The layout in place of whatever is there; nothing is held, and the gate is closed.
    fn layout_anew(&self) -> Vec<Message> {
        let mut messages: Vec<_> = Family::BOTH.map(|family| nft::add_table(family, TABLE)).into();
        messages.extend(Family::BOTH.map(|family| nft::delete_table(family, TABLE)));
        messages.extend(self.layout());
        messages
    }

    /// All but what is held and the gate, as it should be; what is there already is kept.
    fn layout(&self) -> Vec<Message> {
        let mut messages = structure(TABLE);
        let vips = self.fenced();
        for (family, _, index) in held_sets() {
            messages.push(nft::flush_set(family, TABLE, VIPS[index]));
            messages.extend(add_elements(family, TABLE, VIPS[index], &keys(&vips, index)));
        }
        messages
    }

    fn transact(&mut self, messages: Vec<Message>) -> Result<(), Failure> {
        let refusals = match self.channel.transact(nft::transaction(messages)) {
            Ok(refusals) if refusals.is_empty() => {
                self.generation = self.generation.map(after);
                return Ok(());
            }
            Ok(refusals) => refusals,
            Err(error) => {
                self.generation = None;
                return Err(Failure::Other(format!("nftables: {error}")));
            }
        };
        let absent = |refusal: &Refusal| refusal.errno == Errno::ENOENT as i32;
        if !refusals.iter().all(|(_, refusal)| absent(refusal)) {
            let text: Vec<_> = refusals.iter().map(|(_, refusal)| refusal.to_string()).collect();
            return Err(Failure::Other(format!("nftables: {}", text[0])));
        }
        // Elements end, tables do not.
        if self.is_whole() { Err(Failure::Expired) } else { Err(Failure::Damaged) }
    }

    fn is_whole(&mut self) -> bool {
        held_sets().all(|(family, set, _)| {
            let request = nft::get_elements(family, TABLE, set);
            self.channel.dump(&request).is_ok()
        })
    }
}
