//! How to reach etcd.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A file with a secret is shorter than this: a wrong path to something endless is an error too.
const SECRET_BYTES_MAX: u64 = 1 << 20;

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
pub struct Secret {
    text: String,
    file: Option<PathBuf>,
}

impl Secret {
    /// Hides `text`.
    pub fn new(text: String) -> Self {
        Secret { text, file: None }
    }

    /// Reads it from a file, without the end of the line. It is read again each time that it is used.
    ///
    /// # Errors
    /// When the file cannot be read, or is empty, in words that follow the file's name.
    pub fn read(file: &Path) -> Result<Self, String> {
        let mut bytes = Vec::new();
        File::open(file)
            .and_then(|open| open.take(SECRET_BYTES_MAX).read_to_end(&mut bytes))
            .map_err(|error| format!("a file that cannot be read: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| "a file that is not text".to_owned())?;
        if text.trim_end().is_empty() {
            return Err("an empty file".into());
        }
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        Ok(Secret { text, file: Some(file.to_owned()) })
    }

    /// What the file holds now; the same when it came from none.
    pub(super) fn read_again(&self) -> Result<Self, String> {
        match &self.file {
            None => Ok(self.clone()),
            Some(file) => Secret::read(file).map_err(|why| format!("{}: {why}", file.display())),
        }
    }

    /// The file that it came from.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The text itself: for the server only.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
