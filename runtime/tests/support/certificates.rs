//! Certificates in a temporary directory, and the settings of a client that has them.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use turnip::etcd::TlsSettings;
use turnip_netns_tests::certificates;

/// PEM files in a temporary directory.
pub struct Certificates {
    files: certificates::Certificates,
    _directory: TempDir,
    /// Whether servers want a certificate of their clients.
    mutual: bool,
}

impl Certificates {
    /// For servers on loopback that accept every client.
    pub fn of_server() -> Self {
        Self::make(false, "127.0.0.1")
    }

    /// For servers on loopback that accept clients with a certificate.
    pub fn mutual() -> Self {
        Self::make(true, "127.0.0.1")
    }

    /// For servers whose certificate bears another name than the one by which they are reached.
    pub fn of_server_named(name: &str) -> Self {
        Self::make(false, name)
    }

    fn make(mutual: bool, server_name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let names = vec![server_name.to_owned()];
        let files = certificates::Certificates::create(directory.path(), names).unwrap();
        Certificates { files, _directory: directory, mutual }
    }

    /// One of `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.file(name)
    }

    /// The directory that all of them are in.
    pub fn directory(&self) -> &Path {
        self.files.directory()
    }

    /// etcd's arguments for a server with them.
    pub fn etcd_arguments(&self) -> Vec<String> {
        self.files.etcd_arguments(self.mutual)
    }

    /// What a client has that the servers accept.
    pub fn client_settings(&self) -> TlsSettings {
        TlsSettings {
            ca_file: Some(self.file("ca.pem")),
            client: self.mutual.then(|| (self.file("client.pem"), self.file("client.key"))),
            server_name: None,
        }
    }
}
