//! An authority, a server's certificate and a client's, made on the spot.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tempfile::TempDir;
use turnip::etcd::TlsSettings;

/// PEM files in a temporary directory.
pub struct Certificates {
    directory: TempDir,
    /// Whether servers want a certificate of their clients.
    mutual: bool,
}

impl Certificates {
    /// For servers on loopback that let in every client.
    pub fn of_server() -> Self {
        Self::make(false, "127.0.0.1")
    }

    /// For servers on loopback that let in clients with a certificate.
    pub fn mutual() -> Self {
        Self::make(true, "127.0.0.1")
    }

    /// For servers whose certificate bears another name than the one by which they are reached.
    pub fn of_server_named(name: &str) -> Self {
        Self::make(false, name)
    }

    fn make(mutual: bool, server_name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(directory.path().join(name), text).unwrap();
        };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "turnip's test authority");
        write("ca.pem", params.self_signed(&key).unwrap().pem());
        let authority = Issuer::new(params, key);

        // etcd's own gateway comes with the server's certificate, as a client.
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        for (name, host, usages) in
            [("server", server_name, &both[..]), ("client", "a client", &both[1..])]
        {
            let key = KeyPair::generate().unwrap();
            let hosts = if name == "server" { vec![host.to_owned()] } else { Vec::new() };
            let mut params = CertificateParams::new(hosts).unwrap();
            params.distinguished_name.push(DnType::CommonName, host);
            params.extended_key_usages = usages.to_vec();
            write(&format!("{name}.pem"), params.signed_by(&key, &authority).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Certificates { directory, mutual }
    }

    /// One of `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory that all of them are in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What etcd is told of them.
    pub fn server_flags(&self) -> Vec<String> {
        let path = |name| self.file(name).display().to_string();
        let mut flags = vec![
            format!("--cert-file={}", path("server.pem")),
            format!("--key-file={}", path("server.key")),
        ];
        if self.mutual {
            flags.push(format!("--trusted-ca-file={}", path("ca.pem")));
            flags.push("--client-cert-auth".to_owned());
        }
        flags
    }

    /// What a client that is let in has.
    pub fn client_settings(&self) -> TlsSettings {
        TlsSettings {
            ca_file: Some(self.file("ca.pem")),
            client: self.mutual.then(|| (self.file("client.pem"), self.file("client.key"))),
            server_name: None,
        }
    }
}
