//! Texts of the configuration, parsed into what they mean. An error says what would be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

/// Reads `3s`, `600ms`, `1.5s` or `2m`.
///
/// # Errors
/// When there is no number, or no unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("not a duration; write it with its unit, as in {:?}", suggestion(text));
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit.trim() {
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        "" => return Err(wrong()),
        unit => return Err(format!("{unit:?} is no unit here; write ms, s, m or h")),
    };
    let nanos = (number * unit_ms * 1e6).round();
    // A day is far beyond every duration that is accepted later, and no overflow.
    if nanos > 86_400e9 {
        return Err("longer than a day".into());
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// The shortest interval of announcements: all neighbours look at each.
pub(super) const ANNOUNCE_EVERY_MIN: Duration = Duration::from_secs(1);

/// Reads an interval of announcements, `60s`; none for `0`, which is never.
///
/// # Errors
/// When it is no duration, or so short that it is a flood.
pub fn announce_every(text: &str) -> Result<Option<Duration>, String> {
    if text.trim() == "0" {
        return Ok(None);
    }
    match duration(text)? {
        every if every.is_zero() => Ok(None),
        every if every < ANNOUNCE_EVERY_MIN => Err(
            "too often: every neighbour looks at each announcement; write \"1s\" at least, or \"0\" for never after the first three".into(),
        ),
        every => Ok(Some(every)),
    }
}

fn suggestion(text: &str) -> String {
    match text.trim().parse::<f64>() {
        Ok(number) if number >= 100.0 => format!("{number}ms"),
        Ok(number) if number > 0.0 => format!("{number}s"),
        _ => "3s".into(),
    }
}

/// Reads `1%` or `0.5 %` into parts per million.
///
/// # Errors
/// When there is no number, or no percent sign.
pub fn percent_ppm(text: &str) -> Result<u32, String> {
    let wrong = || "not a percentage; write it as in \"1%\"".to_owned();
    let number = text.strip_suffix('%').ok_or_else(wrong)?.trim();
    let percent: f64 = number.parse().map_err(|_| wrong())?;
    if (0.0..=100.0).contains(&percent) {
        Ok((percent * 10_000.0).round() as u32)
    } else {
        Err("out of range; a percentage is 0% to 100%".into())
    }
}

/// Reads an address with its prefix length that a host can have.
///
/// # Errors
/// When it is not in CIDR form, or is no address of a single host.
pub fn host_address(text: &str) -> Result<IpNet, String> {
    let Some((address, prefix)) = text.split_once('/') else {
        return Err(match ip(text) {
            Ok(ip) => format!(
                "not in CIDR form; write \"{}\" for the address alone, or with the prefix length of its subnet",
                IpNet::from(ip)
            ),
            Err(why) => why,
        });
    };
    let ip = ip(address)?;
    let prefix = prefix_len(ip, prefix)?;
    usable(ip, prefix)
}

/// Reads an IP address.
///
/// # Errors
/// When it is none, or is an IPv4 address in IPv6's clothes.
pub fn ip(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.trim().parse().map_err(|_| {
        "not an IP address; write it as in \"10.0.0.50\" or \"fd00::50\"".to_owned()
    })?;
    match ip {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Err(format!("an IPv4 address mapped into IPv6; write \"{v4}\"")),
            None => Ok(ip),
        },
        IpAddr::V4(_) => Ok(ip),
    }
}

/// The port of `text`, an address with a port that is none.
pub fn port_out_of_range(text: &str) -> Option<&str> {
    let (address, port) = text.rsplit_once(':')?;
    let is_number = !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    let address = address.trim_start_matches('[').trim_end_matches(']');
    (is_number && port.parse::<u16>().is_err() && ip(address).is_ok()).then_some(port)
}

/// Reads the prefix length of `ip`: `24`, `/24`, `255.255.255.0`, or `ffff:ffff::` for IPv6.
///
/// # Errors
/// When it is none of these, or out of range.
pub fn prefix_len(ip: IpAddr, text: &str) -> Result<u8, String> {
    let (max, example) = match ip {
        IpAddr::V4(_) => (32, "\"/24\", \"24\" or \"255.255.255.0\""),
        IpAddr::V6(_) => (128, "\"/64\", \"64\" or \"ffff:ffff:ffff:ffff::\""),
    };
    let text = text.trim().trim_start_matches('/');
    let prefix = match (text.parse::<u32>(), text.parse::<IpAddr>(), ip) {
        (Ok(length), ..) => u8::try_from(length).ok().filter(|&length| length <= max),
        (_, Ok(IpAddr::V4(mask)), IpAddr::V4(_)) => ipnet::ipv4_mask_to_prefix(mask).ok(),
        (_, Ok(IpAddr::V6(mask)), IpAddr::V6(_)) => ipnet::ipv6_mask_to_prefix(mask).ok(),
        _ => None,
    };
    match prefix {
        Some(0) => Err(format!("a subnet that is the whole world; write one up to /{max}")),
        Some(prefix) => Ok(prefix),
        None => Err(format!(
            "not the prefix length of an IPv{} address; write it as in {example}, at most /{max}",
            if max == 32 { 4 } else { 6 }
        )),
    }
}

/// `ip` within its subnet, if a single host can have it.
///
/// # Errors
/// When it is something else than a host.
pub fn usable(ip: IpAddr, prefix: u8) -> Result<IpNet, String> {
    let net = IpNet::new(ip, prefix).map_err(|error| error.to_string())?;
    let why = match ip {
        _ if ip.is_unspecified() => Some("the unspecified address".to_owned()),
        _ if ip.is_loopback() => Some("a loopback address, which every host has".to_owned()),
        _ if ip.is_multicast() => Some("a multicast address".to_owned()),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("the broadcast address".to_owned()),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("of the range \"this network\"".to_owned()),
        // A subnet of one or two addresses has none to spare.
        _ if prefix + 2 > net.max_prefix_len() => None,
        IpAddr::V4(_) if ip == net.network() => {
            Some(format!("the network's own address in {}", net.trunc()))
        }
        IpAddr::V4(_) if ip == net.broadcast() => {
            Some(format!("the broadcast address of {}", net.trunc()))
        }
        IpAddr::V6(v6) if v6 == Ipv6Addr::from(as_v6(net.network())) => {
            Some(format!("the routers' anycast address in {}", net.trunc()))
        }
        _ => None,
    };
    match why {
        Some(why) => Err(format!("{why}; a VIP is an address of one host, as in \"10.0.0.50/32\"")),
        None => Ok(net),
    }
}

fn as_v6(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Reads a name of an interface, as the kernel allows it: an interface's own has at most 15 bytes,
/// another one (`altname`) at most 127.
///
/// # Errors
/// When no interface can have the name.
pub fn interface(text: &str) -> Result<String, String> {
    let fits = (1..=127).contains(&text.len()) && text != "." && text != "..";
    if fits && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        Ok(text.to_owned())
    } else {
        Err("no interface can have this name; write one that `ip link` shows, as in \"eth0\""
            .into())
    }
}

/// The one of `known` that `text` was probably meant to be.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |name: &&str| {
        let distance = strsim::damerau_levenshtein(&text.to_lowercase(), name);
        (distance <= 1 + name.len() / 4).then_some(distance)
    };
    known.into_iter().filter(|name| near(name).is_some()).min_by_key(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("600ms"), Ok(Duration::from_millis(600)));
        assert_eq!(duration("1.5 s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        assert!(duration("2d").unwrap_err().contains("no unit here; write ms, s, m or h"));
        assert!(duration("3").unwrap_err().contains("\"3s\""));
        assert!(duration("600").unwrap_err().contains("\"600ms\""));
        for text in ["", "s", "-3s", "3d", "three", "1..5s", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn announcements_are_made_every_so_often_or_never() {
        assert_eq!(announce_every("60s"), Ok(Some(Duration::from_secs(60))));
        assert_eq!(announce_every("2m"), Ok(Some(Duration::from_secs(120))));
        for never in ["0", " 0 ", "0s", "0ms"] {
            assert_eq!(announce_every(never), Ok(None), "{never}");
        }
        assert!(announce_every("60").unwrap_err().contains("\"60s\""));
        assert!(announce_every("999ms").unwrap_err().contains("\"1s\""));
        assert!(announce_every("never").is_err());
    }

    #[test]
    fn a_percentage_has_its_sign() {
        assert_eq!(percent_ppm("1%"), Ok(10_000));
        assert_eq!(percent_ppm("0.05 %"), Ok(500));
        for text in ["1", "%", "x%", "-1%", "101%", "NaN%"] {
            assert!(percent_ppm(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_address_is_told_its_cidr_form() {
        assert!(host_address("10.0.0.50").unwrap_err().contains("\"10.0.0.50/32\""));
        assert!(host_address("fd00::50").unwrap_err().contains("\"fd00::50/128\""));
    }

    #[test]
    fn an_address_that_no_single_host_has_is_refused_with_the_reason() {
        for (text, why) in [
            ("0.0.0.0/32", "unspecified"),
            ("::/128", "unspecified"),
            ("127.0.0.1/8", "loopback"),
            ("::1/128", "loopback"),
            ("224.0.0.18/32", "multicast"),
            ("ff02::1/128", "multicast"),
            ("255.255.255.255/32", "broadcast"),
            ("10.0.0.0/24", "the network's own"),
            ("10.0.0.255/24", "the broadcast address of 10.0.0.0/24"),
            ("fd00::/64", "anycast"),
            ("::ffff:10.0.0.1/128", "write \"10.0.0.1\""),
            ("0.1.2.3/32", "this network"),
            ("10.0.0.1/33", "at most /32"),
            ("10.0.0.1/0", "whole world"),
            ("10.0.0/24", "not an IP address"),
        ] {
            let error = host_address(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_ends_of_a_subnet_of_two_or_one_are_hosts() {
        for text in ["10.0.0.0/31", "10.0.0.0/32", "10.0.0.255/32", "fd00::/127", "fd00::/128"] {
            assert!(host_address(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_netmask_has_three_spellings() {
        let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        for text in ["/24", "24", "255.255.255.0", " /24 "] {
            assert_eq!(prefix_len(v4, text), Ok(24), "{text}");
        }
        for text in ["/32", "32", "ffff:ffff::"] {
            assert_eq!(prefix_len(v6, text), Ok(32), "{text}");
        }
        for text in ["", "/", "33", "-1", "255.0.255.0", "ffff::", "24/"] {
            assert!(prefix_len(v4, text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_interface_may_have_a_name_of_127_bytes() {
        for name in ["lo", "eth0.100", "enx00163e5a6b7c-of-the-storage-network", &"x".repeat(127)] {
            assert_eq!(interface(name).as_deref(), Ok(name));
        }
        for name in ["", ".", "..", "a/b", "a b", "eth0:1", &"x".repeat(128)] {
            assert!(interface(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_typing_error_is_recognised() {
        assert_eq!(nearest("adress", ["address", "addresses", "name"]), Some("address"));
        assert_eq!(nearest("LEASE", ["lease", "log"]), Some("lease"));
        assert_eq!(nearest("colour", ["lease", "log"]), None);
    }
}
