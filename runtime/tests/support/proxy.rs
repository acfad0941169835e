//! A way to a member on which packets can be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PASS: u8 = 0;
const SWALLOW: u8 = 1;
const CUT_ANSWERS: u8 = 2;

/// Passes bytes on between its own port and a member's, until another mode is set.
pub struct Proxy {
    port: u16,
    mode: Arc<AtomicU8>,
    accepted: Arc<AtomicUsize>,
}

impl Proxy {
    /// A way to `port` on loopback.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy {
            port: listener.local_addr().unwrap().port(),
            mode: Arc::default(),
            accepted: Arc::default(),
        };
        let (mode, accepted) = (proxy.mode.clone(), proxy.accepted.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                let mode = mode.clone();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) =
                        (near.into_split(), far.into_split());
                    tokio::spawn(pass(near_in, far_out, mode.clone(), false));
                    pass(far_in, near_out, mode, true).await;
                });
            }
        });
        proxy
    }

    /// Where clients come in.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on nothing gets through, and neither end notices. What is swallowed is lost: a
    /// connection that was there then is never good again.
    pub fn swallow(&self) {
        self.mode.store(SWALLOW, Ordering::Relaxed);
    }

    /// From now on requests get through, and connections break instead of bringing the answer.
    pub fn cut_answers(&self) {
        self.mode.store(CUT_ANSWERS, Ordering::Relaxed);
    }

    /// From now on new connections work.
    pub fn heal(&self) {
        self.mode.store(PASS, Ordering::Relaxed);
    }

    /// How many connections have been made.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mode: Arc<AtomicU8>,
    answers: bool,
) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        match mode.load(Ordering::Relaxed) {
            // Keeps both ends open: neither notices.
            SWALLOW => loop {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            },
            CUT_ANSWERS if answers => return,
            _ => {}
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
