//! How to reach etcd.

use std::fmt;
use std::path::PathBuf;

/// Where etcd is and how to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdSettings {
    /// `http://host:port` or `https://host:port`; at least one.
    pub endpoints: Vec<String>,
    /// The endpoint of the member on this very host, where there is one: the one that is asked
    /// whether it is the raft leader.
    pub local: Option<String>,
    /// For `https://` endpoints.
    pub tls: TlsSettings,
    /// User name and password.
    pub user: Option<(String, Secret)>,
}

/// Certificates, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// The authorities to trust; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate and key, for mutual TLS.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must bear, when it is not the endpoint's host.
    pub server_name: Option<String>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: String) -> Self {
        Secret(text)
    }

    /// The text itself: for the server only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
