//! Connections, and calls of the system that cannot be given up.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::net::TcpStream;

use super::Alive;

/// Carries out what may take for ever, on a thread of its own. Who has given it up begins nothing of the kind
/// anew before it has ended.
pub(super) async fn blocking<T: Send + 'static>(
    alive: &Alive,
    call: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let alive = Arc::clone(alive);
    let task = tokio::task::spawn_blocking(move || {
        let result = call();
        drop(alive);
        result
    });
    task.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// A connection to one of the addresses of a name, or to an address.
pub(super) async fn connect(host: &str, port: u16, alive: &Alive) -> Result<TcpStream, String> {
    let mut failure = format!("{host} has no address");
    for address in addresses(host, port, alive).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = format!("{address}: {error}"),
        }
    }
    Err(failure)
}

async fn addresses(host: &str, port: u16, alive: &Alive) -> Result<Vec<SocketAddr>, String> {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    blocking(alive, move || {
        let found = (host.as_str(), port).to_socket_addrs();
        found.map(Iterator::collect).map_err(|error| format!("{host}: {error}"))
    })
    .await
}
