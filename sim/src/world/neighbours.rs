//! The hosts' neighbours: clients on their network, each with a cache of where an address is.
//!
//! A client does not reach an address because a host answers for it, but because its cache names
//! that host. An announcement sets what the cache has; it may be lost, or come late and name a host
//! that has the address no more. An entry that leads nowhere is given up after a while, as Linux
//! does it: it counts as reachable for 15 to 45 s after the last sign of life, then 5 s pass and
//! three probes, one a second; then whoever answers is found anew.

use crate::check::Hosts;
use crate::plan::AddressId;
use crate::rng::Rng;
use crate::time::{S, True, US};

use super::event::NeighbourEvent;
use super::ids::HostId;

/// How many clients there are.
pub const CLIENTS: usize = 2;

/// A time in which a client looked for an address at a host that did not answer, and another did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Misled {
    /// Which client.
    pub client: usize,
    /// Which address.
    pub address: AddressId,
    /// Where the client looked.
    pub host: HostId,
    /// Whether an announcement misled it that came when the host answered no more.
    pub by_announcement: bool,
    /// From, in ns.
    pub from: True,
    /// To, in ns.
    pub to: True,
}

/// What a client knows of an address.
#[derive(Clone, Copy, Default)]
struct Entry {
    host: Option<HostId>,
    /// Since when that host has not answered.
    silent_since: Option<True>,
    misled_since: Option<True>,
    by_announcement: bool,
}

/// All clients' caches.
pub struct Neighbours {
    entries: Vec<[Entry; CLIENTS]>,
    holders: Vec<Hosts>,
    /// When clients were misled.
    pub misled: Vec<Misled>,
    rng: Rng,
}

impl Neighbours {
    /// Empty caches, of addresses with numbers below `addresses`.
    pub fn new(addresses: usize, seed: u64) -> Self {
        Neighbours {
            entries: vec![[Entry::default(); CLIENTS]; addresses],
            holders: vec![0; addresses],
            misled: Vec::new(),
            rng: Rng::new(seed, "neighbours"),
        }
    }

    /// Other hosts answer for an address. What follows, and when.
    pub fn holders_changed(
        &mut self,
        now: True,
        address: AddressId,
        holders: Hosts,
    ) -> Vec<(True, NeighbourEvent)> {
        if std::mem::replace(&mut self.holders[address], holders) == holders {
            return Vec::new();
        }
        (0..CLIENTS).filter_map(|client| self.look(now, client, address)).collect()
    }

    /// A host announces addresses; so many announcements in a thousand are lost. What follows, and
    /// when.
    pub fn sent(
        &mut self,
        now: True,
        host: HostId,
        addresses: &[AddressId],
        lost_permille: u64,
    ) -> Vec<(True, NeighbourEvent)> {
        let mut heard = Vec::new();
        for client in 0..CLIENTS {
            let rng = &mut self.rng;
            let arrives = |_: &&AddressId| !rng.chance(lost_permille);
            let addresses: Vec<AddressId> = addresses.iter().filter(arrives).copied().collect();
            let at = now + self.rng.within(50 * US..=500 * US);
            heard.push((at, NeighbourEvent::Hears { client, host, addresses }));
        }
        heard
    }

    /// Something happens to a client. What follows, and when.
    pub fn event(&mut self, now: True, event: NeighbourEvent) -> Vec<(True, NeighbourEvent)> {
        match event {
            NeighbourEvent::Hears { client, host, addresses } => {
                let hears = |address| self.hears(now, client, host, address);
                addresses.into_iter().filter_map(hears).collect()
            }
            NeighbourEvent::Asks { client, address, since } => {
                if self.entries[address][client].silent_since != Some(since) {
                    return Vec::new();
                }
                self.close(now, client, address);
                self.entries[address][client] = Entry::default();
                self.look(now, client, address).into_iter().collect()
            }
        }
    }

    /// Ends what lasts until now.
    pub fn finish(&mut self, now: True) {
        for address in 0..self.entries.len() {
            for client in 0..CLIENTS {
                self.close(now, client, address);
            }
        }
    }

    fn hears(
        &mut self,
        now: True,
        client: usize,
        host: HostId,
        address: AddressId,
    ) -> Option<(True, NeighbourEvent)> {
        self.close(now, client, address);
        let by_announcement = self.holders[address] >> host & 1 == 0;
        self.entries[address][client] =
            Entry { host: Some(host), by_announcement, ..Entry::default() };
        self.look(now, client, address)
    }

    /// Goes by what a client knows and who answers.
    fn look(
        &mut self,
        now: True,
        client: usize,
        address: AddressId,
    ) -> Option<(True, NeighbourEvent)> {
        let holders = self.holders[address];
        let entry = &mut self.entries[address][client];
        // A client without an entry asks all the time, and the first to answer is heard.
        if entry.host.is_none() && holders != 0 {
            entry.host = Some(holders.trailing_zeros() as usize);
        }
        let host = entry.host?;
        if holders >> host & 1 == 1 {
            self.close(now, client, address);
            let entry = &mut self.entries[address][client];
            (entry.silent_since, entry.by_announcement) = (None, false);
            return None;
        }
        if holders == 0 {
            self.close(now, client, address);
        } else if entry.misled_since.is_none() {
            entry.misled_since = Some(now);
        }
        let entry = &mut self.entries[address][client];
        if entry.silent_since.is_some() {
            return None;
        }
        entry.silent_since = Some(now);
        let at = now + self.rng.within(23 * S..=53 * S);
        Some((at, NeighbourEvent::Asks { client, address, since: now }))
    }

    fn close(&mut self, now: True, client: usize, address: AddressId) {
        let Entry { host, misled_since, by_announcement, .. } = &mut self.entries[address][client];
        if let (Some(host), Some(from)) = (*host, misled_since.take())
            && from < now
        {
            let by_announcement = *by_announcement;
            self.misled.push(Misled { client, address, host, by_announcement, from, to: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hears(neighbours: &mut Neighbours, now: True, host: HostId) {
        for client in 0..CLIENTS {
            let event = NeighbourEvent::Hears { client, host, addresses: vec![0] };
            neighbours.event(now, event);
        }
    }

    #[test]
    fn a_client_that_is_told_where_the_address_went_is_misled_until_then() {
        let mut neighbours = Neighbours::new(1, 1);
        assert!(neighbours.holders_changed(10, 0, 0b01).is_empty());
        neighbours.holders_changed(20, 0, 0);
        neighbours.holders_changed(30, 0, 0b10);
        hears(&mut neighbours, 35, 1);
        neighbours.finish(90);
        let misled: Vec<_> =
            neighbours.misled.iter().map(|one| (one.host, one.from, one.to)).collect();
        assert_eq!(misled, [(0, 30, 35); CLIENTS]);
        assert!(neighbours.misled.iter().all(|one| !one.by_announcement));
    }

    #[test]
    fn a_client_that_is_told_nothing_finds_the_address_when_its_entry_is_given_up() {
        let mut neighbours = Neighbours::new(1, 1);
        neighbours.holders_changed(0, 0, 0b01);
        let mut asks = neighbours.holders_changed(S, 0, 0b10);
        assert_eq!(asks.len(), CLIENTS);
        for (at, event) in asks.drain(..) {
            assert!((24 * S..=54 * S).contains(&at));
            assert!(neighbours.event(at, event).is_empty());
        }
        neighbours.finish(100 * S);
        assert_eq!(neighbours.misled.len(), CLIENTS);
    }

    #[test]
    fn an_announcement_of_an_owner_of_the_past_misleads() {
        let mut neighbours = Neighbours::new(1, 1);
        neighbours.holders_changed(0, 0, 0b10);
        hears(&mut neighbours, 50, 0);
        neighbours.finish(60);
        let misled: Vec<_> =
            neighbours.misled.iter().map(|one| (one.host, one.by_announcement, one.from)).collect();
        assert_eq!(misled, [(0, true, 50); CLIENTS]);
    }
}
