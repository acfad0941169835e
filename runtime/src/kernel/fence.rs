//! The fence: nftables tables of turnip's own, which silence every VIP that is not held.
//!
//! `table inet turnip` and `table arp turnip` know all VIPs (`vips4`, `vips6`), those held (`held4`,
//! `held6`), and the gate (`alive`), a set whose elements end at the deadline. A packet to or from
//! a VIP passes only while the VIP is held *and* the gate is open. Link-local addresses of IPv6 are
//! kept with their interface (`vips6_link`, `held6_link`). What is changed, and when, is
//! [`Adapter`](turnip_core::Adapter)'s to say; here it becomes messages.
//!
//! Somebody may change what is in the tables, all at once or one rule. Every transaction of
//! anybody's makes the *generation* of the host's rules greater, and the kernel refuses a
//! transaction that names another generation than the one that is. So what is guarded names the
//! one after this process's last transaction. (Kernels before 4.11 do not look at it: there a
//! change is found when the addresses are listed next.)
//!
//! Timeouts do not count the time that the host is suspended. It answers nothing
//! meanwhile; when it wakes, the daemon's timer, which does count it, closes the gate.
//!
//! What is not dropped: packets *to* a VIP that another host holds and the answers from it,
//! what is forwarded as it came, and the announcements by which another host takes a VIP over.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use nix::errno::Errno;
use turnip_core::adapter::{Change, FenceContents, Fenced, Transaction, TransactionError};

use super::channel::Channel;
use super::fence_names::FenceNames;
use super::nft::{self, Family, Message};
use super::refusal::Refusal;
use super::sets::{
    add_elements, delete_gate, delete_ticket, fingerprint, flush_gate, gate_elements, generation,
    held_elements, held_flushed, layout, read, structure, ticket_element, unfenced,
};
use super::takeover::{Earlier, is_earlier, layout_over, look};

/// The name of both tables.
pub const TABLE: &str = "turnip";

/// How long the elements last that a probe makes.
const PROBED: Duration = Duration::from_millis(20);
/// How often the sets are read anew when somebody changed something meanwhile.
const READ_ATTEMPTS: usize = 8;

/// The fence of this network namespace.
pub(super) struct Fence {
    channel: Channel,
    /// The generation of the host's rules after the last transaction of this process: another one
    /// means that somebody else changed something. None when that is not certain.
    generation: Option<u32>,
    /// What tables, chains and rules are like as this process made them; empty when it is not
    /// certain that nobody else had a hand in it.
    fingerprint: Vec<Vec<u8>>,
    /// A ticket may be there.
    ticket: bool,
    /// What was found of a fence that an earlier version made, until it is taken over.
    earlier: Option<FenceContents>,
    names: FenceNames,
}

/// Whether nftables works here: all that the fence needs is made and unmade in one transaction.
///
/// # Errors
/// With what is missing.
pub fn probe() -> io::Result<()> {
    let mut channel = Channel::open()?;
    let mut messages = structure("turnip_probe");
    messages.extend(gate_elements("turnip_probe", PROBED));
    messages.extend(Family::BOTH.map(|family| nft::delete_table(family, "turnip_probe")));
    match channel.transact(nft::transaction(messages, None))?.into_iter().next() {
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

/// The addresses that the fence silences unless they are held; none where there is no fence.
///
/// # Errors
/// When the kernel does not tell.
pub fn vips() -> io::Result<BTreeSet<Fenced>> {
    if !exists()? {
        return Ok(BTreeSet::new());
    }
    Ok(Fence::open(FenceNames::default())?.read()?.vips)
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
    match channel.transact(nft::transaction(messages, None))?.into_iter().next() {
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
    /// Connects to the kernel, which knows interfaces by their own names only.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(names: FenceNames) -> io::Result<Self> {
        let channel = Channel::open()?;
        let fingerprint = Vec::new();
        Ok(Fence { channel, generation: None, fingerprint, ticket: true, earlier: None, names })
    }

    /// Carries out the transaction, or nothing of it.
    pub fn change(&mut self, transaction: &Transaction) -> Result<(), TransactionError> {
        if transaction.guarded && self.names.have_changed() {
            return Err(TransactionError::Changed);
        }
        let transaction = &*self.names.to_kernel(transaction);
        let earlier = self.earlier_for(transaction)?;
        let expected = match (transaction.guarded, self.generation) {
            (true, None) => return Err(TransactionError::Changed),
            (true, expected) => expected,
            (false, _) => None,
        };
        let mut messages = Vec::new();
        // Which change each message is for.
        let mut of_change = Vec::new();
        for (number, change) in transaction.changes.iter().enumerate() {
            self.explain(change);
            messages.extend(match (change, &earlier) {
                (Change::Layout { vips }, Some(earlier)) => layout_over(earlier, vips),
                _ => messages_for(change),
            });
            of_change.resize(messages.len(), number);
        }
        let refusals = match self.channel.transact(nft::transaction(messages, expected)) {
            Ok(refusals) => refusals,
            Err(error) => {
                self.generation = None;
                return Err(TransactionError::Other(format!("nftables: {error}")));
            }
        };
        if refusals.is_empty() {
            self.took_place(&transaction.changes);
            return Ok(());
        }
        Err(self.refused(&refusals, &of_change, &transaction.changes))
    }

    /// What an earlier version's fence is like, where the transaction takes it over.
    fn earlier_for(&mut self, to: &Transaction) -> Result<Option<Earlier>, TransactionError> {
        let lays_out = |change: &Change| matches!(change, Change::Layout { .. });
        let Some(known) = self.earlier.take_if(|_| to.changes.iter().any(lays_out)) else {
            return Ok(None);
        };
        match look(&mut self.channel, &known) {
            Ok(earlier) => {
                (self.generation, self.ticket) = (Some(earlier.generation), false);
                Ok(Some(earlier))
            }
            Err(error) => Err(TransactionError::Other(format!("nftables: {error}"))),
        }
    }

    fn took_place(&mut self, changes: &[Change]) {
        // What changes nothing makes no generation.
        let is_effective = |change: &Change| match change {
            Change::FlushHeld | Change::FlushGate | Change::AddGate(_) => false,
            Change::AddTicket(_) => !self.ticket,
            _ => true,
        };
        let effective = changes.iter().any(is_effective);
        self.generation = self.generation.filter(|_| effective).map(after);
        for change in changes {
            match change {
                Change::AddTicket(_) => self.ticket = true,
                Change::DeleteTicket | Change::FlushGate | Change::LayoutAnew { .. } => {
                    self.ticket = false;
                }
                _ => {}
            }
        }
        if changes.iter().any(is_layout) {
            self.survey();
        }
    }

    fn refused(
        &mut self,
        refusals: &[(usize, Refusal)],
        of_change: &[usize],
        changes: &[Change],
    ) -> TransactionError {
        let is = |refusal: &Refusal, errno: Errno| refusal.errno == errno as i32;
        if refusals.iter().any(|(_, refusal)| is(refusal, Errno::ERESTART)) {
            self.generation = None;
            return TransactionError::Changed;
        }
        // The first message opens the transaction.
        let change = |place: &usize| of_change.get(place.wrapping_sub(1)).copied();
        if refusals.iter().all(|(_, refusal)| is(refusal, Errno::ENOENT)) {
            let places: BTreeSet<_> =
                refusals.iter().filter_map(|(place, _)| change(place)).collect();
            if places.iter().any(|place| changes[*place] == Change::DeleteTicket) {
                self.ticket = false;
            }
            return TransactionError::Absent(places);
        }
        let (_, refusal) = &refusals[0];
        if changes.iter().any(is_layout) && self.fingerprint.is_empty() {
            tracing::warn!(%refusal, "the fence of an earlier turnip has another shape");
        }
        TransactionError::Other(format!("nftables: {refusal}"))
    }

    /// What is in the fence, and whether this process made it.
    ///
    /// # Errors
    /// When the socket fails, or the kernel refuses.
    pub fn read(&mut self) -> io::Result<FenceContents> {
        self.generation = None;
        self.names.look();
        let mut before = generation(&mut self.channel)?;
        for attempt in 1.. {
            let intact =
                !self.fingerprint.is_empty() && fingerprint(&mut self.channel)? == self.fingerprint;
            let (contents, ticket) = read(&mut self.channel, intact)?;
            self.ticket = ticket;
            let now = generation(&mut self.channel)?;
            if now == before {
                self.generation = Some(now);
            }
            if now == before || attempt == READ_ATTEMPTS {
                let new = self.fingerprint.is_empty() && is_earlier(&mut self.channel)?;
                self.earlier = new.then(|| contents.clone());
                return Ok(self.names.to_core(contents));
            }
            before = now;
        }
        Err(io::Error::other("what was listed changed too often"))
    }

    /// Whether anybody else changed anything, or may have.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn is_changed(&mut self) -> io::Result<bool> {
        Ok(self.names.have_changed() || self.generation != Some(generation(&mut self.channel)?))
    }

    /// Removes the fence.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&mut self) -> io::Result<()> {
        remove_through(&mut self.channel).map(drop)
    }

    /// Takes note of what was just made, unless somebody else changed something since.
    fn survey(&mut self) {
        let found = fingerprint(&mut self.channel);
        let now = generation(&mut self.channel);
        let certain = now.is_ok_and(|now| self.generation == Some(now));
        self.fingerprint = found.ok().filter(|_| certain).unwrap_or_default();
        if !certain {
            self.generation = None;
        }
    }

    /// Tells an operator what he should know.
    fn explain(&self, change: &Change) {
        if matches!(change, Change::LayoutAnew { .. }) && !self.fingerprint.is_empty() {
            tracing::warn!("someone changed the nftables tables of turnip: putting them back");
        }
    }
}

fn is_layout(change: &Change) -> bool {
    matches!(change, Change::Layout { .. } | Change::LayoutAnew { .. })
}

fn messages_for(change: &Change) -> Vec<Message> {
    match change {
        Change::Layout { vips } => layout(vips),
        Change::LayoutAnew { vips } => {
            let mut messages: Vec<_> =
                Family::BOTH.map(|family| nft::add_table(family, TABLE)).into();
            messages.extend(Family::BOTH.map(|family| nft::delete_table(family, TABLE)));
            messages.extend(layout(vips));
            messages
        }
        Change::DeleteVips(gone) => unfenced(gone),
        Change::AddHeld(new) => held_elements(new, add_elements),
        Change::DeleteHeld(gone) => held_elements(gone, nft::delete_elements),
        Change::FlushHeld => held_flushed(),
        Change::AddGate(timeout) => gate_elements(TABLE, *timeout),
        Change::DeleteGate => delete_gate(),
        Change::FlushGate => flush_gate(),
        Change::AddTicket(timeout) => ticket_element(*timeout),
        Change::DeleteTicket => delete_ticket(),
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use nix::sched::{CloneFlags, unshare};
    use turnip_core::adapter::{Adapter, Call, GateFound, Reply};
    use turnip_core::{Assignment, Backstop, KernelOp, Mutant, OpId};

    use super::super::{caller, thread};
    use super::*;
    use crate::clock::{HostClock, timer_rate};
    use crate::seams::Clock;

    /// Stalls for so long between reading the clock and sending each change of a renewal, and is
    /// frozen for good when the kernel has accepted the gate, or has refused it. Whether the
    /// gate is open a while after the deadline.
    fn outlives_its_deadline(stalls: [u64; 2], mutant: Option<Mutant>) -> bool {
        let clock = HostClock::new();
        let mut fence = Fence::open(FenceNames::default()).unwrap();
        let vip = Assignment {
            vip: "v".parse().unwrap(),
            interface: "lo".into(),
            address: "10.9.0.1/32".parse().unwrap(),
        };
        let mut adapter = Adapter::new([vip.clone()], Backstop::Fence);
        thread::begin(&mut adapter, Some(&mut fence), &clock).unwrap();
        let first = clock.now() + Duration::from_millis(900);
        let assume = KernelOp::Assume { addresses: vec![vip], deadline: first };
        adapter.handle_op(OpId(0), assume, clock.now());
        while let Some(Call::Change(transaction)) = adapter.poll_call(clock.now(), timer_rate()) {
            adapter.handle_reply(caller::change(Some(&mut fence), &transaction), clock.now());
        }
        // As if it was there.
        adapter.handle_reply(Reply::Each(vec![Ok(())]), clock.now());
        let deadline = clock.now() + Duration::from_millis(1_000);
        if let Some(mutant) = mutant {
            adapter.set_mutant(mutant);
        }
        adapter.handle_op(OpId(1), KernelOp::Refresh { deadline }, clock.now());
        for stall in stalls {
            let call = adapter.poll_call(clock.now(), timer_rate());
            let Some(Call::Change(transaction)) = call else { break };
            sleep(Duration::from_millis(stall));
            let moves = transaction.changes.iter().any(|one| matches!(one, Change::AddGate(_)));
            let reply = caller::change(Some(&mut fence), &transaction);
            adapter.handle_reply(reply, clock.now());
            if moves {
                break;
            }
        }
        sleep(deadline.since(clock.now()) + Duration::from_millis(100));
        let open = fence.read().unwrap().gate != GateFound::Closed;
        fence.remove().unwrap();
        open
    }

    #[test]
    fn a_process_that_stalls_and_is_then_frozen_leaves_no_gate_open_beyond_its_deadline() {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test makes a network namespace: as root");
        for stalls in [[0, 0], [0, 300], [300, 0], [300, 300]] {
            assert!(!outlives_its_deadline(stalls, None), "{stalls:?}");
        }
        assert!(outlives_its_deadline([300, 300], Some(Mutant::NoTicket)));
    }
}
