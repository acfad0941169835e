//! A host's kernel: its links, its addresses with lifetimes, nftables' sets with timeouts.
//!
//! Everything is in the time that the kernel's own timers count, which is nobody else's: NTP bends
//! it, it stands still while the host is suspended, and timeouts are whole ticks of it. The kernel
//! knows turnip only by what [`Call`]s ask of it.

mod addresses;
mod nft;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use turnip_core::adapter::{Call, FenceContents, Fenced, Reply, TransactionError};
use turnip_core::{Assignment, KernelError, Link, Listing};

use crate::rng::Rng;
use crate::time::US;

use addresses::Addresses;
use nft::Nft;

/// What may answer otherwise than before.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Affected {
    /// Nothing.
    #[default]
    Nothing,
    /// These addresses.
    Some(Vec<IpAddr>),
    /// Any.
    All,
}

/// What is wrong with netlink, as far as the kernel is concerned: of so many messages in a
/// thousand it has no buffer for what they ask, or for the answer.
#[derive(Clone, Copy, Default, Debug)]
pub struct Failing {
    /// Of what is asked about each address, and of each transaction.
    pub permille: u64,
}

/// What is in one host's kernel until it is switched off.
pub struct Kernel {
    links: Vec<Link>,
    addresses: Addresses,
    nft: Nft,
    /// Addresses that it never takes.
    pub refuses: BTreeSet<IpNet>,
    /// Whether it silences anything by itself.
    helps: bool,
}

/// What the kernel did with a call.
pub struct Read {
    /// The answer.
    pub reply: Reply,
    /// What may answer otherwise than before.
    pub affected: Affected,
}

impl Kernel {
    /// A kernel just booted, with these links up. Its timers tick every `tick` ns. One that does not
    /// `help` does as it is told, but lets everything pass, and addresses stay for ever.
    pub fn new(interfaces: &[Arc<str>], tick: u64, helps: bool) -> Self {
        let up = |name: &Arc<str>| Link { name: Arc::clone(name), up: true, carrier: true };
        Kernel {
            links: interfaces.iter().map(up).collect(),
            addresses: Addresses::default(),
            nft: Nft::new(tick),
            refuses: BTreeSet::new(),
            helps,
        }
    }

    /// Whether packets to `net` are answered at `now`.
    pub fn answers(&self, net: IpNet, now: u64) -> bool {
        let passes = |interface: &Arc<str>| {
            !self.helps || self.nft.passes(&Fenced::new(interface, net.addr()), now)
        };
        let mut interfaces = self.addresses.interfaces(net);
        interfaces.any(|interface| self.is_up(interface) && passes(interface))
    }

    /// Whether the address is in the table, answering or not.
    pub fn has(&self, net: IpNet) -> bool {
        self.addresses.interfaces(net).next().is_some()
    }

    /// What is left of turnip: addresses with its mark, and whether the fence is there.
    pub fn leftovers(&self) -> (Vec<IpNet>, bool) {
        (self.addresses.marked().collect(), self.nft.is_there())
    }

    /// When the gate closes by itself, while it is open.
    pub fn gate_ends(&self, now: u64) -> Option<u64> {
        self.nft.gate_ends(now)
    }

    /// How many addresses are there that are held, and silent because the gate has closed.
    pub fn silenced(&self, now: u64) -> usize {
        if !self.helps || self.nft.gate_ends(now).is_some() {
            return 0;
        }
        let silent = |net: &IpNet| {
            let mut on = self.addresses.interfaces(*net);
            on.any(|interface| self.nft.is_held(&Fenced::new(interface, net.addr())))
        };
        self.addresses.nets().filter(silent).count()
    }

    /// When the kernel next looks for addresses that have outlived their lifetime.
    pub fn lifetimes_end(&self) -> Option<u64> {
        self.addresses.next_end()
    }

    /// Removes what has outlived its lifetime.
    pub fn expire(&mut self, now: u64) -> Vec<IpNet> {
        self.addresses.expire(now)
    }

    /// Somebody else takes an address away. Tells whether it was there.
    pub fn steal(&mut self, net: IpNet) -> bool {
        self.addresses.remove_all(net)
    }

    /// Somebody else puts an address there, for ever and without a mark. Tells whether it is new.
    pub fn plant(&mut self, net: IpNet, interface: &Arc<str>) -> bool {
        let new = !self.has(net);
        if new {
            self.addresses.put(net, interface, false, None);
        }
        new
    }

    /// The host's own address on an interface goes and comes back. Gives what stands before it then.
    pub fn misplace(&mut self, interface: &str) -> Vec<IpNet> {
        self.addresses.misplace(interface)
    }

    /// Whether an address stands before the host's own.
    pub fn is_misplaced(&self, net: IpNet) -> bool {
        self.addresses.is_misplaced(net)
    }

    /// Somebody else puts an address on an interface of his own, beside which the fence is, or takes it
    /// away from there. Tells whether that changes anything.
    pub fn set_double(&mut self, net: IpNet, there: bool) -> bool {
        const ELSEWHERE: &str = "elsewhere";
        let is_there = self.addresses.interfaces(net).any(|interface| &**interface == ELSEWHERE);
        if is_there == there || (there && !self.nft.is_there()) {
            return false;
        }
        let interface: Arc<str> = ELSEWHERE.into();
        if there {
            self.add_link(&interface);
            self.addresses.put(net, &interface, false, None);
        } else {
            self.addresses.remove(net, &interface);
        }
        true
    }

    /// Somebody else changes rules of nftables; turnip's as well, when he flushes all.
    pub fn change_rules(&mut self, flush: bool) {
        self.nft.foreign_change(flush);
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
        self.addresses.remove_interface(name);
    }

    /// A link appears, up.
    pub fn add_link(&mut self, name: &Arc<str>) -> Link {
        let link = Link { name: Arc::clone(name), up: true, carrier: true };
        if !self.links.iter().any(|there| there.name == *name) {
            self.links.push(link.clone());
        }
        link
    }

    /// A new process speaks to the kernel: what it knows of the rules is nothing.
    pub fn new_process(&mut self) {
        self.nft.new_process();
    }

    /// How long the kernel takes to carry a call out, in ns.
    pub fn duration(call: &Call) -> u64 {
        match call {
            Call::Put { addresses, .. } | Call::Delete { addresses } => addresses.len() as u64 * US,
            _ => 0,
        }
    }

    /// Reads a message at `now` and carries it out. `configured` is what the process that sent it
    /// looks for.
    pub fn read(
        &mut self,
        call: &Call,
        configured: &BTreeSet<IpNet>,
        now: u64,
        failing: Failing,
        rng: &mut Rng,
    ) -> Read {
        let no_buffer = || KernelError::Refused("no buffer space available".into());
        match call {
            Call::List | Call::ReadFence if rng.chance(failing.permille / 8) => {
                Read { reply: Reply::Failed(no_buffer()), affected: Affected::Nothing }
            }
            Call::List => {
                let listing = self.listing(configured);
                let fence_changed = self.nft.is_changed();
                let reply = Reply::Listed { listing, fence_changed };
                Read { reply, affected: Affected::Nothing }
            }
            Call::Put { addresses, lifetime_secs } => {
                let put = |one: &Assignment, kernel: &mut Self, rng: &mut Rng| {
                    kernel.put(one, *lifetime_secs, now, rng)
                };
                self.each(addresses, failing, rng, put)
            }
            Call::Delete { addresses } => self.each(addresses, failing, rng, |one, kernel, _| {
                kernel.addresses.remove(one.address, &one.interface);
                Ok(())
            }),
            Call::Change(transaction) => {
                let failed = rng.chance(failing.permille / 4);
                if failed && rng.chance(500) {
                    let refused = Err(TransactionError::Other("no buffer space available".into()));
                    return Read { reply: Reply::Changed(refused), affected: Affected::Nothing };
                }
                let (mut done, affected) = self.nft.transact(transaction, now);
                if failed && done.is_ok() {
                    // It took place, and nobody is told.
                    done = Err(TransactionError::Other("the answer was lost".into()));
                    self.nft.uncertain();
                }
                Read { reply: Reply::Changed(done), affected }
            }
            Call::ReadFence => {
                let contents: FenceContents = self.nft.contents(now);
                Read { reply: Reply::Fence(contents), affected: Affected::Nothing }
            }
            Call::RemoveFence => {
                self.nft.remove();
                Read { reply: Reply::Removed, affected: Affected::All }
            }
        }
    }

    fn each(
        &mut self,
        addresses: &[Assignment],
        failing: Failing,
        rng: &mut Rng,
        act: impl Fn(&Assignment, &mut Self, &mut Rng) -> Result<(), KernelError>,
    ) -> Read {
        let one = |one: &Assignment| {
            if rng.chance(failing.permille) {
                return Err(KernelError::Refused("no buffer space available".into()));
            }
            act(one, self, rng)
        };
        let answers = addresses.iter().map(one).collect();
        let affected = addresses.iter().map(|one| one.address.addr()).collect();
        Read { reply: Reply::Each(answers), affected: Affected::Some(affected) }
    }

    fn put(
        &mut self,
        one: &Assignment,
        lifetime_secs: u32,
        now: u64,
        rng: &mut Rng,
    ) -> Result<(), KernelError> {
        if !self.links.iter().any(|link| link.name == one.interface) {
            return Err(KernelError::NoInterface);
        }
        if self.refuses.contains(&one.address) {
            return Err(KernelError::Refused("permission denied".into()));
        }
        let ends = self.helps.then(|| addresses::ends(lifetime_secs, now, rng));
        self.addresses.put(one.address, &one.interface, true, ends);
        Ok(())
    }

    fn listing(&self, configured: &BTreeSet<IpNet>) -> Listing {
        Listing { addresses: self.addresses.listed(configured), links: self.links.clone() }
    }

    /// Whether a link is there, and up.
    pub fn is_up(&self, interface: &str) -> bool {
        self.links.iter().any(|link| &*link.name == interface && link.up)
    }
}
