//! How this host is going to hear the others past etcd (rule 10): the socket, and the address by which
//! the others reach it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turnip::config::{Config, Listen, Reach};
use turnip::etcd::Etcd;
use turnip::peers::{PORT_DEFAULT, Socket, source_towards};
use turnip_core::HeartbeatConfig;
use turnip_core::lease::WITHOUT_STORE;

use super::membership;

/// Binds the socket; none where heartbeats are off, or where another program has the port. Any user may have
/// taken that: it is no reason not to run.
///
/// # Errors
/// When the socket that the configuration names cannot be had at all.
pub fn bind(listen: Listen) -> Result<Option<Socket>, String> {
    let (bound, asked_for) = match listen {
        Listen::Off => return Ok(None),
        Listen::At(address) => (Socket::bind(address), format!("peers.listen = \"{address}\"")),
        Listen::Default => (Socket::bind_all(PORT_DEFAULT), format!("UDP port {PORT_DEFAULT}")),
    };
    let error = match bound {
        Ok(socket) => return Ok(Some(socket)),
        Err(error) => error,
    };
    if matches!(listen, Listen::At(_)) && error.kind() != ErrorKind::AddrInUse {
        return Err(format!("cannot receive heartbeats at {asked_for}: {error}"));
    }
    tracing::error!(
        "cannot receive heartbeats at {asked_for}, so addresses do not outlive etcd: {error}; choose another port by peers.listen, or write listen = \"off\" there"
    );
    Ok(None)
}

/// What the node is told of it.
///
/// # Errors
/// When there is no randomness.
pub fn node_config(address: SocketAddr) -> Result<HeartbeatConfig, String> {
    let fresh_key = fresh_key()?;
    Ok(HeartbeatConfig { address, fresh_key, without_store: WITHOUT_STORE })
}

/// 256 random bits in hexadecimal.
///
/// # Errors
/// When there is no randomness.
pub fn fresh_key() -> Result<String, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
    let mut hex = String::new();
    bytes.iter().for_each(|byte| write!(hex, "{byte:02x}").expect("a text takes it"));
    Ok(hex)
}

/// Where the others send heartbeats to, and from what that was concluded.
///
/// # Errors
/// When there is no address that they could reach.
pub async fn address(
    config: &Config,
    socket: &Socket,
    etcd: &Etcd,
    timeout: Duration,
) -> Result<(SocketAddr, &'static str), String> {
    if let Some(address) = config.peers.address {
        return Ok((address, "peers.address"));
    }
    let usable = |ip: &IpAddr| is_usable(*ip, config, socket);
    let port = socket.local().port();
    let found = |ip, why| Ok((SocketAddr::new(ip, port), why));
    if !socket.local().ip().is_unspecified() {
        return found(socket.local().ip(), "peers.listen");
    }
    if let Some(ip) = config.member_ip.filter(usable) {
        return found(ip, "TURNIP_ID");
    }
    let of_member = membership::peer_addresses(etcd, &config.reach, timeout).await;
    if let Some(ip) = of_member.unwrap_or_default().into_iter().find(usable) {
        return found(ip, "the peer URL of the etcd member on this host");
    }
    let towards = towards_etcd(&config.reach, etcd, timeout).await;
    match towards.into_iter().find(usable) {
        Some(ip) => found(ip, "the route to etcd"),
        None => Err("no address of this host is known by which others reach it".into()),
    }
}

/// The addresses of this host by which others reach it, as far as is known, VIPs or not.
pub async fn reached_at(config: &Config, etcd: &Etcd, timeout: Duration) -> BTreeSet<IpAddr> {
    let of_member = membership::peer_addresses(etcd, &config.reach, timeout).await;
    let mut reached: BTreeSet<IpAddr> = of_member.unwrap_or_default().into_iter().collect();
    reached.extend(config.member_ip);
    reached.extend(config.peers.address.map(|address| address.ip()));
    reached.extend(towards_etcd(&config.reach, etcd, timeout).await);
    reached
}

/// Whether others can reach this host by it, and it stays.
fn is_usable(ip: IpAddr, config: &Config, socket: &Socket) -> bool {
    let is_vip = |vip: IpAddr| vip == ip;
    socket.speaks(ip)
        && !ip.is_loopback()
        && !ip.is_unspecified()
        && !config.vips.iter().any(|vip| vip.config.ips().any(is_vip))
}

/// The addresses from which packets go to etcd's endpoints, in the endpoints' order.
async fn towards_etcd(reach: &Reach, etcd: &Etcd, timeout: Duration) -> Vec<IpAddr> {
    let mut sources = Vec::new();
    for endpoint in &reach.etcd.endpoints {
        let lookup = tokio::time::timeout(timeout, etcd.addresses(endpoint));
        let Ok(Ok(found)) = lookup.await else { continue };
        let to_any_port = |remote| source_towards(SocketAddr::new(remote, 2379)).ok();
        sources.extend(found.into_iter().filter_map(to_any_port));
    }
    sources
}
