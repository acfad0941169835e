//! The addresses of a `[[vip]]`, each with the interface that carries it.
//!
//! An address is on the VIP's `interface`, or names one of its own: `"203.0.113.2/29 dev wan0"`, or
//! `{ address = "203.0.113.2/29", interface = "wan0" }`. With `each = true` what stands there are
//! prefixes, and every address of these is a VIP by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use turnip_core::VipAddress;
use turnip_core::adapter::Fenced;

use super::problem::{Collector, Place};
use super::section::{Given, Section, Value};
use super::values;
use super::vips::at;

/// So many VIPs come of one table at most: a host asks, fences and announces each of them.
pub(super) const EACH_MAX: u64 = 4096;

/// Addresses that were seen so far, with the line of each.
pub(super) type SeenAddresses = BTreeMap<Fenced, (String, Place)>;

/// What a table says of addresses.
pub(super) struct Addresses {
    /// All of them.
    pub all: BTreeSet<VipAddress>,
    /// Whether each is a VIP by itself.
    pub each: bool,
    /// Where each interface is named.
    pub interfaces: BTreeMap<Arc<str>, Place>,
}

/// One address, or one prefix of them, as it is written.
struct Item {
    given: Given,
    text: Result<String, String>,
    interface: Option<(Arc<str>, Place)>,
}

/// Reads the addresses of the VIP that is called `title`; absent when something is wrong.
pub(super) fn read(
    section: &mut Section,
    title: &str,
    seen: &mut SeenAddresses,
    problems: &mut Collector,
) -> Option<Addresses> {
    let each = section.read("each", problems, Given::as_bool).unwrap_or(false);
    let interface_given = section.take("interface");
    let given = items(section, problems);
    let interface = interface(section, interface_given.as_ref(), given.as_ref(), problems);
    let (key, items) = given?;
    let mut sound = true;
    let mut found = Addresses { all: BTreeSet::new(), each, interfaces: BTreeMap::new() };
    for item in &items {
        // Without a sound interface the addresses are looked at all the same.
        let on = item.interface.as_ref().or(interface.as_ref());
        let nameless = Arc::from("");
        let name = on.map_or(&nameless, |(name, _)| name);
        sound &= on.is_some();
        let nets = item.text.as_deref().map_err(Clone::clone).and_then(|text| match each {
            true => addresses_of(text),
            false => values::host_address(text).map(|net| vec![net]),
        });
        let nets = match nets {
            Ok(nets) if found.all.len() as u64 + nets.len() as u64 > EACH_MAX => {
                Err(too_many(found.all.len() as u64 + nets.len() as u64))
            }
            nets => nets,
        };
        let added = nets.and_then(|nets| {
            nets.into_iter().try_for_each(|net| {
                is_free(Fenced::new(name, net.addr()), seen, title, &item.given.place)?;
                found.all.insert(VipAddress { net, interface: Arc::clone(name), parent: None });
                Ok(())
            })
        });
        if let Err(what) = added {
            sound = false;
            section.refuse(key, &item.given, what, problems);
        }
        if let Some((name, place)) = on {
            found.interfaces.entry(Arc::clone(name)).or_insert_with(|| place.clone());
        }
    }
    sound.then_some(found)
}

/// What is written as `address` or `addresses`, by that key.
fn items(section: &mut Section, problems: &mut Collector) -> Option<(&'static str, Vec<Item>)> {
    let (one, several) = (section.take("address"), section.take("addresses"));
    if let (Some(_), Some(given)) = (&one, &several) {
        let what = "given beside `address`; write all of them here, or the only one there";
        section.refuse("addresses", given, what, problems);
    }
    let (key, given) = match (one, several) {
        (Some(given), _) => ("address", vec![given]),
        (None, Some(given)) => match given.as_list() {
            Ok(items) if items.is_empty() => {
                section.refuse("addresses", &given, "empty; write at least one", problems);
                return None;
            }
            Ok(items) => ("addresses", items),
            Err(what) => {
                section.refuse("addresses", &given, what, problems);
                return None;
            }
        },
        (None, None) => {
            section.lacks("address", "write it as in \"10.0.0.50/32\"", problems);
            return None;
        }
    };
    let items = given.into_iter().map(|given| item(section, key, given, problems)).collect();
    Some((key, items))
}

fn item(section: &Section, key: &str, given: Given, problems: &mut Collector) -> Item {
    let (text, interface) = match &given.value {
        Value::Table(table) => {
            let mut table = table.clone().with_prefix("vip.addresses.");
            let text = match table.take("address") {
                Some(address) => address.as_text().map(str::to_owned),
                None => Err(
                    "no address; write it as in { address = \"10.0.0.50/24\", interface = \"eth0\" }"
                        .into(),
                ),
            };
            let interface = table.take("interface");
            table.finish(problems);
            (text, interface)
        }
        _ => match given.as_text() {
            Ok(text) => match text.split_once(" dev ") {
                Some((address, interface)) => {
                    let interface = Given::text(given.place.clone(), interface.trim().to_owned());
                    (Ok(address.trim().to_owned()), Some(interface))
                }
                None => (Ok(text.to_owned()), None),
            },
            Err(what) => (Err(what), None),
        },
    };
    let interface = interface.map(|named| {
        let name = named.as_text().and_then(values::interface);
        // As good as any: nothing that is wrong is used.
        let name = name.unwrap_or_else(|what| {
            section.refuse(key, &named, what, problems);
            String::new()
        });
        (Arc::from(name), named.place)
    });
    Item { given, text, interface }
}

/// The interface of all addresses that name none themselves.
fn interface(
    section: &Section,
    given: Option<&Given>,
    items: Option<&(&'static str, Vec<Item>)>,
    problems: &mut Collector,
) -> Option<(Arc<str>, Place)> {
    let items = items.map_or(&[][..], |(_, items)| items);
    let all_have_one = !items.is_empty() && items.iter().all(|item| item.interface.is_some());
    let Some(given) = given else {
        if !all_have_one {
            let what = "name the one that carries the address, as in \"eth0\" or \"lo\"";
            section.lacks("interface", what, problems);
        }
        return None;
    };
    if all_have_one {
        let what = "of no use: each of the addresses names its own; leave it out";
        section.refuse("interface", given, what, problems);
    }
    match given.as_text().and_then(values::interface) {
        Ok(name) => Some((Arc::from(name), given.place.clone())),
        Err(what) => {
            section.refuse("interface", given, what, problems);
            None
        }
    }
}

/// Takes note of an address, unless a VIP has it already.
fn is_free(
    fenced: Fenced,
    seen: &mut SeenAddresses,
    title: &str,
    place: &Place,
) -> Result<(), String> {
    if let Some((owner, place)) = seen.get(&fenced) {
        let once = match fenced {
            Fenced::Anywhere(_) => "an address belongs to one VIP, once",
            Fenced::On(..) => "a link-local address belongs to one VIP on an interface, once",
        };
        return Err(format!("the address of {owner} too, {}; {once}", at(place)));
    }
    seen.insert(fenced, (title.to_owned(), place.clone()));
    Ok(())
}

/// All addresses of a prefix, each by itself.
fn addresses_of(text: &str) -> Result<Vec<IpNet>, String> {
    let example = "write the prefix of which each address is to be a VIP, as in \"10.1.0.0/24\"";
    let net: IpNet = text.trim().parse().map_err(|_| format!("not a prefix; {example}"))?;
    if net != net.trunc() {
        return Err(format!(
            "an address within {0}; write \"{0}\" for all of these, or leave each = true out",
            net.trunc()
        ));
    }
    let bits = net.max_prefix_len() - net.prefix_len();
    if bits >= 64 || 1_u64 << bits > EACH_MAX {
        return Err(too_many(if bits >= 64 { u64::MAX } else { 1 << bits }));
    }
    let single = |ip| values::usable(ip, net.max_prefix_len());
    single(net.network())?;
    single(net.broadcast())?;
    let all = net.subnets(net.max_prefix_len()).map_err(|error| error.to_string())?;
    Ok(all.collect())
}

fn too_many(count: u64) -> String {
    let count = if count == u64::MAX { "more than 10^19".to_owned() } else { count.to_string() };
    format!(
        "{count} addresses, and each = true makes {EACH_MAX} VIPs of a table at most, which is an IPv4 /20 or an IPv6 /116; write a longer prefix, or route the whole prefix to one VIP's address"
    )
}
