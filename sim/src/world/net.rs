//! The network: one-way links between sites, that can be cut, slow and lossy.
//!
//! Everything on it runs over TCP, so loss shows as delay, until a cut makes it last.

use crate::rng::Rng;
use crate::time::{MS, US};
use crate::timing::Weather;

/// A place on the network: a host, or a machine of an etcd member that is apart.
pub type Site = usize;

/// Who talks: a cut of the store hits clients only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plane {
    /// etcd's members among each other.
    Peer,
    /// Hosts with etcd's members.
    Client,
}

#[derive(Clone, Default)]
struct Link {
    cuts: [u32; 2],
    slow: u64,
    loss_permille: u64,
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

    /// Delays every message one way by so many ns more.
    pub fn slow(&mut self, from: Site, to: Site, by: u64) {
        self.link(from, to).slow = by;
    }

    /// Loses so many segments in a thousand, each of which TCP sends again after 200 ms.
    pub fn lose(&mut self, from: Site, to: Site, permille: u64) {
        self.link(from, to).loss_permille = permille;
    }

    /// Whether a message gets through now.
    pub fn reaches(&self, plane: Plane, from: Site, to: Site) -> bool {
        self.links[from * self.sites + to].cuts[plane as usize] == 0
    }

    /// How long a message takes; nothing when the link is cut.
    pub fn delay(&self, plane: Plane, from: Site, to: Site, rng: &mut Rng) -> Option<u64> {
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
        let mut resend = 200 * MS;
        while rng.chance(link.loss_permille) && resend < 4_000 * MS {
            delay += resend;
            resend *= 2;
        }
        Some(delay)
    }

    fn link(&mut self, from: Site, to: Site) -> &mut Link {
        &mut self.links[from * self.sites + to]
    }
}
