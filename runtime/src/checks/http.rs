//! A request that is to be answered as it should be; by hyper.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;

use ::http::Uri;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::tls::{Tls, TlsFiles};
use super::{Alive, net};

/// So much of a body is looked at.
const BODY_MAX: usize = 64 << 10;

/// What is asked for, and what is to come back.
#[derive(PartialEq)]
pub struct Http {
    /// What is asked for.
    url: Uri,
    /// The server is reached by this socket, and not by the URL's host.
    unix: Option<PathBuf>,
    /// What the request calls the server, and what its certificate is to name.
    host: Option<String>,
    /// The status that is to come; any from 200 to 299 when absent.
    status: Option<u16>,
    /// What the body is to contain.
    body: Option<String>,
    tls: Tls,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Http({})", self.url)
    }
}

/// A connection of whatever kind.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Http {
    /// A request for `url`, to be answered by any status from 200 to 299.
    ///
    /// # Errors
    /// When it is no URL of a server that speaks HTTP.
    pub fn new(url: &str, files: TlsFiles) -> Result<Self, String> {
        let wrong = "not a URL; write it as in \"http://127.0.0.1:8080/health\"";
        let url: Uri = url.parse().map_err(|_| wrong.to_owned())?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(wrong.into());
        }
        if files != TlsFiles::default() && url.scheme_str() != Some("https") {
            return Err("certificates are of no use with http://; write https://".into());
        }
        let (unix, host, status, body) = (None, None, None, None);
        Ok(Http { url, unix, host, status, body, tls: Tls::new(files) })
    }

    /// The same by way of a socket of the file system.
    #[must_use]
    pub fn by_socket(self, unix: Option<PathBuf>) -> Self {
        Http { unix, ..self }
    }

    /// The same to a server that has another name than the URL says.
    #[must_use]
    pub fn called(self, host: Option<String>) -> Self {
        Http { host, ..self }
    }

    /// The same, with what is to come back.
    #[must_use]
    pub fn answered_by(self, status: Option<u16>, body: Option<String>) -> Self {
        Http { status, body, ..self }
    }

    pub(super) async fn attempt(&self, alive: &Alive) -> Result<(), String> {
        let stream = self.connect(alive).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        // A password in a URL is no part of a server's name.
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let request = Request::get(self.url.path_and_query().map_or("/", |path| path.as_str()))
            .header("host", self.host.as_deref().unwrap_or(authority))
            .header("user-agent", concat!("turnip/", env!("CARGO_PKG_VERSION")))
            .header("connection", "close")
            .body(String::new())
            .map_err(|error| error.to_string())?;
        let asked = async {
            let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
            let status = response.status();
            let is_right = match self.status {
                Some(wanted) => status.as_u16() == wanted,
                None => status.is_success(),
            };
            match (is_right, &self.body) {
                (false, _) => Err(format!("{} answers {status}", self.url.path())),
                (true, None) => Ok(()),
                (true, Some(text)) => contains(response.into_body(), text).await,
            }
        };
        // The connection is driven beside, and ends with the attempt.
        tokio::select! {
            result = asked => result,
            Err(error) = connection => Err(chain(&error)),
        }
    }

    async fn connect(&self, alive: &Alive) -> Result<Box<dyn Connection>, String> {
        let is_tls = self.url.scheme_str() == Some("https");
        let host = self.url.host().unwrap_or_default();
        let stream: Box<dyn Connection> = match &self.unix {
            Some(path) => Box::new(
                UnixStream::connect(path)
                    .await
                    .map_err(|error| format!("{}: {error}", path.display()))?,
            ),
            None => {
                let port = self.url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
                Box::new(net::connect(host, port, alive).await?)
            }
        };
        if !is_tls {
            return Ok(stream);
        }
        let called = self.host.as_deref().unwrap_or(host);
        // Without a port, and an address without brackets.
        let called = match called.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() && !name.contains(':') => name,
            _ => called.trim_start_matches('[').trim_end_matches(']'),
        };
        let name = ServerName::try_from(called.to_owned())
            .map_err(|_| format!("{called} is no name of a server"))?;
        let connector = TlsConnector::from(self.tls.config()?);
        let stream = connector.connect(name, stream).await.map_err(|error| chain(&error))?;
        Ok(Box::new(stream))
    }
}

/// Whether the beginning of a body has that text.
async fn contains(mut body: Incoming, text: &str) -> Result<(), String> {
    let mut read: Vec<u8> = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| chain(&error))?;
        if let Ok(data) = frame.into_data() {
            let room = BODY_MAX - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
        }
        if read.windows(text.len().max(1)).any(|window| window == text.as_bytes()) {
            return Ok(());
        }
        if read.len() >= BODY_MAX {
            break;
        }
    }
    Err(format!("the first {} bytes of the answer do not contain {text:?}", read.len()))
}

/// An error with what caused it: the outermost alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text += ": ";
            text += &inner;
        }
        cause = error.source();
    }
    text
}
