//! HTTP, on a thread of its own: whoever asks slowly, or often, holds up nothing but other askers.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::page::Page;

/// So many are answered at once; others wait in the kernel.
const CONNECTIONS_MAX: usize = 8;
/// Whoever takes longer to ask and to read is hung up on.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(5);
/// How long until an address is tried again that is not to be had.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A request is a line and some headers.
const BUFFER_MAX: usize = 8 * 1024;

/// Serves the pages, for ever.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(address: SocketAddr, page: Page) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || runtime.block_on(serve(address, &page));
    std::thread::Builder::new().name("metrics".into()).spawn(serve)?;
    Ok(())
}

async fn serve(address: SocketAddr, page: &Page) {
    let listener = listen(address).await;
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => connections.push(connection(stream, page)),
                // Too many open files: not at once again.
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            },
            Some(()) = connections.next() => {}
        }
    }
}

/// A daemon that keeps addresses does not end because nobody can look at it.
async fn listen(address: SocketAddr) -> TcpListener {
    let mut said = String::new();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!("metrics are at http://{address}/metrics");
                return listener;
            }
            Err(error) => {
                let why = error.to_string();
                if said != why {
                    tracing::error!("no metrics, until metrics = \"{address}\" can be had: {why}");
                    said = why;
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, page: &Page) {
    let service = service_fn(move |request: Request<Incoming>| async move {
        Ok::<_, Infallible>(page.answer(request.method(), request.uri().path()).await)
    });
    let mut server = http1::Builder::new();
    // One answer each, so that idle connections take nobody's place.
    server.keep_alive(false).max_buf_size(BUFFER_MAX);
    let served = server.serve_connection(TokioIo::new(stream), service);
    // Who hangs up in between has no answer.
    let _ = tokio::time::timeout(CONNECTION_TIME_MAX, served).await;
}
