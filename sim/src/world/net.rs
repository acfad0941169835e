//! The network: one-way links between sites, that can be cut, slow and lossy.
//!
//! What goes to etcd runs over TCP, so loss shows as delay, until a cut makes it last. What hosts tell
//! each other are datagrams: they are lost, doubled, and overtake each other.

use crate::rng::Rng;
use crate::time::{MS, True, US};
use crate::timing::{Mishandling, Weather};

/// A place on the network: a host, or a machine of an etcd member that is apart.
pub type Site = usize;

/// When TCP sends again what nobody has acknowledged: Linux' least retransmission timeout.
const RETRANSMISSION: u64 = 200 * MS;

/// Who talks: a cut of the store hits clients only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plane {
    /// etcd's members among each other.
    Peer,
    /// Hosts with etcd's members.
    Client,
    /// Hosts among each other, past etcd (rule 10).
    Direct,
}

#[derive(Clone, Default)]
struct Link {
    cuts: [u32; 3],
    /// Since when nobody has acknowledged what was sent.
    unacknowledged: [Option<True>; 3],
    /// How much longer a message takes, in ns.
    slow: u64,
    /// In parts per million.
    loss_ppm: u64,
    datagrams: Mishandling,
}

/// All links.
pub struct Net {
    sites: usize,
    links: Vec<Link>,
    weather: Weather,
}

impl Net {
    /// All links up.
    pub fn new(sites: usize, weather: Weather) -> Self {
        Net { sites, links: vec![Link::default(); sites * sites], weather }
    }

    /// No message is late any more.
    pub fn calm(&mut self) {
        self.weather.tail_permille = 0;
    }

    /// Forbids traffic one way. Cuts add up: each has to be mended.
    pub fn cut(&mut self, plane: Plane, from: Site, to: Site) {
        self.link(from, to).cuts[plane as usize] += 1;
    }

    /// Takes one cut back.
    pub fn mend(&mut self, plane: Plane, from: Site, to: Site) {
        let cuts = &mut self.link(from, to).cuts[plane as usize];
        *cuts = cuts.saturating_sub(1);
    }

    /// Delays every message one way by so many ns more. Delays add up: each has to be taken back.
    pub fn slow(&mut self, from: Site, to: Site, by: u64) {
        self.link(from, to).slow += by;
    }

    /// Takes one delay back.
    pub fn hasten(&mut self, from: Site, to: Site, by: u64) {
        let slow = &mut self.link(from, to).slow;
        *slow = slow.saturating_sub(by);
    }

    /// Loses so many more segments in a million, each of which TCP sends again after 200 ms.
    pub fn lose(&mut self, from: Site, to: Site, ppm: u64) {
        self.link(from, to).loss_ppm += ppm;
    }

    /// Takes one loss back.
    pub fn spare(&mut self, from: Site, to: Site, ppm: u64) {
        let loss = &mut self.link(from, to).loss_ppm;
        *loss = loss.saturating_sub(ppm);
    }

    /// What befalls datagrams one way.
    pub fn mishandle(&mut self, from: Site, to: Site, how: Mishandling) {
        self.link(from, to).datagrams = how;
    }

    /// Whether a message gets through now.
    pub fn reaches(&self, plane: Plane, from: Site, to: Site) -> bool {
        self.links[from * self.sites + to].cuts[plane as usize] == 0
    }

    /// Whether TCP sends nothing new one way, because no acknowledgement has come back for so long.
    pub fn stalls(&mut self, plane: Plane, from: Site, to: Site, now: True) -> bool {
        let is_acknowledged = self.reaches(plane, to, from);
        let since = &mut self.link(from, to).unacknowledged[plane as usize];
        if is_acknowledged {
            *since = None;
            return false;
        }
        now - *since.get_or_insert(now) > RETRANSMISSION
    }

    /// How long a message of TCP takes; nothing when the link is cut.
    pub fn delay(&self, plane: Plane, from: Site, to: Site, rng: &mut Rng) -> Option<u64> {
        let mut delay = self.flight(plane, from, to, rng)?;
        let link = &self.links[from * self.sites + to];
        if from == to {
            return Some(delay);
        }
        let mut resend = RETRANSMISSION;
        while rng.chance_ppm(link.loss_ppm) && resend < 4_000 * MS {
            delay += resend;
            resend *= 2;
        }
        Some(delay)
    }

    /// How long each copy of a datagram takes that gets there: none, one or two.
    pub fn datagram(&self, from: Site, to: Site, rng: &mut Rng) -> Vec<u64> {
        let link = &self.links[from * self.sites + to];
        let how = link.datagrams;
        let copies = 1 + u64::from(rng.chance(how.doubled));
        let copy = |_| {
            let late = if rng.chance(how.late) { rng.below(how.by + 1) } else { 0 };
            let is_lost = rng.chance(how.lost) || rng.chance_ppm(link.loss_ppm);
            let flight = self.flight(Plane::Direct, from, to, rng)?;
            (!is_lost).then_some(flight + late)
        };
        (0..copies).filter_map(copy).collect()
    }

    /// How long a packet takes that is not lost; nothing when the link is cut.
    fn flight(&self, plane: Plane, from: Site, to: Site, rng: &mut Rng) -> Option<u64> {
        let link = &self.links[from * self.sites + to];
        if link.cuts[plane as usize] > 0 {
            return None;
        }
        if from == to {
            return Some(rng.within(20 * US..=60 * US));
        }
        let weather = &self.weather;
        let mut delay = link.slow + rng.within(weather.delay_min..=weather.delay_max);
        if rng.chance(weather.tail_permille) {
            delay += rng.below(weather.tail + 1);
        }
        Some(delay)
    }

    fn link(&mut self, from: Site, to: Site) -> &mut Link {
        &mut self.links[from * self.sites + to]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_stalls_where_no_acknowledgement_comes_back_until_one_does() {
        let weather = Weather { delay_min: 0, delay_max: 0, tail_permille: 0, tail: 0 };
        let mut net = Net::new(2, weather);
        net.cut(Plane::Peer, 1, 0);
        assert!(!net.stalls(Plane::Peer, 0, 1, 1_000 * MS));
        assert!(!net.stalls(Plane::Peer, 0, 1, 1_200 * MS));
        assert!(net.stalls(Plane::Peer, 0, 1, 1_201 * MS));
        assert!(!net.stalls(Plane::Client, 0, 1, 1_201 * MS));
        net.mend(Plane::Peer, 1, 0);
        assert!(!net.stalls(Plane::Peer, 0, 1, 1_300 * MS));
        net.cut(Plane::Peer, 1, 0);
        assert!(!net.stalls(Plane::Peer, 0, 1, 1_400 * MS));
    }
}
