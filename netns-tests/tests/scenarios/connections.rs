//! Connections through an address that moves.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::TurnipSettings;
use turnip_netns_tests::plan::{Plan, vip};

use crate::with_settings;

const PORT: u16 = 7070;

/// A connection of the client to the holder through the VIP, and a UDP socket of the holder that is
/// bound to the VIP and connected to the client.
struct Connections {
    listener: TcpListener,
    server: TcpStream,
    client: TcpStream,
    datagrams: UdpSocket,
}

impl Connections {
    fn make(cluster: &Cluster, holder: usize, address: SocketAddr) -> Result<Self> {
        let namespace = cluster.host(holder).namespace();
        let to = cluster.network().client_addresses()?;
        let to = to.into_iter().find(|ip| ip.is_ipv4() == address.is_ipv4());
        let to = SocketAddr::new(to.expect("the client has both families"), PORT);
        let (listener, datagrams) = namespace.run(|| {
            let datagrams = UdpSocket::bind(address)?;
            datagrams.connect(to)?;
            Ok((TcpListener::bind(address)?, datagrams))
        })?;
        let client = cluster.client().run(|| Ok(TcpStream::connect(address)?))?;
        let (server, _) = listener.accept()?;
        for stream in [&server, &client] {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        }
        datagrams.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(Connections { listener, server, client, datagrams })
    }

    /// Of the holder's TCP connection, and of its UDP socket: whether each has been ended.
    fn are_ended(&mut self) -> Result<[bool; 2]> {
        let is_ended = |result: std::io::Result<usize>| match result {
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            other => anyhow::bail!("{other:?}"),
        };
        let tcp = is_ended(self.server.read(&mut [0; 8]))?;
        Ok([tcp, is_ended(self.datagrams.recv(&mut [0; 8]))?])
    }
}

/// A VIP of one family, so that each has its scenario.
fn with_address(address: &str, keep: bool) -> Plan {
    let vip_lines = if keep { vec!["keep_connections = true".into()] } else { Vec::new() };
    let settings = TurnipSettings { vip_lines, ..TurnipSettings::default() };
    Plan { vips: vec![vip("api", &[address])], ..with_settings(settings) }
}

fn connections_end(address: &str) -> Result<()> {
    let mut cluster = Cluster::start(with_address(address, false))?;
    let owner = cluster.wait_for_owner()?;
    let at = SocketAddr::new(cluster.address(), PORT);
    let mut connections = Connections::make(&cluster, owner, at)?;
    let from = cluster.note("somebody takes the address away, and turnip puts it back");
    cluster.host(owner).namespace().remove_address(at.ip())?;
    cluster.wait("it is back", || Ok(cluster.holders()? == [owner]))?;
    ensure!(connections.are_ended()? == [false; 2], "a repair ended them: {}", cluster.logs());
    cluster.note("the address moves");
    cluster.pin("api", (owner + 1) % 3)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    ensure!(connections.are_ended()? == [true; 2], "{}", cluster.logs());
    cluster.note("it comes back");
    cluster.pin("api", owner)?;
    cluster.wait_for_owner_among(|host| host == owner)?;
    // Who listened at it still does.
    let client = cluster.client().run(|| Ok(TcpStream::connect(at)?))?;
    let (server, _) = connections.listener.accept()?;
    drop((client, server));
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn connections_through_an_address_end_when_it_moves_and_not_when_it_is_put_back() -> Result<()> {
    connections_end("10.77.0.100/24")
}

#[test]
fn connections_through_an_ipv6_address_end_when_it_moves_and_not_when_it_is_put_back() -> Result<()>
{
    connections_end("fd77::100/64")
}

#[test]
fn connections_end_at_an_orderly_stop_too() -> Result<()> {
    let mut cluster = Cluster::start(with_address("10.77.0.100/24", false))?;
    let owner = cluster.wait_for_owner()?;
    let at = SocketAddr::new(cluster.address(), PORT);
    let mut connections = Connections::make(&cluster, owner, at)?;
    let from = cluster.note("turnip stops where the address is");
    cluster.stop_daemon(owner)?;
    ensure!(connections.are_ended()? == [true; 2], "{}", cluster.logs());
    cluster.start_daemon(owner)?;
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn connections_that_are_to_be_kept_go_on_when_the_address_comes_back() -> Result<()> {
    let mut cluster = Cluster::start(with_address("10.77.0.100/24", true))?;
    let owner = cluster.wait_for_owner()?;
    let at = SocketAddr::new(cluster.address(), PORT);
    let mut connections = Connections::make(&cluster, owner, at)?;
    let from = cluster.note("the address moves, and comes back");
    cluster.pin("api", (owner + 1) % 3)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    ensure!(connections.are_ended()? == [false; 2], "{}", cluster.logs());
    cluster.pin("api", owner)?;
    cluster.wait_for_owner_among(|host| host == owner)?;
    connections.server.write_all(b"again")?;
    let mut said = [0; 5];
    connections.client.read_exact(&mut said)?;
    ensure!(&said == b"again");
    cluster.conclude(from, Outcome::moved())
}
