//! The table `[peers]`: how the hosts hear each other past etcd (rule 10).

use std::net::{IpAddr, SocketAddr};

use super::problem::Collector;
use super::section::{Given, Section};
use super::values;
use super::vips::Vip;
use crate::peers::PORT_DEFAULT;

/// Where heartbeats are received, and where the others are told to send them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peers {
    /// Where they are received.
    pub listen: Listen,
    /// Where the others send them; absent when that is to be found out.
    pub address: Option<SocketAddr>,
}

/// Where heartbeats are received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listen {
    /// Nowhere: addresses do not outlive etcd.
    Off,
    /// Nobody said: at all addresses of the host, [`PORT_DEFAULT`].
    Default,
    /// Here, and turnip does not run without.
    At(SocketAddr),
}

impl Listen {
    /// The port.
    pub fn port(self) -> u16 {
        match self {
            Listen::At(address) => address.port(),
            Listen::Off | Listen::Default => PORT_DEFAULT,
        }
    }
}

/// Reads the table; absent only when something is wrong.
pub(super) fn read(mut section: Section, vips: &[Vip], problems: &mut Collector) -> Option<Peers> {
    let listen_given = section.take("listen");
    let listen = match &listen_given {
        None => Some(Listen::Default),
        Some(given) => match given.as_text().and_then(listen).and_then(|it| no_vip(it, vips)) {
            Ok(listen) => Some(listen),
            Err(what) => {
                section.refuse("listen", given, what, problems);
                None
            }
        },
    };
    let address_given = section.take("address");
    let address = match (&address_given, listen) {
        (None, _) => Some(None),
        (Some(given), listen) => match address(given, listen, vips) {
            Ok(address) => Some(Some(address)),
            Err(what) => {
                section.refuse("address", given, what, problems);
                None
            }
        },
    };
    section.finish(problems);
    Some(Peers { listen: listen?, address: address? })
}

/// `text` as an address with a port.
fn listen(text: &str) -> Result<Listen, String> {
    let text = text.trim();
    if text == "off" {
        return Ok(Listen::Off);
    }
    let right = format!(
        "write an address with a port, as in \"[::]:{PORT_DEFAULT}\", \"0.0.0.0:{PORT_DEFAULT}\" or \"10.0.0.1:{PORT_DEFAULT}\"; or \"off\""
    );
    let address: SocketAddr = text.parse().map_err(|_| match values::ip(text) {
        Ok(ip) => {
            format!("an address without a port; write \"{}\"", SocketAddr::new(ip, PORT_DEFAULT))
        }
        Err(_) => match values::port_out_of_range(text) {
            Some(port) => format!("there is no port {port}, but 1 to 65535; {right}"),
            None => format!("not an address with a port; {right}"),
        },
    })?;
    let ip = values::ip(&address.ip().to_string())?;
    if address.port() == 0 {
        return Err(format!("without a port, for there is no port 0; {right}"));
    }
    match ip.is_unspecified() {
        true => Ok(Listen::At(address)),
        false => reachable(ip).map(|()| Listen::At(address)),
    }
}

fn address(given: &Given, listen: Option<Listen>, vips: &[Vip]) -> Result<SocketAddr, String> {
    let text = given.as_text()?.trim();
    let port = listen.map_or(PORT_DEFAULT, Listen::port);
    let address = match text.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => match values::ip(text) {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) => {
                return Err("not an address; write one of this host, as in \"10.0.0.1\", or with the port by which it is reached, as in \"10.0.0.1:7746\" or \"[fd00::1]:7746\"".into());
            }
        },
    };
    let ip = values::ip(&address.ip().to_string())?;
    if address.port() == 0 {
        return Err("port 0 is none; leave it out for that of peers.listen".into());
    }
    reachable(ip)?;
    if let Some(vip) = owner(ip, vips) {
        return Err(format!(
            "an address of the VIP {vip}, which moves; write one that stays on this host"
        ));
    }
    match listen {
        Some(Listen::Off) => {
            Err("of no use with peers.listen = \"off\"; leave one of the two out".into())
        }
        Some(Listen::At(at)) if at.is_ipv4() && ip.is_ipv6() => Err(format!(
            "an IPv6 address, and peers.listen is for IPv4 alone; write \"[::]:{}\" there, or an IPv4 address here",
            at.port()
        )),
        Some(Listen::At(SocketAddr::V6(at))) if ip.is_ipv4() && !at.ip().is_unspecified() => {
            Err(format!(
                "an IPv4 address, and peers.listen is for IPv6 alone; write \"[::]:{}\" there, or an IPv6 address here",
                at.port()
            ))
        }
        _ => Ok(address),
    }
}

/// Whether other hosts can send to it.
fn reachable(ip: IpAddr) -> Result<(), String> {
    let why = match ip {
        _ if ip.is_unspecified() => "the unspecified address",
        _ if ip.is_loopback() => "a loopback address, which no other host reaches",
        _ if ip.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            "a link-local address, which is one only together with an interface"
        }
        _ => return Ok(()),
    };
    Err(format!("{why}; write one of this host by which the others reach it, as in \"10.0.0.1\""))
}

fn no_vip(listen: Listen, vips: &[Vip]) -> Result<Listen, String> {
    match listen {
        Listen::At(at) if owner(at.ip(), vips).is_some() => Err(format!(
            "an address of a VIP, which moves; write one that stays on this host, or \"[::]:{}\"",
            at.port()
        )),
        other => Ok(other),
    }
}

fn owner(ip: IpAddr, vips: &[Vip]) -> Option<&turnip_core::VipName> {
    let vip = vips.iter().find(|vip| vip.config.ips().any(|own| own == ip));
    vip.map(|vip| &vip.config.name)
}

#[cfg(test)]
mod tests {
    use super::super::problem::Place;
    use super::*;

    fn given(text: &str) -> Given {
        Given::text(Place::Default, text.into())
    }

    #[test]
    fn listen_is_an_address_with_a_port_or_off() {
        assert_eq!(listen("off"), Ok(Listen::Off));
        for text in ["[::]:7746", "0.0.0.0:7000", "10.0.0.1:7746", "[fd00::1]:7746"] {
            assert_eq!(listen(text), Ok(Listen::At(text.parse().unwrap())), "{text}");
        }
        for (text, right) in [
            ("10.0.0.1", "write \"10.0.0.1:7746\""),
            ("fd00::1", "write \"[fd00::1]:7746\""),
            ("7746", "\"[::]:7746\""),
            ("host-a:7746", "\"[::]:7746\""),
            ("Off", "or \"off\""),
            ("0.0.0.0:0", "without a port"),
            ("[::]:99999", "there is no port 99999"),
            ("127.0.0.1:7746", "loopback"),
            ("[ff02::1]:7746", "multicast"),
            ("[fe80::1]:7746", "link-local"),
            ("[::ffff:10.0.0.1]:7746", "write \"10.0.0.1\""),
        ] {
            let error = listen(text).unwrap_err();
            assert!(error.contains(right), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_without_a_port_has_that_of_listen() {
        let at = |listen: &str| Some(Listen::At(listen.parse().unwrap()));
        let parsed = |text: &str, listen| address(&given(text), listen, &[]);
        let expected = |text: &str| Ok(text.parse().unwrap());
        assert_eq!(parsed("10.0.0.1", Some(Listen::Default)), expected("10.0.0.1:7746"));
        assert_eq!(parsed("10.0.0.1", at("[::]:7000")), expected("10.0.0.1:7000"));
        assert_eq!(parsed("fd00::1", at("[::]:7000")), expected("[fd00::1]:7000"));
        assert_eq!(parsed("10.0.0.1:1234", at("0.0.0.0:7000")), expected("10.0.0.1:1234"));
        for (text, listen, right) in [
            ("fd00::1", at("0.0.0.0:7000"), "\"[::]:7000\""),
            ("10.0.0.1", at("[fd00::1]:7000"), "\"[::]:7000\""),
            ("10.0.0.1", Some(Listen::Off), "leave one of the two out"),
            ("10.0.0.1:0", Some(Listen::Default), "leave it out"),
            ("0.0.0.0", Some(Listen::Default), "unspecified"),
            ("::1", Some(Listen::Default), "loopback"),
            ("host-a", Some(Listen::Default), "\"10.0.0.1\""),
        ] {
            let error = parsed(text, listen).unwrap_err();
            assert!(error.contains(right), "{text}: {error}");
        }
    }
}
