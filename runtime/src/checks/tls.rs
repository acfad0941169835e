//! Whom a check over https trusts, and what it shows of itself. The files are read again for each attempt.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsFiles {
    /// Whom to trust; the system's authorities when absent.
    pub ca: Option<PathBuf>,
    /// The own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What was made of the files.
#[derive(Default)]
pub(super) struct Tls {
    files: TlsFiles,
    made: Mutex<Option<(Contents, Arc<ClientConfig>)>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Contents {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

/// What is made of the same files is the same.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Tls {
    pub(super) fn new(files: TlsFiles) -> Self {
        Tls { files, made: Mutex::default() }
    }

    /// What is to be used now.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let contents = Contents {
            ca: self.files.ca.as_deref().map(read).transpose()?,
            client: match &self.files.client {
                Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
                None => None,
            },
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = &*made
            && *of == contents
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(make(&contents, &self.files)?);
        *made = Some((contents, Arc::clone(&config)));
        Ok(config)
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn make(contents: &Contents, files: &TlsFiles) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match (&contents.ca, &files.ca) {
        (Some(pem), Some(file)) => {
            roots.add_parsable_certificates(chain(pem, file)?);
            if roots.is_empty() {
                return Err(format!("{} holds no authority's certificate", file.display()));
            }
        }
        _ => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("this system has no certificate authorities (ca-certificates): name yours as ca".into());
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match (&contents.client, &files.client) {
        (Some((certificate, key)), Some((certificate_file, key_file))) => {
            let certificates = chain(certificate, certificate_file)?;
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|error| format!("{}: no private key: {error}", key_file.display()))?;
            let files = || format!("{} and {}", certificate_file.display(), key_file.display());
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| format!("{} are of no use together: {error}", files()))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn chain(pem: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{} holds no certificate", file.display())),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}
