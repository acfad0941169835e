//! The key `metrics`: where Prometheus finds this daemon.

use std::net::SocketAddr;

use super::problem::Collector;
use super::section::{Given, Section};
use super::values;
use super::vips::Vip;

const RIGHT: &str = "write an address of this host with a port, as in \"127.0.0.1:9464\"";

/// Reads it; the outer one is absent when something is wrong, the inner one when nobody is to look.
pub(super) fn read(
    top: &mut Section,
    vips: &[Vip],
    problems: &mut Collector,
) -> Option<Option<SocketAddr>> {
    let Some(given) = top.take("metrics") else { return Some(None) };
    match address(&given, vips) {
        Ok(address) => Some(Some(address)),
        Err(what) => {
            top.refuse("metrics", &given, what, problems);
            None
        }
    }
}

fn address(given: &Given, vips: &[Vip]) -> Result<SocketAddr, String> {
    let text = given.as_text()?.trim();
    let address: SocketAddr = text.parse().map_err(|_| match values::ip(text) {
        Ok(ip) => {
            format!("an address without a port; write \"{}\"", SocketAddr::new(ip, 9464))
        }
        Err(_) => format!("not an address with a port; {RIGHT}"),
    })?;
    if address.port() == 0 {
        return Err(format!("without a port; {RIGHT}"));
    }
    let is_its = |vip: &&Vip| vip.config.ips().any(|ip| ip == address.ip());
    match vips.iter().find(is_its) {
        Some(vip) => Err(format!(
            "an address of the VIP {}, which moves; write one that stays on this host",
            vip.config.name
        )),
        None => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::Place;
    use super::*;

    #[test]
    fn it_is_an_address_with_a_port() {
        let parsed = |text: &str| address(&Given::text(Place::Default, text.into()), &[]);
        for text in ["127.0.0.1:9464", "[::1]:9464", "0.0.0.0:1", "[::]:9464"] {
            assert_eq!(parsed(text), Ok(text.parse().unwrap()), "{text}");
        }
        for (text, right) in [
            ("127.0.0.1", "write \"127.0.0.1:9464\""),
            ("fd00::1", "write \"[fd00::1]:9464\""),
            ("localhost:9464", "\"127.0.0.1:9464\""),
            ("9464", "\"127.0.0.1:9464\""),
            ("127.0.0.1:0", "without a port"),
            ("127.0.0.1:99999", "\"127.0.0.1:9464\""),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(right), "{text}: {error}");
        }
    }
}
