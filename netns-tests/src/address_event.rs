//! What the kernels of the hosts say of an address: it came, or it went.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// An address came or went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressEvent {
    /// When it was read; events are in the kernel's order.
    pub at: Instant,
    /// On which host.
    pub host: Arc<str>,
    /// Which.
    pub address: IpAddr,
    /// Whether it is there now. A refreshed address comes again.
    pub present: bool,
}

/// The hosts that have an address after these events.
pub fn holders(events: &[AddressEvent]) -> BTreeSet<&str> {
    let mut holders = BTreeSet::new();
    events.iter().for_each(|event| update(&mut holders, event));
    holders
}

/// Takes one event into account.
pub(crate) fn update<'a>(holders: &mut BTreeSet<&'a str>, event: &'a AddressEvent) {
    if event.present {
        holders.insert(&*event.host);
    } else {
        holders.remove(&*event.host);
    }
}
