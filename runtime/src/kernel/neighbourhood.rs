//! Where neighbours look for addresses, as those know who announce them, who listen, and who hear of links.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use turnip_core::{Assignment, Conflict, Mac, VipName};

use super::address::Slot;
use super::configured::OwnNames;
use super::devices::{Device, Devices, is_neighbour};
use super::expected::Expected;

/// How long devices are taken for what they were where nothing was heard of a link since: looking them up
/// goes through every address of the host, under the lock that putting addresses there needs too.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// How long a hardware address that was this host's is not taken for another's: what was sent from it may
/// come back by another interface.
const OWN_FOR: Duration = Duration::from_secs(10);
/// How long an address must have been here until another machine's claim counts, and until neighbours are
/// asked for one: before, it was another host's of turnip, and what that said last may be read late.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// So many addresses that have gone are remembered.
const GONE_MAX: usize = 256;

/// On which interfaces VIPs are announced, where the configuration names them.
pub type AnnounceOn = BTreeMap<VipName, Vec<Arc<str>>>;

/// What is known of it. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Neighbourhood(Arc<Shared>);

type ByAddress = HashMap<IpAddr, Vec<Assignment>>;

fn by_address(configured: &[Assignment]) -> ByAddress {
    let mut by_address = ByAddress::new();
    for one in configured {
        by_address.entry(one.address.addr()).or_default().push(one.clone());
    }
    by_address
}

#[derive(Default)]
struct Shared {
    configured: RwLock<Arc<ByAddress>>,
    announce_on: RwLock<AnnounceOn>,
    own_names: OwnNames,
    /// How often something was heard of a link, or of an address that is no VIP.
    news: AtomicU64,
    known: Mutex<Option<Known>>,
    /// The interfaces of VIPs that were announced on another one, by that one.
    elsewhere: Mutex<BTreeMap<Arc<str>, BTreeSet<Arc<str>>>>,
    /// The host's own addresses that have gone from an interface and not come back.
    gone: Mutex<BTreeSet<(Arc<str>, IpNet)>>,
}

struct Known {
    at: Instant,
    news: u64,
    devices: Arc<Devices>,
    /// Hardware addresses that the host had, and until when they count as its own.
    former: Vec<(Mac, Instant)>,
}

impl Neighbourhood {
    pub fn new(configured: &[Assignment], announce_on: AnnounceOn, own_names: OwnNames) -> Self {
        Neighbourhood(Arc::new(Shared {
            configured: RwLock::new(Arc::new(by_address(configured))),
            announce_on: RwLock::new(announce_on),
            own_names,
            ..Shared::default()
        }))
    }

    fn configured(&self) -> Arc<ByAddress> {
        Arc::clone(&self.0.configured.read().unwrap_or_else(PoisonError::into_inner))
    }

    // ---- another configuration

    /// These are all addresses of VIPs from now on.
    pub fn configure(&self, configured: &[Assignment]) {
        let by_address = Arc::new(by_address(configured));
        *self.0.configured.write().unwrap_or_else(PoisonError::into_inner) = by_address;
        // What is known of devices leaves out the VIPs.
        self.tell();
    }

    /// On these interfaces VIPs are announced from now on.
    pub fn announce_on(&self, announce_on: AnnounceOn) {
        *self.0.announce_on.write().unwrap_or_else(PoisonError::into_inner) = announce_on;
    }

    // ---- being told

    /// Something was heard of a link, or of an address that is no VIP.
    pub fn tell(&self) {
        self.0.news.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something was.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.0.news.load(Ordering::Relaxed)
    }

    /// VIPs of `interface` were announced on another one.
    pub fn announced_elsewhere(&self, interface: &Arc<str>, device: &Arc<str>) {
        let mut elsewhere = lock(&self.0.elsewhere);
        elsewhere.entry(Arc::clone(device)).or_default().insert(Arc::clone(interface));
    }

    /// An address that is no VIP has gone from an interface: what was announced there for its sake has to be
    /// so again when it comes back.
    pub fn subnet_gone(&self, subnet: IpNet, device: &Arc<str>) {
        let mut gone = lock(&self.0.gone);
        // Temporary addresses never come back.
        if gone.len() >= GONE_MAX {
            gone.clear();
        }
        gone.insert((Arc::clone(device), subnet));
    }

    // ---- looking

    /// The addresses that are VIPs'.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.configured().keys().copied().collect()
    }

    /// Where a VIP's address is announced.
    pub fn places<'a>(&self, devices: &'a Devices, assignment: &Assignment) -> Vec<&'a Device> {
        let chosen = self.chosen(&assignment.vip);
        let chosen: Option<Vec<_>> =
            chosen.map(|names| names.iter().map(|name| self.0.own_names.of(name)).collect());
        devices.places(&self.0.own_names.translate(assignment), chosen.as_deref())
    }

    /// Where the address is put, which need not be where it is announced.
    pub fn slot(&self, devices: &Devices, assignment: &Assignment) -> Option<Slot> {
        let index = devices.index_of(&self.0.own_names.of(&assignment.interface))?;
        Some(Slot { index, address: assignment.address })
    }

    fn chosen(&self, vip: &VipName) -> Option<Vec<Arc<str>>> {
        self.0.announce_on.read().unwrap_or_else(PoisonError::into_inner).get(vip).cloned()
    }

    /// The other interfaces of which VIPs were announced on this one.
    pub fn announced_on(&self, device: &str) -> Vec<Arc<str>> {
        let elsewhere = lock(&self.0.elsewhere);
        elsewhere.get(device).into_iter().flatten().cloned().collect()
    }

    /// The interfaces that have VIPs in a subnet which has come to `device`, among those on which nobody
    /// `resolves` addresses, as far as none of theirs was announced there yet, or the subnet was gone.
    pub fn newly_in(
        &self,
        subnet: IpNet,
        device: &Arc<str>,
        resolves: impl Fn(&str) -> bool,
    ) -> Vec<Arc<str>> {
        let is_back = lock(&self.0.gone).remove(&(Arc::clone(device), subnet));
        let known: BTreeSet<_> = match is_back {
            true => BTreeSet::new(),
            false => self.announced_on(device).into_iter().collect(),
        };
        let configured = self.configured();
        let all = configured.values().flatten();
        let concerned = all.filter(|one| {
            is_neighbour(one.address.addr(), subnet)
                && self.0.own_names.of(&one.interface) != *device
                && !known.contains(&one.interface)
                && self.chosen(&one.vip).is_none()
                && !resolves(&one.interface)
        });
        let interfaces: BTreeSet<_> = concerned.map(|one| Arc::clone(&one.interface)).collect();
        interfaces.into_iter().collect()
    }

    /// The devices as they are, or were when nothing was heard since. It may have to wait for the kernel.
    pub fn devices(&self) -> Arc<Devices> {
        let mut known = lock(&self.0.known);
        self.refresh(&mut known)
    }

    fn refresh(&self, known: &mut Option<Known>) -> Arc<Devices> {
        let (now, news) = (Instant::now(), self.0.news.load(Ordering::Relaxed));
        if let Some(known) = known
            && known.news == news
            && now.duration_since(known.at) < KNOWN_FOR
        {
            return Arc::clone(&known.devices);
        }
        let configured = self.configured();
        let devices = Devices::read(|address| configured.contains_key(&address));
        let devices = Arc::new(devices.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the interfaces: addresses are not announced on them for now");
            Devices::default()
        }));
        let mut former = Vec::new();
        if let Some(before) = known.take() {
            let gone = before.devices.macs().difference(devices.macs());
            former = before.former;
            former.retain(|(_, until)| *until > now);
            former.extend(gone.map(|mac| (*mac, now + OWN_FOR)));
        }
        *known = Some(Known { at: now, news, devices: Arc::clone(&devices), former });
        devices
    }

    /// What follows from a packet that came in on the interface of this index, and says that the machine
    /// `mac` has `address`: a conflict where that is here for some time and announced there, and the machine
    /// is none of this host's interfaces.
    pub fn conflict(
        &self,
        (address, mac): (IpAddr, Mac),
        index: u32,
        expected: &Expected,
    ) -> Option<Conflict> {
        let configured = self.configured();
        let assignments = configured.get(&address)?;
        let (devices, is_own) = {
            let mut known = lock(&self.0.known);
            let devices = self.refresh(&mut known);
            let former = known.as_ref().map_or(&[][..], |known| known.former.as_slice());
            let is_former =
                former.iter().any(|(one, until)| *one == mac && *until > Instant::now());
            let is_own = is_former || devices.macs().contains(&mac);
            (devices, is_own)
        };
        let is_here = |one: &&Assignment| {
            let since = self.slot(&devices, one).and_then(|slot| expected.since(slot));
            since.is_some_and(|since| since.elapsed() >= SETTLED_AFTER)
        };
        if is_own || !is_a_machines(mac) {
            return None;
        }
        assignments.iter().filter(is_here).find_map(|one| {
            let mut places = self.places(&devices, one).into_iter();
            let place = places.find(|device| device.index == index)?;
            Some(Conflict { assignment: one.clone(), heard_on: Arc::clone(&place.name), mac })
        })
    }
}

/// Whether it is an address that an interface can have: not of a group, and not all zeros.
fn is_a_machines(mac: Mac) -> bool {
    mac.0[0] & 1 == 0 && mac.0 != [0; 6]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::devices::tests::{devices, on};
    use super::*;

    const FOREIGN: Mac = Mac([2, 0, 0, 0, 0, 0x99]);

    /// On `lo` a VIP in the subnet of `eth0` (index 2), whose hardware address ends in 2.
    fn neighbourhood() -> (Neighbourhood, Assignment) {
        let vip = on("lo", "10.0.0.50/32");
        let neighbourhood =
            Neighbourhood::new(std::slice::from_ref(&vip), AnnounceOn::new(), OwnNames::default());
        let devices = devices(&[("eth0", &["10.0.0.11/24"]), ("eth1", &["192.0.2.1/24"])]);
        *lock(&neighbourhood.0.known) = Some(Known {
            at: Instant::now(),
            news: 0,
            devices: Arc::new(devices),
            former: vec![
                (Mac([2, 0, 0, 0, 0, 0x70]), Instant::now() + OWN_FOR),
                (Mac([2, 0, 0, 0, 0, 0x71]), Instant::now()),
            ],
        });
        (neighbourhood, vip)
    }

    fn held_for(vip: &Assignment, duration: Duration) -> Expected {
        let expected = Expected::default();
        let slot = Slot { index: 1, address: vip.address };
        expected.insert_as_of(slot, Instant::now().checked_sub(duration).unwrap());
        expected
    }

    #[test]
    fn a_foreign_machine_on_the_link_where_the_address_is_announced_is_a_conflict() {
        let (neighbourhood, vip) = neighbourhood();
        let expected = held_for(&vip, SETTLED_AFTER);
        let claim = |mac: Mac, index: u32, address: &str| {
            neighbourhood.conflict((address.parse().unwrap(), mac), index, &expected)
        };
        let conflict = claim(FOREIGN, 2, "10.0.0.50").unwrap();
        assert_eq!(conflict, Conflict { assignment: vip, heard_on: "eth0".into(), mac: FOREIGN });
        assert_eq!(claim(FOREIGN, 3, "10.0.0.50"), None, "another link: not where it is announced");
        assert_eq!(claim(FOREIGN, 2, "10.0.0.51"), None, "another address");
        for own in [2, 3, 0x70] {
            let own = Mac([2, 0, 0, 0, 0, own]);
            assert_eq!(claim(own, 2, "10.0.0.50"), None, "{own} is or was this host's");
        }
        assert!(claim(Mac([2, 0, 0, 0, 0, 0x71]), 2, "10.0.0.50").is_some(), "it was, long ago");
        assert_eq!(claim(Mac([0; 6]), 2, "10.0.0.50"), None);
        assert_eq!(claim(Mac([0xff; 6]), 2, "10.0.0.50"), None);
    }

    #[test]
    fn what_is_not_held_or_was_another_hosts_a_moment_ago_is_no_conflict() {
        let (neighbourhood, vip) = neighbourhood();
        let claim = (vip.address.addr(), FOREIGN);
        assert_eq!(neighbourhood.conflict(claim, 2, &Expected::default()), None);
        let fresh = held_for(&vip, SETTLED_AFTER / 2);
        assert_eq!(neighbourhood.conflict(claim, 2, &fresh), None);
    }

    #[test]
    fn a_subnet_that_comes_late_is_news_for_the_vips_in_it_until_they_are_announced_there() {
        let (neighbourhood, vip) = neighbourhood();
        let subnet: IpNet = "10.0.0.11/24".parse().unwrap();
        let eth0 = "eth0".into();
        let newly_in = |subnet, resolves: bool| neighbourhood.newly_in(subnet, &eth0, |_| resolves);
        assert_eq!(newly_in(subnet, false), [Arc::clone(&vip.interface)]);
        assert!(newly_in(subnet, true).is_empty(), "it is announced on its own interface");
        assert!(newly_in("192.0.2.1/24".parse().unwrap(), false).is_empty());
        neighbourhood.announced_elsewhere(&vip.interface, &eth0);
        assert!(newly_in(subnet, false).is_empty());
        assert_eq!(neighbourhood.announced_on("eth0"), [Arc::clone(&vip.interface)]);
        neighbourhood.subnet_gone("fd00::11/64".parse().unwrap(), &eth0);
        assert!(newly_in(subnet, false).is_empty(), "another one has gone");
        neighbourhood.subnet_gone(subnet, &eth0);
        assert_eq!(newly_in(subnet, false), [vip.interface]);
        assert!(newly_in(subnet, false).is_empty(), "it was there");
    }

    #[test]
    fn what_is_chosen_is_not_looked_for() {
        let vip = on("lo", "10.0.0.50/32");
        let announce_on = AnnounceOn::from([(vip.vip.clone(), vec!["eth1".into()])]);
        let neighbourhood =
            Neighbourhood::new(std::slice::from_ref(&vip), announce_on, OwnNames::default());
        let subnet = "10.0.0.11/24".parse().unwrap();
        assert!(neighbourhood.newly_in(subnet, &"eth0".into(), |_| false).is_empty());
        let devices = devices(&[("eth0", &["10.0.0.11/24"]), ("eth1", &[])]);
        let places = neighbourhood.places(&devices, &vip);
        assert_eq!(places.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["eth1"]);
    }
}
