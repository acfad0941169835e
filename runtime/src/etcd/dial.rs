//! Making a connection: the name's addresses, TCP, then TLS.
//!
//! All of it is done here, and not by tonic, for three reasons: what the resolver said is kept, the files are
//! read anew each time, and the certificate that the server shows is seen.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::certificates::Certificate;
use super::names::Names;
use super::trust::{ALPN_H2, Trust};

/// A connection, encrypted or not.
pub(super) trait Way: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Way for T {}

/// Makes connections to one endpoint. Clones share what is known of it.
#[derive(Clone)]
pub(super) struct Dial {
    names: Names,
    host: String,
    tls: Option<(Arc<Trust>, ServerName<'static>)>,
    timeout: Duration,
    /// What the server showed last.
    shown: Arc<Mutex<Vec<Certificate>>>,
}

impl Dial {
    /// To this host. By TLS where there is somebody to trust.
    ///
    /// # Errors
    /// When a certificate cannot bear the host's name.
    pub(super) fn new(
        names: Names,
        host: &str,
        trust: Option<Arc<Trust>>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match trust {
            Some(trust) => {
                let expected = trust.settings().server_name.as_deref().unwrap_or(&host);
                let name = ServerName::try_from(expected.to_owned())
                    .map_err(|error| format!("{expected} is no name of a server: {error}"))?;
                Some((trust, name))
            }
            None => None,
        };
        Ok(Dial { names, host, tls, timeout, shown: Arc::default() })
    }

    /// The certificates that the server showed last.
    pub(super) fn shown(&self) -> Vec<Certificate> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why a connection is not there yet.
    pub(super) fn waits_for(&self) -> String {
        let is_address = self.host.parse::<std::net::IpAddr>().is_ok();
        if !is_address
            && self.names.last(&self.host).is_none()
            && self.names.is_being_asked(&self.host)
        {
            let host = &self.host;
            return format!(
                "the resolver has not answered for {host}, whose addresses are not known from before: no connection"
            );
        }
        "no connection".into()
    }

    /// The addresses that the endpoint has, as far as they are known.
    pub(super) fn known_addresses(&self) -> Vec<std::net::IpAddr> {
        match self.host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.names.last(&self.host).unwrap_or_default(),
        }
    }

    /// The addresses that the endpoint has now.
    pub(super) async fn addresses(&self) -> Result<Vec<std::net::IpAddr>, String> {
        match self.host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.names.addresses(&self.host).await.map_err(|error| error.to_string()),
        }
    }

    /// Makes a connection.
    pub(super) async fn connect(self, uri: Uri) -> Result<Box<dyn Way>, tower::BoxError> {
        let mut tcp = HttpConnector::new_with_resolver(self.names.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.timeout));
        let connected = tower::Service::call(&mut tcp, uri).await?.into_inner();
        let Some((trust, name)) = &self.tls else {
            self.names.note_good(&self.host);
            return Ok(Box::new(connected));
        };
        let tls = TlsConnector::from(trust.config()).connect(name.clone(), connected).await?;
        let (_, session) = tls.get_ref();
        let chain = session.peer_certificates().unwrap_or_default().iter();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) =
            chain.filter_map(|der| Certificate::parse(der)).collect();
        if session.alpn_protocol() != Some(ALPN_H2) {
            return Err(io::Error::other("the server does not speak HTTP/2: is it etcd?").into());
        }
        self.names.note_good(&self.host);
        Ok(Box::new(tls))
    }
}

/// A connector for tonic, which begins with it again when a connection breaks.
impl tower::Service<Uri> for Dial {
    type Response = TokioIo<Box<dyn Way>>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, tower::BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { Ok(TokioIo::new(dial.connect(uri).await?)) }) as Pin<Box<_>>
    }
}
