//! What a member's own metrics say: to which size its database may grow, which no other answer of etcd before
//! 3.6 does.
//!
//! They are read line by line, and nothing of them is kept: they are some 100 KiB.

use std::io;
use std::pin::Pin;

use futures::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tonic::codegen::{Body, Service, http};
use turnip_core::StoreError;

use super::Etcd;
use super::dial::Way;

const QUOTA: &str = "etcd_server_quota_backend_bytes";
/// More than all metrics of etcd have.
const BYTES_MAX: usize = 4 << 20;
/// Longer lines are none that is looked for.
const LINE_MAX: usize = 1 << 10;

impl Etcd {
    /// The quota of the database of the member at `url`, one of the configured endpoints; none when it has no
    /// limit.
    ///
    /// # Errors
    /// When it does not say by `deadline`.
    pub async fn quota(&self, url: &str, deadline: Instant) -> Result<Option<u64>, StoreError> {
        let endpoint = self.configured(url)?;
        let mut gauge = Gauge::named(QUOTA);
        let read = async {
            match url.split_once("://") {
                Some(("http", authority)) => {
                    // By the names that are kept: a resolver may be dead when it matters.
                    let stream = endpoint.dial().await.map_err(io::Error::other)?;
                    over_http_1(stream, authority, &mut gauge).await
                }
                _ => {
                    let channel = endpoint.channel(deadline).await.map_err(io::Error::other)?;
                    over_http_2(channel, url, &mut gauge).await
                }
            }
        };
        let late = |_| StoreError::Unavailable(format!("{url}: no metrics in time"));
        timeout_at(deadline, read).await.map_err(late)?.map_err(|error| {
            StoreError::Unavailable(format!("{url}: its metrics cannot be read: {error}"))
        })?;
        let value = gauge.value.ok_or_else(|| {
            StoreError::Unavailable(format!("{url}: its metrics do not name {QUOTA}"))
        })?;
        Ok((value >= 1.0).then_some(value as u64))
    }
}

/// Without TLS etcd takes HTTP/2 for gRPC, whatever is asked.
async fn over_http_1(
    mut stream: Box<dyn Way>,
    authority: &str,
    gauge: &mut Gauge,
) -> io::Result<()> {
    // Of HTTP/1.0 the answer comes in one piece, and ends with the connection.
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = [0; 8 << 10];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length if gauge.take(&buffer[..length]) => return Ok(()),
            _ => {}
        }
    }
}

/// With TLS it looks at what is asked, over one connection for all.
async fn over_http_2(
    mut channel: tonic::transport::Channel,
    url: &str,
    gauge: &mut Gauge,
) -> io::Result<()> {
    let request = http::Request::get(format!("{url}/metrics"));
    let request = request.body(tonic::body::Body::empty()).map_err(io::Error::other)?;
    poll_fn(|context| channel.poll_ready(context)).await.map_err(io::Error::other)?;
    let mut body = channel.call(request).await.map_err(io::Error::other)?.into_body();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(io::Error::other)?;
        if frame.data_ref().is_some_and(|data| gauge.take(data)) {
            break;
        }
    }
    Ok(())
}

/// Looks for one gauge without labels in the text format of Prometheus, which comes in pieces.
struct Gauge {
    name: &'static str,
    line: Vec<u8>,
    taken: usize,
    value: Option<f64>,
}

impl Gauge {
    fn named(name: &'static str) -> Self {
        Gauge { name, line: Vec::new(), taken: 0, value: None }
    }

    /// Whether nothing more is needed, or all too much came.
    fn take(&mut self, piece: &[u8]) -> bool {
        self.taken += piece.len();
        for byte in piece {
            if *byte != b'\n' {
                if self.line.len() < LINE_MAX {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = std::str::from_utf8(&self.line).unwrap_or_default();
            let value = line.strip_prefix(self.name).and_then(|rest| rest.strip_prefix(' '));
            self.value = value.and_then(|value| value.trim().parse().ok());
            self.line.clear();
            if self.value.is_some() {
                return true;
            }
        }
        self.taken > BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_found_wherever_the_pieces_end() {
        let text = b"# HELP etcd_server_quota_backend_bytes Current backend storage quota size.\n\
            etcd_server_quota_backend_bytes_of_another 7\n\
            etcd_server_quota_backend_bytes 2.147483648e+09\nmore 1\n";
        for piece in 1..text.len() {
            let mut gauge = Gauge::named(QUOTA);
            let found = text.chunks(piece).any(|piece| gauge.take(piece));
            assert!(found);
            assert_eq!(gauge.value, Some(2_147_483_648.0), "pieces of {piece}");
        }
    }

    #[test]
    fn nobody_is_listened_to_for_ever() {
        let mut gauge = Gauge::named(QUOTA);
        let pieces = std::iter::repeat([b'x'; 4096]).take_while(|piece| !gauge.take(piece));
        assert!(pieces.count() <= BYTES_MAX / 4096);
        assert!(gauge.line.capacity() <= 2 * LINE_MAX);
    }
}
