//! How to reach etcd.

use std::fmt;
use std::path::{Path, PathBuf};

use etcd_client::{Certificate, Identity, TlsOptions};

/// Where etcd is and how to log in.
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

impl TlsSettings {
    /// Reads the files, as they are now.
    pub(super) fn load(&self) -> Result<TlsOptions, SettingsError> {
        let mut options = match &self.ca_file {
            Some(file) => TlsOptions::new().ca_certificate(Certificate::from_pem(read(file)?)),
            None => TlsOptions::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.client {
            options = options.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(name) = &self.server_name {
            options = options.domain_name(name);
        }
        Ok(options)
    }
}

fn read(file: &Path) -> Result<Vec<u8>, SettingsError> {
    let text = std::fs::read(file)
        .map_err(|error| SettingsError(format!("cannot read {}: {error}", file.display())))?;
    if text.windows(11).any(|window| window == b"-----BEGIN ") {
        Ok(text)
    } else {
        Err(SettingsError(format!("{} holds nothing in PEM format", file.display())))
    }
}

/// Why etcd cannot even be asked: a value, and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingsError(pub(super) String);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

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
