//! The thread that carries out what the kernel is asked to do.
//!
//! rtnetlink waits for a lock that anything on the host may hold for a while, so it has a thread of
//! its own: the renewals of the session do not wait with it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use turnip_core::{
    Assignment, Backstop, Instant, KernelError, KernelOp, KernelOutcome, Listing, PresentAddress,
    lease,
};

use super::address::{LinkState, Slot};
use super::fence::Fence;
use super::lifetimes::{self, Lifetimes};
use super::liveness::Liveness;
use super::queue::Queue;
use super::record::{Entry, Record};
use super::refusal::Refusal;
use super::route::Route;
use crate::clock::{HostClock, KernelRate};
use crate::seams::Clock;

/// So many addresses go to the kernel at once: their acknowledgements fit the socket's buffer
/// many times over, and a withdrawal waits for no more than these.
const CHUNK: usize = 64;

/// The addresses that are there by turnip's doing: what happens to them otherwise is news.
#[derive(Clone, Default)]
pub(super) struct Expected(Arc<Mutex<HashSet<Slot>>>);

impl Expected {
    /// Takes note that the address is there; whether that is new.
    pub fn insert(&self, slot: Slot) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(slot)
    }

    /// Takes note that the address is gone; whether that is new.
    pub fn remove(&self, slot: Slot) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&slot)
    }

    /// Whether it should be there.
    pub fn contains(&self, slot: Slot) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&slot)
    }
}

/// What the thread works with.
pub(super) struct Worker {
    pub route: Route,
    /// None where lifetimes are the proof.
    pub fence: Option<Fence>,
    pub clock: HostClock,
    pub configured: BTreeSet<Entry>,
    pub record: Record,
    pub expected: Expected,
    pub queue: Arc<Queue>,
    pub lifetimes: Lifetimes,
    pub liveness: Liveness,
    /// The interfaces that keep the other addresses of a subnet when the first goes.
    pub promoting: HashSet<u32>,
}

/// How it goes with one `Assume` or `Refresh`.
#[derive(Default)]
struct Progress {
    put: Vec<(Assignment, Slot)>,
    failed: Vec<(Assignment, KernelError)>,
    until: Option<Instant>,
}

impl Progress {
    fn fail(&mut self, assignments: impl IntoIterator<Item = Assignment>, why: &KernelError) {
        self.failed.extend(assignments.into_iter().map(|one| (one, why.clone())));
    }
}

fn entry(assignment: &Assignment) -> Entry {
    (Arc::clone(&assignment.interface), assignment.address)
}

fn ips<'a>(assignments: impl IntoIterator<Item = &'a Assignment>) -> Vec<IpAddr> {
    assignments.into_iter().map(|assignment| assignment.address.addr()).collect()
}

fn refused(error: &io::Error) -> KernelError {
    KernelError::Refused(error.to_string())
}

impl Worker {
    /// Works until the queue is closed.
    pub fn run(mut self) {
        /// Also when the thread panics.
        struct Abandon(Arc<Queue>);
        impl Drop for Abandon {
            fn drop(&mut self) {
                self.0.abandon();
            }
        }
        let queue = Arc::clone(&self.queue);
        let _at_the_end = Abandon(Arc::clone(&queue));
        let _told = self.liveness.ends_with("the thread that speaks to the kernel has ended");
        while let Some(mut job) = queue.next() {
            self.liveness.begin();
            let outcome = self.execute(&mut job.op);
            job.answer(outcome);
            self.liveness.step();
            self.liveness.rest();
        }
    }

    fn execute(&mut self, op: &mut KernelOp) -> KernelOutcome {
        match op {
            KernelOp::List => match self.list() {
                Ok(listing) => KernelOutcome::Listed(listing),
                Err(error) => KernelOutcome::Failed(refused(&error)),
            },
            KernelOp::Assume { addresses, deadline } => {
                self.assume(std::mem::take(addresses), *deadline)
            }
            KernelOp::Refresh { addresses, deadline } => {
                self.refresh(std::mem::take(addresses), *deadline)
            }
            KernelOp::Withdraw { addresses } => self.withdraw(std::mem::take(addresses)),
            KernelOp::RemoveFence => match self.fence.as_mut().map_or(Ok(()), Fence::remove) {
                Ok(()) => KernelOutcome::Done { failed: Vec::new(), until: None },
                Err(error) => KernelOutcome::Failed(error),
            },
        }
    }

    /// Everything marked or recorded, and everything configured, with every link.
    pub fn list(&mut self) -> io::Result<Listing> {
        if let Some(fence) = &mut self.fence
            && let Err(error) = fence.mend()
        {
            tracing::warn!(%error, "the fence cannot be put back");
        }
        self.liveness.step();
        let links = self.route.links()?;
        self.liveness.step();
        let mut listing = Listing::default();
        let mut strays = BTreeSet::new();
        for (slot, kept_mark) in self.route.addresses()? {
            let Some(LinkState { link, .. }) = links.get(&slot.index) else {
                strays.insert(slot.address.addr());
                continue;
            };
            let entry: Entry = (Arc::clone(&link.name), slot.address);
            let marked = kept_mark || self.record.contains(&entry);
            if marked {
                strays.insert(slot.address.addr());
            }
            if marked || self.configured.contains(&entry) {
                self.expected.insert(slot);
                let (interface, address) = entry;
                listing.addresses.push(PresentAddress { interface, address, marked });
            }
        }
        if let Some(fence) = &mut self.fence {
            fence.release(&strays);
        }
        listing.links = links.into_values().map(|state| state.link).collect();
        Ok(listing)
    }

    fn assume(&mut self, addresses: Vec<Assignment>, deadline: Instant) -> KernelOutcome {
        let mut progress = Progress::default();
        let slots = self.resolve(addresses, &mut progress);
        let latest = self.latest(deadline);
        if let Some(fence) = &mut self.fence
            && !slots.is_empty()
            && let Err(error) = fence.allow(&ips(slots.iter().map(|(one, _)| one)), latest)
        {
            progress.fail(slots.into_iter().map(|(assignment, _)| assignment), &error);
            return self.done(progress);
        }
        self.record.note(slots.iter().map(|(assignment, _)| entry(assignment)));
        self.keep_siblings(&slots);
        let count = self.lifetimes.count() + slots.len();
        let slack = self.fence.as_ref().map_or(Duration::ZERO, |_| lifetimes::slack(count));
        self.put_all(slots, deadline, slack, &mut progress);
        self.undo_if_late(deadline, &mut progress);
        self.silence_failed(&progress);
        self.done(progress)
    }

    fn refresh(&mut self, addresses: Vec<Assignment>, deadline: Instant) -> KernelOutcome {
        let mut progress = Progress::default();
        let count = addresses.len();
        let mut slots = self.resolve(addresses, &mut progress);
        let mut slack = Duration::ZERO;
        let deadline = self.latest(deadline);
        if let Some(fence) = &mut self.fence {
            if !slots.is_empty()
                && let Err(error) = fence.prolong(&ips(slots.iter().map(|(one, _)| one)), deadline)
            {
                return KernelOutcome::Failed(error);
            }
            slack = lifetimes::slack(count);
            slots = self.lifetimes.due(slots, deadline, slack);
        }
        self.record.note(slots.iter().map(|(assignment, _)| entry(assignment)));
        self.put_all(slots, deadline, slack, &mut progress);
        self.undo_if_late(deadline, &mut progress);
        self.done(progress)
    }

    /// Until when what is put there may stay: until `deadline`, or that of a renewal that came
    /// after it. The deadline is the session's, and what must not stay after all was
    /// taken out of the queue by the `Withdraw` that said so. Without this, what waits behind
    /// thousands of others for longer than a lease would come too late for ever.
    fn latest(&self, deadline: Instant) -> Instant {
        self.queue.renewed().map_or(deadline, |renewed| renewed.max(deadline))
    }

    /// Silences first, which is one transaction; then takes the addresses away.
    fn withdraw(&mut self, addresses: Vec<Assignment>) -> KernelOutcome {
        // A stray on another interface or of another length is no reason to silence a VIP.
        let configured = &self.configured;
        let vips = ips(addresses.iter().filter(|one| configured.contains(&entry(one))));
        if let Some(fence) = &mut self.fence
            && let Err(error) = fence.shut(&vips)
        {
            tracing::warn!(%error, "the fence could not be closed; taking the addresses away");
        }
        let mut progress = Progress::default();
        let slots = self.resolve(addresses, &mut progress);
        // Without its interface an address is gone.
        let mut gone: Vec<_> =
            progress.failed.drain(..).map(|(assignment, _)| entry(&assignment)).collect();
        self.keep_siblings(&slots);
        for (assignment, error) in self.delete_all(&slots) {
            progress.failed.push((assignment, error));
        }
        let left: BTreeSet<_> = progress.failed.iter().map(|(one, _)| entry(one)).collect();
        gone.extend(slots.iter().map(|(one, _)| entry(one)).filter(|one| !left.contains(one)));
        self.record.strike(&gone);
        if self.fence.as_ref().is_some_and(Fence::has_former)
            && let Err(error) = self.list()
        {
            tracing::debug!(%error, "what is no VIP any more stays fenced for now");
        }
        self.done(progress)
    }

    fn done(&self, progress: Progress) -> KernelOutcome {
        let until = if self.fence.is_some() { None } else { progress.until };
        KernelOutcome::Done { failed: progress.failed, until }
    }

    /// Finds the interfaces; what has none fails.
    fn resolve(
        &mut self,
        addresses: Vec<Assignment>,
        progress: &mut Progress,
    ) -> Vec<(Assignment, Slot)> {
        let mut indices: BTreeMap<Arc<str>, Option<u32>> = BTreeMap::new();
        let mut slots = Vec::with_capacity(addresses.len());
        for assignment in addresses {
            let index = *indices
                .entry(Arc::clone(&assignment.interface))
                .or_insert_with_key(|name| nix::net::if_::if_nametoindex(&**name).ok());
            match index {
                Some(index) => {
                    let slot = Slot { index, address: assignment.address };
                    slots.push((assignment, slot));
                }
                None => progress.failed.push((assignment, KernelError::NoInterface)),
            }
        }
        slots
    }

    /// Has the interfaces keep the other addresses of a subnet when one of them goes.
    fn keep_siblings(&mut self, slots: &[(Assignment, Slot)]) {
        let in_subnet =
            |slot: &Slot| slot.address.addr().is_ipv4() && slot.address.prefix_len() < 32;
        for (assignment, slot) in slots {
            if !in_subnet(slot) || !self.promoting.insert(slot.index) {
                continue;
            }
            let answer = self.route.promote_secondaries(slot.index);
            let answer = answer.and_then(|answer| Ok(answer?));
            if let Err(why) = answer {
                tracing::warn!(interface = %assignment.interface, %why,
                    "cannot set promote_secondaries: taking one address of a subnet away may take others with it, which are then put back");
            }
        }
    }

    /// Puts the addresses there, some at a time; between them, what is withdrawn goes first.
    fn put_all(
        &mut self,
        mut slots: Vec<(Assignment, Slot)>,
        deadline: Instant,
        slack: Duration,
        progress: &mut Progress,
    ) {
        slots.reverse();
        while !slots.is_empty() {
            let chunk = slots.split_off(slots.len().saturating_sub(CHUNK));
            self.put_chunk(chunk.into_iter().rev().collect(), deadline, slack, progress);
            if slots.is_empty() {
                return;
            }
            self.hasten_the_gate();
            while let Some(mut job) = self.queue.next_withdrawal() {
                if let KernelOp::Withdraw { addresses } = &job.op {
                    let withdrawn: BTreeSet<_> = addresses.iter().cloned().collect();
                    let late = |(one, _): &mut (Assignment, Slot)| withdrawn.contains(one);
                    let mut cancelled: Vec<_> = slots.extract_if(.., late).collect();
                    cancelled.extend(progress.put.extract_if(.., late));
                    let cancelled = cancelled.into_iter().map(|(one, _)| one);
                    progress.fail(cancelled, &KernelError::TooLate);
                }
                let outcome = self.execute(&mut job.op);
                job.answer(outcome);
            }
        }
    }

    /// A renewal that waits behind many addresses moves the gate already.
    fn hasten_the_gate(&mut self) {
        let Some(fence) = &mut self.fence else { return };
        if let (Some(until), Some(deadline)) = (fence.open_until(), self.queue.renewed())
            && deadline > until
            && let Err(error) = fence.prolong(&[], deadline)
        {
            tracing::debug!(%error, "the gate could not be moved ahead of its turn");
        }
    }

    /// Puts a chunk there with lifetimes that fit the deadline, and `slack` more beside the fence;
    /// reads the clock before, and again after the acknowledgements: the kernel counts the lifetime
    /// from when it read the message.
    fn put_chunk(
        &mut self,
        mut chunk: Vec<(Assignment, Slot)>,
        deadline: Instant,
        slack: Duration,
        progress: &mut Progress,
    ) {
        let backstop = if self.fence.is_some() { Backstop::Fence } else { Backstop::Lifetime };
        let mut sent = false;
        loop {
            let deadline = self.latest(deadline);
            let before = self.clock.now();
            let in_time = lifetime_secs(backstop, deadline, before);
            let with_slack = || lifetime_secs(backstop, deadline + slack, before);
            let Some(secs) = in_time.and_then(|_| with_slack()) else {
                // What a round before this one put there goes again.
                if sent || before >= deadline {
                    log_stuck(&self.delete_all(&chunk));
                }
                progress.fail(chunk.into_iter().map(|(one, _)| one), &KernelError::TooLate);
                return;
            };
            chunk = self.send_chunk(chunk, secs, before, progress);
            self.liveness.step();
            sent = true;
            let after = self.clock.now();
            let in_time = lifetime_secs(backstop, deadline, after);
            if backstop == Backstop::Fence || in_time.is_some_and(|longest| secs <= longest) {
                let ends = before + Duration::from_secs(secs.into());
                if !chunk.is_empty() {
                    progress.until = Some(progress.until.map_or(ends, |until| until.min(ends)));
                }
                progress.put.extend(chunk);
                return;
            }
        }
    }

    /// Sends a chunk, and gives back what the kernel took.
    fn send_chunk(
        &mut self,
        chunk: Vec<(Assignment, Slot)>,
        secs: u32,
        before: Instant,
        progress: &mut Progress,
    ) -> Vec<(Assignment, Slot)> {
        let new: Vec<_> = chunk.iter().filter(|(_, slot)| self.expected.insert(*slot)).collect();
        let new: HashSet<_> = new.into_iter().map(|(_, slot)| *slot).collect();
        let answers = match self.route.put(chunk.iter().map(|(_, slot)| *slot), secs) {
            Ok(answers) => answers,
            Err(error) => {
                progress.fail(chunk.into_iter().map(|(one, _)| one), &refused(&error));
                return Vec::new();
            }
        };
        let mut put = Vec::with_capacity(chunk.len());
        for ((assignment, slot), answer) in chunk.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    self.lifetimes.set(slot, before, secs);
                    put.push((assignment, slot));
                }
                Err(refusal) => {
                    if new.contains(&slot) {
                        self.expected.remove(slot);
                    }
                    progress.failed.push((assignment, kernel_error(&refusal)));
                }
            }
        }
        if self.record.is_undecided()
            && let Some((_, slot)) = put.first()
            && let Ok(present) = self.route.addresses()
            && let Some((_, marked)) = present.iter().find(|(found, _)| found == slot)
        {
            self.record.decide(*marked);
        }
        put
    }

    /// Takes away what was put there, when its time is over by now.
    fn undo_if_late(&mut self, deadline: Instant, progress: &mut Progress) {
        let closed = self.fence.as_ref().is_some_and(|fence| fence.open_until().is_none());
        let deadline = self.latest(deadline);
        if progress.put.is_empty() || (self.clock.now() < deadline && !closed) {
            return;
        }
        let late = std::mem::take(&mut progress.put);
        if let Some(fence) = &mut self.fence
            && let Err(error) = fence.shut(&ips(late.iter().map(|(one, _)| one)))
        {
            tracing::warn!(%error, "the fence could not be closed; taking the addresses away");
        }
        let stuck = self.delete_all(&late);
        log_stuck(&stuck);
        progress.fail(late.into_iter().map(|(one, _)| one), &KernelError::TooLate);
    }

    /// What could not be put there must not be let through either.
    fn silence_failed(&mut self, progress: &Progress) {
        let failed = ips(progress.failed.iter().map(|(one, _)| one));
        if let Some(fence) = &mut self.fence
            && !failed.is_empty()
            && let Err(error) = fence.shut(&failed)
        {
            tracing::warn!(%error, "the fence could not be closed");
        }
    }

    /// Takes the addresses away; gives back those that the kernel kept, with its reasons.
    fn delete_all(&mut self, slots: &[(Assignment, Slot)]) -> Vec<(Assignment, KernelError)> {
        let mut failed = Vec::new();
        for chunk in slots.chunks(CHUNK) {
            for (_, slot) in chunk {
                self.expected.remove(*slot);
                self.lifetimes.forget(*slot);
            }
            self.liveness.step();
            let answers = match self.route.delete(chunk.iter().map(|(_, slot)| *slot)) {
                Ok(answers) => answers,
                Err(error) => {
                    failed.extend(chunk.iter().map(|(one, _)| (one.clone(), refused(&error))));
                    continue;
                }
            };
            for ((assignment, _), answer) in chunk.iter().zip(answers) {
                if let Err(refusal) = answer
                    && !is_gone(&refusal)
                {
                    failed.push((assignment.clone(), kernel_error(&refusal)));
                }
            }
            self.hasten_the_gate();
        }
        failed
    }
}

/// How many of its seconds the kernel may count until the deadline.
fn lifetime_secs(backstop: Backstop, deadline: Instant, now: Instant) -> Option<u32> {
    lease::lifetime_secs(backstop, now + KernelRate::now().count(deadline.since(now)), now)
}

fn log_stuck(stuck: &[(Assignment, KernelError)]) {
    for (assignment, error) in stuck {
        tracing::warn!(%assignment, %error, "an address that came too late cannot be taken away");
    }
}

/// Whether a refusal to delete means that there is nothing to delete.
pub(super) fn is_gone(refusal: &Refusal) -> bool {
    let gone = [Errno::EADDRNOTAVAIL, Errno::ENODEV, Errno::ENXIO];
    gone.contains(&Errno::from_raw(refusal.errno))
}

fn kernel_error(refusal: &Refusal) -> KernelError {
    match Errno::from_raw(refusal.errno) {
        Errno::ENODEV => KernelError::NoInterface,
        _ => KernelError::Refused(refusal.to_string()),
    }
}
