//! `virtual_ipaddress` and `virtual_ipaddress_excluded`.

use std::net::IpAddr;

use super::tree::Statement;
use crate::config::values;
use crate::import::note::Notes;
use crate::import::origin::Origin;

/// An address of an instance.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// With its prefix length.
    pub net: String,
    /// Its own interface.
    pub dev: Option<String>,
    /// Where it stands.
    pub origin: Origin,
}

/// The addresses in a block.
pub(super) fn read(block: &Statement, notes: &mut Notes) -> Vec<Address> {
    let mut all = Vec::new();
    for line in block.inner() {
        one(line, &mut all, notes);
        line.inner().iter().for_each(|inner| super::keywords::tell(inner, notes));
    }
    all
}

fn one(line: &Statement, all: &mut Vec<Address>, notes: &mut Notes) {
    let mut words = line.words.iter().map(String::as_str).peekable();
    let mut found: Vec<Address> = Vec::new();
    while let Some(word) = words.next() {
        let value = |words: &mut std::iter::Peekable<_>| words.next().unwrap_or("").to_owned();
        match word {
            "dev" => {
                let dev = value(&mut words);
                match (values::interface(&dev), found.last_mut()) {
                    (Ok(dev), Some(last)) => last.dev = Some(dev),
                    _ => {
                        notes.lost(&line.origin, line.text(), "dev without an interface; name one")
                    }
                }
            }
            "scope" => {
                let scope = value(&mut words);
                let is_link_local =
                    found.iter().any(|one| one.net.to_ascii_lowercase().starts_with("fe80:"));
                if scope == "link" && is_link_local {
                    notes.needless(
                        &line.origin,
                        line.text(),
                        "a link-local address has the scope link by itself",
                    );
                } else if scope != "global" {
                    notes.lost(&line.origin, line.text(), "turnip's addresses have the scope global; look whether another one is needed");
                }
            }
            "label" => {
                let label = value(&mut words);
                let what = format!(
                    "the address has no label; have what looks for {label:?} look for the address"
                );
                notes.lost(&line.origin, line.text(), what);
            }
            "brd" | "broadcast" => {
                value(&mut words);
                notes.needless(&line.origin, line.text(), "a VIP has no broadcast address");
            }
            "peer" | "preferred_lft" | "track_group" => {
                let what = format!(
                    "{word} {} has no counterpart; the address is in the output without it",
                    value(&mut words)
                );
                notes.lost(&line.origin, line.text(), what);
            }
            "home" | "-nodad" | "nodad" | "mngtmpaddr" | "noprefixroute" | "autojoin"
            | "no_track" => {
                notes.needless(&line.origin, line.text(), format!("{word} is turnip's own matter"));
            }
            _ => match address(word) {
                Ok(net) => found.push(Address { net, dev: None, origin: line.origin.clone() }),
                Err(what) => notes.lost(&line.origin, line.text(), format!("{word}: {what}")),
            },
        }
    }
    all.extend(found);
}

/// With its prefix length; alone it is one address.
fn address(text: &str) -> Result<String, String> {
    let net = match text.parse::<IpAddr>() {
        Ok(ip) => values::usable(ip, if ip.is_ipv4() { 32 } else { 128 })?,
        Err(_) => values::host_address(text)?,
    };
    Ok(net.to_string())
}
